//! How a model's provider counts, as its own counts have told so far. Pure.

use millhand_common::model::Usage;
use millhand_common::tokens::Measure;

/// Older calls weigh half when a ratio is of more than this.
const REMEMBERED: u64 = 1 << 20;

/// Tokens for what can be counted here; one for one until something is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ratio {
    tokens: u64,
    of: u64,
}

impl Ratio {
    fn add(&mut self, tokens: u64, of: u64) {
        if of == 0 {
            return;
        }
        self.tokens += tokens;
        self.of += of;
        if self.of > REMEMBERED {
            self.tokens /= 2;
            self.of /= 2;
        }
    }

    fn is_known(self) -> bool {
        self.of > 0
    }

    /// Rounded to the nearest.
    fn apply(self, count: u64) -> u64 {
        if self.is_known() { (count * self.tokens + self.of / 2) / self.of } else { count }
    }
}

/// What is known of one model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Learned {
    /// Input tokens for what prompts measure.
    input: Ratio,
    /// Output tokens for the pieces that answers come in.
    chunks: Ratio,
    /// Output tokens for what readers see of answers.
    shown: Ratio,
}

impl Learned {
    /// A call has ended, and its provider has counted.
    pub(super) fn add(&mut self, usage: Usage, prompt: u64, chunks: u64, shown: Measure) {
        self.input.add(usage.input_tokens, prompt);
        self.chunks.add(usage.output_tokens, chunks);
        self.shown.add(usage.output_tokens, shown.tokens());
    }

    /// Tokens of a prompt that measures so much.
    pub(super) fn input(&self, prompt: u64) -> u64 {
        self.input.apply(prompt)
    }

    /// Tokens of an answer that came in so many pieces. Many providers send a piece for each token: until this
    /// one has shown what it does, it is taken to be one of them if that many tokens could make the text.
    pub(super) fn output(&self, chunks: u64, text: Measure) -> u64 {
        match text.tokens() {
            _ if self.chunks.is_known() => self.chunks.apply(chunks),
            tokens if 3 * chunks < 2 * tokens => tokens,
            _ => chunks,
        }
    }

    /// For a thousand of what an answer measures in the log.
    pub(super) fn output_per_thousand(&self) -> u64 {
        self.shown.apply(1000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn usage(input_tokens: u64, output_tokens: u64) -> Usage {
        Usage { input_tokens, output_tokens, nano_usd: 0 }
    }

    #[test]
    fn nothing_known_is_one_for_one() {
        let learned = Learned::default();
        assert_eq!((learned.input(100), learned.output_per_thousand()), (100, 1000));
        assert_eq!(learned.output(3, Measure::of("a long word")), 3);
        assert_eq!(learned.output(1, Measure::of("three whole words, at least")), 7);
        assert_eq!(
            learned.output(5, Measure::of("three whole words, at least")),
            5,
            "a piece for each token"
        );
    }

    #[test]
    fn counts_of_the_provider_correct_ours() {
        let mut learned = Learned::default();
        learned.add(usage(120, 30), 100, 15, Measure::of(&"a".repeat(80)));
        assert_eq!((learned.input(50), learned.output(10, Measure::default())), (60, 20));
        assert_eq!(learned.output_per_thousand(), 1500);
        // An empty answer tells nothing of answers.
        learned.add(usage(100, 0), 100, 0, Measure::default());
        assert_eq!((learned.input(100), learned.output_per_thousand()), (110, 1500));
    }

    #[test]
    fn old_counts_fade() {
        let mut learned = Learned::default();
        learned.add(usage(REMEMBERED, 0), REMEMBERED, 0, Measure::default());
        for _ in 0..64 {
            learned.add(usage(REMEMBERED, 0), REMEMBERED / 2, 0, Measure::default());
        }
        assert!(learned.input(1000) > 1990, "{learned:?}");
    }
}
