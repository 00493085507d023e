//! How a model's provider counts, as its own counts have told so far. Pure.

use millhand_common::model::Usage;
use millhand_common::tokens::Measure;

/// Older calls weigh half when a ratio is of more than this.
const REMEMBERED: u64 = 1 << 20;
/// The same of how far the log is behind: some answers of a busy worker, for that changes with the load.
const LATELY: u64 = 1 << 10;

/// Tokens for what can be counted here; one for one until something is known.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Ratio {
    tokens: u64,
    of: u64,
}

impl Ratio {
    fn add(&mut self, tokens: u64, of: u64, remembered: u64) {
        if of == 0 {
            return;
        }
        self.tokens += tokens;
        self.of += of;
        if self.of > remembered {
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
    /// Pieces that were not yet in the log when another one came.
    behind: Ratio,
}

/// What was heard of an answer that its provider has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// What its prompt measures.
    pub(super) prompt: u64,
    /// Pieces of text that came.
    pub(super) chunks: u64,
    /// At each of them: how many were not yet in the log, it included. The sum.
    pub(super) behind: u64,
    /// What readers see of it.
    pub(super) shown: Measure,
}

impl Learned {
    /// A call has ended, and its provider has counted.
    pub(super) fn add(&mut self, usage: Usage, heard: Heard) {
        self.input.add(usage.input_tokens, heard.prompt, REMEMBERED);
        self.chunks.add(usage.output_tokens, heard.chunks, REMEMBERED);
        self.shown.add(usage.output_tokens, heard.shown.tokens(), REMEMBERED);
        self.behind.add(heard.behind, heard.chunks, LATELY);
    }

    /// Tokens of a prompt that measures so much.
    pub(super) fn input(&self, prompt: u64) -> u64 {
        self.input.apply(prompt)
    }

    /// Tokens of an answer that came in so many pieces.
    pub(super) fn output(&self, chunks: u64, text: Measure) -> u64 {
        if self.chunks.is_known() { self.chunks.apply(chunks) } else { text.in_pieces(chunks) }
    }

    /// For a thousand of what an answer measures in the log, if anything is known of answers.
    pub(super) fn output_per_thousand(&self) -> Option<u64> {
        self.shown.is_known().then(|| self.shown.apply(1000))
    }

    /// How many thousandths of a token the log is behind an answer, on average, while it comes.
    pub(super) fn unwritten(&self) -> u64 {
        self.chunks.apply(self.behind.apply(1000))
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
        assert_eq!((learned.input(100), learned.output_per_thousand()), (100, None));
        assert_eq!(learned.unwritten(), 1000, "a token");
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
        learned.add(
            usage(120, 30),
            Heard { prompt: 100, chunks: 15, behind: 45, shown: Measure::of(&"a".repeat(80)) },
        );
        assert_eq!((learned.input(50), learned.output(10, Measure::default())), (60, 20));
        assert_eq!(learned.output_per_thousand(), Some(1500));
        assert_eq!(learned.unwritten(), 6000, "three pieces of two tokens");
        // An empty answer tells nothing of answers.
        learned.add(usage(100, 0), Heard { prompt: 100, ..Heard::default() });
        assert_eq!((learned.input(100), learned.output_per_thousand()), (110, Some(1500)));
    }

    #[test]
    fn old_counts_fade() {
        let mut learned = Learned::default();
        learned.add(usage(REMEMBERED, 0), Heard { prompt: REMEMBERED, ..Heard::default() });
        for _ in 0..64 {
            learned.add(usage(REMEMBERED, 0), Heard { prompt: REMEMBERED / 2, ..Heard::default() });
        }
        assert!(learned.input(1000) > 1990, "{learned:?}");
        // A brownout is over: it is known after some hundred answers.
        let mut answers = |behind: u64, many: u32| {
            let heard = Heard { chunks: 60, behind: 60 * behind, ..Heard::default() };
            (0..many).for_each(|_| learned.add(usage(0, 60), heard));
            learned.unwritten()
        };
        assert!((16_000..16_010).contains(&answers(16, 1000)));
        assert!((1000..1100).contains(&answers(1, 500)));
    }
}
