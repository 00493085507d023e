//! How many calls of a pool may be under way here after it said that it has too much to do. Pure: `now` is
//! any clock that never goes back.

use std::time::Duration;

/// What is left of the calls under way when the provider says so.
const CUT: f64 = 0.7;
/// Calls that are always allowed: one has to find out when there is room again.
const FLOOR: f64 = 1.0;
/// Calls more for each second without such a word. Not for each answer: a pool of slow answers would take
/// hours to come back.
const BACK_PER_SECOND: f64 = 1.0;

/// Any number of calls, until the provider has too much to do; then fewer, and one more each second until as
/// many are allowed as there were at first.
#[derive(Debug, Default)]
pub(super) struct Width {
    /// Calls under way, and those that wait for quota to be.
    running: u32,
    narrow: Option<Narrow>,
}

#[derive(Debug)]
struct Narrow {
    limit: f64,
    /// Calls that were under way when it was cut first.
    whole: f64,
    /// When it was cut last, and up to when `limit` has grown.
    cut: Duration,
    seen: Duration,
}

impl Width {
    /// Takes a place for one call, if there is one.
    pub(super) fn enter(&mut self, now: Duration) -> bool {
        self.grow(now);
        let free = self.narrow.as_ref().is_none_or(|narrow| f64::from(self.running) < narrow.limit.floor());
        self.running += u32::from(free);
        free
    }

    /// Takes a place for the one call that finds out whether the pool is well, whatever is under way.
    pub(super) fn enter_anyway(&mut self) {
        self.running += 1;
    }

    /// The call is over, or was never made.
    pub(super) fn leave(&mut self) {
        self.running = self.running.saturating_sub(1);
    }

    /// A call that was let in at `entered`, and has its place still, met a provider with too much to do. The
    /// others that were under way then say nothing new.
    pub(super) fn overloaded(&mut self, now: Duration, entered: Duration) {
        self.grow(now);
        let under_way = f64::from(self.running);
        let before = match &self.narrow {
            Some(narrow) if entered <= narrow.cut => return,
            Some(narrow) => under_way.min(narrow.limit),
            None => under_way,
        };
        let whole = self.narrow.as_ref().map_or(under_way, |narrow| narrow.whole);
        self.narrow = Some(Narrow { limit: (before * CUT).max(FLOOR), whole, cut: now, seen: now });
    }

    /// Calls that may be under way; `None` for any number.
    pub(super) fn limit(&self) -> Option<f64> {
        self.narrow.as_ref().map(|narrow| narrow.limit.floor())
    }

    fn grow(&mut self, now: Duration) {
        let Some(narrow) = &mut self.narrow else { return };
        narrow.limit += now.saturating_sub(narrow.seen).as_secs_f64() * BACK_PER_SECOND;
        narrow.seen = narrow.seen.max(now);
        if narrow.whole <= narrow.limit {
            self.narrow = None;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    fn entered(width: &mut Width, now: Duration, calls: u32) -> u32 {
        (0..calls).map(|_| u32::from(width.enter(now))).sum()
    }

    #[test]
    fn it_is_cut_once_for_all_that_was_under_way_and_comes_back_one_by_one() {
        let mut width = Width::default();
        assert_eq!(entered(&mut width, at(0), 100), 100, "nothing limits it at first");
        (0..30).for_each(|_| width.overloaded(at(1), at(0)));
        assert_eq!(width.limit(), Some(70.0));
        assert!(!width.enter(at(1)), "more than that are under way");
        (0..40).for_each(|_| width.leave());
        assert_eq!(entered(&mut width, at(1), 100), 10);
        assert_eq!(entered(&mut width, at(6), 100), 5);
        width.overloaded(at(6), at(6));
        assert_eq!(
            width.limit(),
            Some((75.0_f64 * 0.7).floor()),
            "a later call says that it is still too many"
        );
        assert!(!width.enter(at(7)));
        assert_eq!(width.limit(), Some(53.0));
        (0..100).for_each(|_| width.leave());
        assert_eq!(entered(&mut width, at(54), 200), 200, "as many as at first: it is forgotten");
        assert_eq!(width.limit(), None);
    }

    #[test]
    fn one_call_is_always_allowed() {
        let mut width = Width::default();
        for second in 0..20 {
            let now = at(second);
            assert!(width.enter(now), "{second}");
            width.overloaded(now, now);
            width.leave();
        }
    }
}
