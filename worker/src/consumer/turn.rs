//! What a free slot takes first.
//!
//! Due work goes before hints: the store knows whose turn it is, and a queue does not. But a tenant with a long
//! queue has only hints while others are below their share, and the batch lane has only what the interactive
//! one leaves: so of sixteen pulls two prefer the hints as they come, and two the batch lane.

use millhand_common::model::Lane;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Source {
    /// The due index, this lane first.
    Due(Lane),
    Hint(Lane),
}

/// Where the next pull looks, the first place first.
pub(super) fn order(pull: usize) -> [Source; 3] {
    use Lane::{Batch, Interactive};
    use Source::{Due, Hint};
    match pull % 16 {
        3 | 11 => [Hint(Interactive), Due(Interactive), Hint(Batch)],
        7 => [Hint(Batch), Due(Batch), Hint(Interactive)],
        15 => [Due(Batch), Hint(Batch), Hint(Interactive)],
        _ => [Due(Interactive), Hint(Interactive), Hint(Batch)],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_source_comes_first_now_and_then() {
        let firsts: Vec<Source> = (0..16).map(|pull| order(pull)[0]).collect();
        let count = |wanted| firsts.iter().filter(|source| **source == wanted).count();
        assert_eq!(count(Source::Due(Lane::Interactive)), 12);
        assert_eq!(count(Source::Hint(Lane::Interactive)), 2);
        assert_eq!(count(Source::Hint(Lane::Batch)), 1);
        assert_eq!(count(Source::Due(Lane::Batch)), 1);
    }
}
