//! How long who comes now waits. Pure: `now` is any clock that never goes back.

use std::collections::VecDeque;
use std::time::Duration;

use crate::ports::LaneDepth;

/// What ended counts for this long, of the time in which jobs waited.
const WINDOW: Duration = Duration::from_secs(30);

/// Divides what is ready by how fast jobs end while others wait: an idle system ends what it gets.
#[derive(Debug, Default)]
pub(super) struct Load {
    last: Option<Look>,
    /// Jobs that ended, and in what time.
    measured: VecDeque<(u64, Duration)>,
}

#[derive(Debug)]
struct Look {
    at: Duration,
    waiting: bool,
    ended: u64,
}

impl Load {
    /// The wait that is predicted, and no less than the oldest ready job has waited: while nothing ends there is
    /// nothing to predict from. A lane that an operator has paused waits for the operator.
    pub(super) fn expected_wait(&mut self, now: Duration, lane: &LaneDepth) -> Duration {
        let look = Look { at: now, waiting: lane.ready > 0, ended: lane.totals.ended };
        if let Some(last) = self.last.replace(look)
            && last.waiting
            && lane.ready > 0
        {
            // A counter that falls was started anew.
            let ended = lane.totals.ended.saturating_sub(last.ended);
            self.measured.push_back((ended, now.saturating_sub(last.at)));
        }
        let sum = |measured: &VecDeque<(u64, Duration)>| {
            measured.iter().fold((0, Duration::ZERO), |(ended, time), one| (ended + one.0, time + one.1))
        };
        while WINDOW < sum(&self.measured).1 {
            self.measured.pop_front();
        }
        if lane.paused {
            return Duration::ZERO;
        }
        let oldest = Duration::from_millis(lane.oldest_ready_ms);
        let predicted = match sum(&self.measured) {
            (0, _) => Duration::ZERO,
            (ended, time) => time.mul_f64(lane.ready as f64 / ended as f64),
        };
        predicted.max(oldest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Lane;

    fn lane(ready: u64, ended: u64, oldest: Duration) -> LaneDepth {
        let mut lane = LaneDepth::empty(Lane::Interactive);
        (lane.ready, lane.totals.ended) = (ready, ended);
        lane.oldest_ready_ms = u64::try_from(oldest.as_millis()).unwrap();
        lane
    }

    #[test]
    fn what_waits_is_divided_by_what_ends_while_others_wait() {
        let (mut load, second) = (Load::default(), Duration::from_secs);
        for at in 0..100 {
            let wait = load.expected_wait(second(at), &lane(0, at, Duration::ZERO));
            assert_eq!(wait, Duration::ZERO, "an idle system says nothing");
        }
        assert_eq!(load.expected_wait(second(100), &lane(600, 100, Duration::ZERO)), Duration::ZERO);
        for at in 1..=60 {
            let wait = load.expected_wait(second(100 + at), &lane(600, 100 + 10 * at, second(2)));
            assert_eq!(wait, second(60), "600 at ten a second");
        }
        let mut wait = Duration::ZERO;
        for at in 61..=100 {
            wait = load.expected_wait(second(100 + at), &lane(600, 640 + at, second(2)));
        }
        assert!(wait > second(500), "what was measured long ago is forgotten");
    }

    #[test]
    fn while_nothing_ends_it_is_the_age_of_the_oldest() {
        let (mut load, second) = (Load::default(), Duration::from_secs);
        for at in 0..40 {
            assert_eq!(load.expected_wait(second(at), &lane(5, 7, second(at))), second(at));
        }
        let paused = LaneDepth { paused: true, ..lane(5, 7, second(41)) };
        assert_eq!(load.expected_wait(second(41), &paused), Duration::ZERO, "the operator knows");
    }
}
