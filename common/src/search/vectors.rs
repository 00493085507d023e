//! Passages as an embedder is given them, whoever builds the index.

use crate::ports::IndexPassage;

/// Texts and bytes of one call: far below what servers take, so that one call is short.
const TEXTS: usize = 64;
const BYTES: usize = 128 * 1024;

/// A passage with what stands above it, without which many passages could be about anything.
#[must_use]
pub fn text_of(title: &str, passage: &IndexPassage) -> String {
    let path: Vec<&str> = std::iter::once(title).chain(passage.headings.iter().map(String::as_str)).collect();
    format!("{}\n{}", path.join(" › "), passage.text)
}

/// How many of `texts`, from the first on, make one call; at least one of any.
#[must_use]
pub fn one_call(texts: &[String]) -> usize {
    let mut bytes = 0;
    let fits = |text: &&String| {
        bytes += text.len();
        bytes <= BYTES
    };
    texts.iter().take(TEXTS).take_while(fits).count().max(texts.len().min(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_are_short_and_hold_every_text_once() {
        let texts: Vec<String> = (0..200).map(|n| "x".repeat(n * 1370)).collect();
        let mut sent = 0;
        while sent < texts.len() {
            let call = &texts[sent..][..one_call(&texts[sent..])];
            assert!((1..=TEXTS).contains(&call.len()));
            assert!(call.len() == 1 || call.iter().map(String::len).sum::<usize>() <= BYTES);
            sent += call.len();
        }
        assert_eq!((sent, one_call(&[])), (texts.len(), 0));
    }
}
