//! How many calls may be made again. Pure: `now` is any clock that never goes back.

use std::time::Duration;

/// Of the calls that succeed.
const SHARE: f64 = 0.1;
/// What successes may save up: a short outage after a busy time.
const MOST: f64 = 20.0;
/// What there is without any success: a quiet or fresh process retries too.
const FLOOR: f64 = 3.0;
/// How fast it comes back up to [`FLOOR`].
const FLOOR_PER_SECOND: f64 = 0.1;

/// Retries in place of one pool: when most calls fail, making them again only adds to what is too much.
#[derive(Debug)]
pub(super) struct RetryBudget {
    left: f64,
    seen: Duration,
}

impl RetryBudget {
    pub(super) fn new(now: Duration) -> Self {
        Self { left: FLOOR, seen: now }
    }

    pub(super) fn succeeded(&mut self) {
        self.left = (self.left + SHARE).min(MOST);
    }

    /// Takes one retry, if there is one.
    pub(super) fn take(&mut self, now: Duration) -> bool {
        self.refill(now);
        let enough = self.left >= 1.0;
        if enough {
            self.left -= 1.0;
        }
        enough
    }

    /// Retries that are left.
    pub(super) fn left(&self) -> f64 {
        self.left
    }

    fn refill(&mut self, now: Duration) {
        let passed = now.saturating_sub(self.seen).as_secs_f64();
        self.seen = self.seen.max(now);
        if self.left < FLOOR {
            self.left = (self.left + passed * FLOOR_PER_SECOND).min(FLOOR);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn taken(budget: &mut RetryBudget, now: Duration) -> u32 {
        (0..100).map(|_| u32::from(budget.take(now))).sum()
    }

    #[test]
    fn a_tenth_of_the_successes_may_be_spent_on_retries() {
        let mut budget = RetryBudget::new(Duration::ZERO);
        assert_eq!(taken(&mut budget, Duration::ZERO), 3, "a fresh process retries");
        (0..101).for_each(|_| budget.succeeded());
        assert_eq!(taken(&mut budget, Duration::ZERO), 10);
        (0..10_000).for_each(|_| budget.succeeded());
        assert_eq!(taken(&mut budget, Duration::ZERO), 20, "a good day does not pay for a storm");
    }

    #[test]
    fn a_quiet_pool_gets_its_floor_back_and_no_more() {
        let mut budget = RetryBudget::new(Duration::ZERO);
        taken(&mut budget, Duration::ZERO);
        assert_eq!(taken(&mut budget, Duration::from_secs(9)), 0);
        assert_eq!(taken(&mut budget, Duration::from_secs(20)), 2);
        assert_eq!(taken(&mut budget, Duration::from_secs(3600)), 3);
    }
}
