//! What counts as a token here: near enough to real tokenizers to try limits, and easy to foretell.

/// Tokens that a message costs beside its text.
const PER_MESSAGE: u64 = 4;

/// One for every four ASCII characters, begun ones included, and one for every other character.
pub(crate) fn count(text: &str) -> u64 {
    let ascii = text.bytes().filter(u8::is_ascii).count();
    let other = text.chars().filter(|c| !c.is_ascii()).count();
    (ascii.div_ceil(4) + other) as u64
}

/// Of a whole prompt.
pub(crate) fn count_messages<'a>(texts: impl Iterator<Item = &'a str>) -> u64 {
    texts.map(|text| count(text) + PER_MESSAGE).sum()
}

/// Cuts text into the tokens that are streamed: words with the space before them, and single
/// characters of scripts that have no spaces. Together they are the text.
pub(crate) fn cut(text: &str) -> Vec<String> {
    let mut tokens: Vec<String> = Vec::new();
    let mut open = false;
    for c in text.chars() {
        let joins = c.is_ascii_alphanumeric();
        let space = tokens.last().is_some_and(|last| last.ends_with(' '));
        match tokens.last_mut() {
            Some(last) if (open && joins) || (space && c.is_ascii() && c != ' ') => last.push(c),
            _ => tokens.push(c.to_string()),
        }
        open = joins;
    }
    tokens
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_are_the_text() {
        let text = "It costs 3 crowns [[b7k2|\"three crowns\"]].  票价为三克朗。";
        let tokens = cut(text);
        assert_eq!(tokens.concat(), text);
        assert_eq!(tokens[..4], ["It", " costs", " 3", " crowns"]);
        assert_eq!(tokens.iter().rev().take(3).collect::<Vec<_>>(), ["。", "朗", "克"]);
        assert_eq!(cut(""), Vec::<String>::new());
    }

    #[test]
    fn counting_is_foreseeable() {
        assert_eq!((count(""), count("abcd"), count("abcde"), count("三克朗")), (0, 1, 2, 3));
        assert_eq!(count_messages(["abcd", ""].into_iter()), 9);
    }
}
