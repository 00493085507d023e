//! An estimate of how many tokens a model sees in a text: near enough to size passages, no more.

/// About as many tokens as `text` has: words, and every East Asian character.
pub(super) fn count(text: &str) -> usize {
    let mut counter = Counter::default();
    text.chars().for_each(|c| counter.add(c));
    counter.tokens
}

/// Bytes of the longest start of `text` with at most `limit` tokens; at least one character.
pub(super) fn fitting(text: &str, limit: usize) -> usize {
    let mut counter = Counter::default();
    for (at, c) in text.char_indices() {
        counter.add(c);
        if counter.tokens > limit && at > 0 {
            return at;
        }
    }
    text.len()
}

#[derive(Default)]
struct Counter {
    tokens: usize,
    /// Characters of the open word, or of the open run of marks.
    run: usize,
    in_word: bool,
}

impl Counter {
    fn add(&mut self, c: char) {
        if c.is_whitespace() {
            self.run = 0;
        } else if is_east_asian(c) {
            self.tokens += 1;
            self.run = 0;
        } else {
            let word = c.is_alphanumeric() || c == '\'' || c == '_';
            self.run = if word == self.in_word { self.run + 1 } else { 1 };
            self.in_word = word;
            // Long words, numbers and rules are several tokens; a mark at the end of a word is none.
            let starts = word && self.run == 1;
            if starts || self.run.is_multiple_of(8) {
                self.tokens += 1;
            }
        }
    }
}

fn is_east_asian(c: char) -> bool {
    matches!(c, '\u{2E80}'..='\u{A4CF}' | '\u{AC00}'..='\u{D7A3}' | '\u{F900}'..='\u{FAFF}' | '\u{20000}'..='\u{3FFFD}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_and_characters_are_counted() {
        assert_eq!(count("The warranty doesn't cover motors."), 6);
        assert_eq!(count("保修期2年"), 5);
        assert!(count(&"=".repeat(800)) >= 100);
        assert_eq!(fitting("one two three", 2), "one two ".len());
        assert_eq!(fitting("汉字", 0), "汉".len());
    }
}
