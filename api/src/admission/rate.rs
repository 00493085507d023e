//! How fast jobs end while others wait.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use millhand_common::model::WorkerId;
use tokio::time::Instant;

/// What was measured counts for this long, of the time in which jobs waited.
const WINDOW: Duration = Duration::from_secs(30);
/// The expectation counts as if it had been measured for so long.
const PRIOR_SECONDS: f64 = 1.0;
/// Below this nothing could be divided by.
const SLOWEST: f64 = 0.001;

/// Only the time in which jobs wait says how fast they can end: an idle system ends what it gets.
pub(super) struct Rate {
    expected: f64,
    /// Jobs that ended, and in what time.
    measured: VecDeque<(u64, Duration)>,
    last: Option<Look>,
}

struct Look {
    at: Instant,
    waiting: bool,
    ended: HashMap<WorkerId, u64>,
}

impl Rate {
    pub(super) fn new(expected: f64) -> Self {
        Self { expected, measured: VecDeque::new(), last: None }
    }

    /// Whether jobs wait now, and how many each worker has ended since it began.
    pub(super) fn see(&mut self, waiting: bool, ended: HashMap<WorkerId, u64>, at: Instant) {
        if let Some(last) = &self.last
            && last.waiting
            && waiting
            && !ended.is_empty()
        {
            let since = |(worker, count): (&WorkerId, &u64)| {
                count.saturating_sub(last.ended.get(worker).copied().unwrap_or(0))
            };
            self.measured.push_back((ended.iter().map(since).sum(), at - last.at));
        }
        self.last = Some(Look { at, waiting, ended });
        let time = |measured: &VecDeque<(u64, Duration)>| -> Duration {
            measured.iter().map(|(_, time)| *time).sum()
        };
        while WINDOW < time(&self.measured) {
            self.measured.pop_front();
        }
    }

    /// Never zero.
    pub(super) fn per_second(&self) -> f64 {
        let ended: u64 = self.measured.iter().map(|(ended, _)| ended).sum();
        let time: Duration = self.measured.iter().map(|(_, time)| *time).sum();
        let rate = (ended as f64 + self.expected * PRIOR_SECONDS) / (time.as_secs_f64() + PRIOR_SECONDS);
        rate.max(SLOWEST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_time_in_which_jobs_wait_is_measured_and_the_expectation_fades() {
        let (mut rate, worker, mut now) = (Rate::new(200.0), WorkerId::new(), Instant::now());
        let mut ended = 0;
        let mut pass = |rate: &mut Rate, waiting, jobs| {
            now += Duration::from_secs(1);
            ended += jobs;
            rate.see(waiting, HashMap::from([(worker, ended)]), now);
        };
        for _ in 0..60 {
            pass(&mut rate, false, 1);
        }
        assert!((rate.per_second() - 200.0).abs() < 1e-9, "an idle system says nothing");
        for _ in 0..60 {
            pass(&mut rate, true, 50);
        }
        assert!((50.0..56.0).contains(&rate.per_second()), "{}", rate.per_second());
        pass(&mut rate, false, 0);
        for _ in 0..60 {
            pass(&mut rate, false, 1);
        }
        assert!((50.0..56.0).contains(&rate.per_second()), "kept while nothing waits");
        for _ in 0..60 {
            pass(&mut rate, true, 10);
        }
        assert!((10.0..17.0).contains(&rate.per_second()), "{}", rate.per_second());
    }
}
