//! Which offsets of one partition are complete.

use std::collections::BTreeSet;

/// Completes offsets in any order; what may be committed is all below the lowest incomplete one.
#[derive(Debug)]
pub(super) struct Tracker {
    lent: BTreeSet<i64>,
    /// The offset after the last one seen.
    next: i64,
    committed: i64,
}

impl Tracker {
    pub(super) fn new(first: i64) -> Self {
        Self { lent: BTreeSet::new(), next: first, committed: first }
    }

    /// Whether `offset` is new. One that was seen is refused: its first copy is still here.
    pub(super) fn lend(&mut self, offset: i64) -> bool {
        if offset < self.next {
            return false;
        }
        self.next = offset + 1;
        self.lent.insert(offset)
    }

    pub(super) fn complete(&mut self, offset: i64) {
        self.lent.remove(&offset);
    }

    /// The offset to commit, when it moved since the last call to [`Self::committed`].
    pub(super) fn to_commit(&self) -> Option<i64> {
        let lowest = self.lent.first().copied().unwrap_or(self.next);
        (lowest > self.committed).then_some(lowest)
    }

    pub(super) fn committed(&mut self, offset: i64) {
        self.committed = self.committed.max(offset);
    }

    /// The offset after the last one taken from the broker.
    pub(super) fn next(&self) -> i64 {
        self.next
    }
}

#[cfg(test)]
mod tests {
    use super::Tracker;

    #[test]
    fn nothing_above_an_incomplete_offset_is_committed() {
        let mut tracker = Tracker::new(7);
        assert!(tracker.lend(7) && tracker.lend(8) && tracker.lend(10));
        tracker.complete(8);
        assert_eq!(tracker.to_commit(), None);
        tracker.complete(7);
        assert_eq!(tracker.to_commit(), Some(10));
        tracker.committed(10);
        assert_eq!(tracker.to_commit(), None);
        tracker.complete(10);
        assert_eq!(tracker.to_commit(), Some(11));
        assert!(!tracker.lend(8));
    }
}
