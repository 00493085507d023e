//! Which part of an answer a mark stands for: the sentence it ends.

use millhand_common::model::Span;
use millhand_common::text::sentence::sentences;

/// A sentence is looked for in the last bytes of the text only, so that a long answer stays cheap.
const MAX_SENTENCE_BYTES: usize = 4000;

/// The sentence that ends where `text` ends, without marks `[n]` around it; `None` when there is none.
pub(crate) fn last_sentence(text: &str) -> Option<Span> {
    let end = without_marks(text).len();
    let start = text.ceil_char_boundary(end.saturating_sub(MAX_SENTENCE_BYTES));
    let tail = text.get(start..end)?;
    let span = sentences(tail).pop()?.shifted(start);
    let mut from = span.from;
    while let Some(rest) = text[from..span.to].strip_prefix('[') {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 || !rest[digits..].starts_with(']') {
            break;
        }
        from += digits + 2;
        from += text[from..span.to].len() - text[from..span.to].trim_start().len();
    }
    (from < span.to && text[from..span.to].chars().any(char::is_alphanumeric))
        .then(|| Span::new(from, span.to))
}

/// `text` without the marks and spaces at its end.
fn without_marks(text: &str) -> &str {
    let mut text = text.trim_end();
    while let Some(rest) = text.strip_suffix(']') {
        let digits = rest.bytes().rev().take_while(u8::is_ascii_digit).count();
        match rest[..rest.len() - digits].strip_suffix('[') {
            Some(rest) if digits > 0 => text = rest.trim_end(),
            _ => break,
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_stands_for_the_sentence_it_ends() {
        let claim = |text: &str| last_sentence(text).map(|span| text[span.from..span.to].to_owned());
        assert_eq!(claim("It is old. It was built in 1786").unwrap(), "It was built in 1786");
        assert_eq!(claim("It is old. It was built in 1786.").unwrap(), "It was built in 1786.");
        assert_eq!(claim("It is old. [1] It turns. [2]").unwrap(), "It turns.");
        assert_eq!(claim("它很古老。它建于1786年。 ").unwrap(), "它建于1786年。");
        assert_eq!(claim("它很古老 [1]。它建于1786年 [2][3]").unwrap(), "它建于1786年");
        assert_eq!(claim(""), None);
        assert_eq!(claim(" [1]"), None);
    }
}
