//! How many tokens a text is likely to be, where nobody says. Pure.

/// Tokens that a message costs beside its text.
const PER_MESSAGE: u64 = 4;

/// Text as it is measured: common tokenizers make about one token of four ASCII characters, and of one
/// character of most other scripts.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Measure {
    ascii: u64,
    other: u64,
}

impl Measure {
    #[must_use]
    pub fn of(text: &str) -> Self {
        let mut measure = Self::default();
        measure.add(text);
        measure
    }

    /// More of the same text.
    pub fn add(&mut self, text: &str) {
        let ascii = text.bytes().filter(u8::is_ascii).count();
        let other = text.chars().count() - ascii;
        self.ascii += ascii as u64;
        self.other += other as u64;
    }

    /// Tokens, about.
    #[must_use]
    pub fn tokens(self) -> u64 {
        self.ascii.div_ceil(4) + self.other
    }

    /// Tokens, about, of a text that came in so many pieces. Many providers send a piece for each token: where
    /// nothing is known of a model, its provider is taken to be one of them if that many tokens could make the
    /// text.
    #[must_use]
    pub fn in_pieces(self, pieces: u64) -> u64 {
        let tokens = self.tokens();
        if 3 * pieces < 2 * tokens { tokens } else { pieces }
    }
}

/// Tokens of a whole prompt, about.
#[must_use]
pub fn of_prompt<'a>(texts: impl Iterator<Item = &'a str>) -> u64 {
    texts.map(|text| Measure::of(text).tokens() + PER_MESSAGE).sum()
}

/// Tokens, about, of texts that are no messages: embedders and rerankers count each by itself and nothing beside.
#[must_use]
pub fn of_texts<'a>(texts: impl Iterator<Item = &'a str>) -> u64 {
    texts.map(|text| Measure::of(text).tokens()).sum()
}

/// More than any common tokenizer makes of a prompt: a token for two ASCII characters (they make one of
/// three or four), two for three bytes of anything else (they make at most one and a half of a Chinese
/// character), and eight for each message.
#[must_use]
pub fn at_most<'a>(texts: impl Iterator<Item = &'a str>) -> u64 {
    let of_text = |text: &str| {
        let ascii = text.bytes().filter(u8::is_ascii).count();
        let other = text.len() - ascii;
        2 * PER_MESSAGE + (ascii.div_ceil(2) + (other * 2).div_ceil(3)) as u64
    };
    texts.map(of_text).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_measured_the_same_in_pieces() {
        let mut pieces = Measure::default();
        ["ab", "c 水", "", "车d"].into_iter().for_each(|piece| pieces.add(piece));
        assert_eq!(pieces, Measure::of("abc 水车d"));
        assert_eq!((pieces.tokens(), Measure::default().tokens()), (4, 0));
        assert_eq!(of_prompt(["abcd", ""].into_iter()), 9);
        assert_eq!(of_texts(["abcde", "", "水车"].into_iter()), 4);
    }

    #[test]
    fn bounds_are_generous() {
        let tokens = |text: &str| at_most([text].into_iter()) - 8;
        assert_eq!((tokens(""), tokens("abc"), tokens("水车"), tokens("a水")), (0, 2, 4, 3));
    }
}
