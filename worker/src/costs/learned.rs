//! How a model's provider counts, as its own counts have told so far. Pure.

use std::time::Duration;

use millhand_common::model::Usage;
use millhand_common::tokens::Measure;

/// Older calls weigh half when a ratio is of more than this.
const REMEMBERED: u64 = 1 << 20;
/// The same of how fast answers come, in milliseconds: that changes with the provider's load.
const LATELY: u64 = 1 << 16;

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
    /// Output tokens for the milliseconds that they came in.
    pace: Ratio,
}

/// What was heard of an answer that its provider has counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Heard {
    /// What its prompt measures.
    pub(super) prompt: u64,
    /// Pieces of text that came.
    pub(super) chunks: u64,
    /// From the first of them to the last.
    pub(super) came_in: Duration,
    /// What readers see of it.
    pub(super) shown: Measure,
}

impl Learned {
    /// A call has ended, and its provider has counted.
    pub(super) fn add(&mut self, usage: Usage, heard: Heard) {
        self.input.add(usage.input_tokens, heard.prompt, REMEMBERED);
        self.chunks.add(usage.output_tokens, heard.chunks, REMEMBERED);
        self.shown.add(usage.output_tokens, heard.shown.tokens(), REMEMBERED);
        let came_in = u64::try_from(heard.came_in.as_millis()).unwrap_or(u64::MAX);
        self.pace.add(usage.output_tokens, came_in, LATELY);
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

    /// Thousandths of a token in a second of an answer; 0 where nothing is known of answers.
    pub(super) fn pace(&self) -> u64 {
        if self.pace.is_known() { self.pace.apply(1_000_000) } else { 0 }
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
        assert_eq!(learned.pace(), 0);
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
            Heard {
                prompt: 100,
                chunks: 15,
                came_in: Duration::from_millis(500),
                shown: Measure::of(&"a".repeat(80)),
            },
        );
        assert_eq!((learned.input(50), learned.output(10, Measure::default())), (60, 20));
        assert_eq!(learned.output_per_thousand(), Some(1500));
        assert_eq!(learned.pace(), 60_000, "sixty tokens a second");
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
        // Its provider has become slower: it is known after some minutes of answers.
        let mut answers = |came_in: u64, many: u32| {
            let heard = Heard { chunks: 60, came_in: Duration::from_millis(came_in), ..Heard::default() };
            (0..many).for_each(|_| learned.add(usage(0, 60), heard));
            learned.pace()
        };
        assert!((119_000..=120_000).contains(&answers(500, 1000)));
        assert!((60_000..61_000).contains(&answers(1000, 500)));
    }
}
