//! How fast jobs are answered while others wait.
//!
//! Only answers count. What expires in the line leaves it too, and what fails or expires in its slot leaves
//! that, but counted they would say that the line moves the faster the more of it is wasted, and let in more of
//! the same. Without them the expected wait is rather too long than too short, the line gets shorter, and what
//! is in it is answered.

use std::collections::VecDeque;
use std::time::Duration;

use tokio::time::Instant;

/// What was measured counts for this long, of the time in which jobs waited.
const WINDOW: Duration = Duration::from_secs(30);
/// The expectation counts as if it had been measured for so long.
const PRIOR_SECONDS: f64 = 1.0;
/// So much of it is gone when a whole window was measured: of an expectation that was twenty times too high, half
/// of what was measured would stay for ever. The rest lets a few jobs in when nothing is answered any more, so
/// that it shows when that is over.
const FADES: f64 = 0.9;
/// Below this nothing could be divided by.
const SLOWEST: f64 = 0.001;
/// Fewer answers say too little to promise anything by.
const ENOUGH: u64 = 5;

/// Only the time in which jobs wait says how fast they can be answered: an idle system answers what it gets.
pub(super) struct Rate {
    expected: f64,
    /// Answers, and in what time.
    measured: VecDeque<(u64, Duration)>,
    last: Option<Look>,
}

struct Look {
    at: Instant,
    backlog: bool,
    answered: u64,
}

impl Rate {
    pub(super) fn new(expected: f64) -> Self {
        Self { expected, measured: VecDeque::new(), last: None }
    }

    /// Whether jobs wait for workers now, and how many were ever answered: by all workers, those that are gone
    /// included. A count that falls was started anew.
    pub(super) fn see(&mut self, backlog: bool, answered: u64, at: Instant) {
        if let Some(last) = &self.last
            && last.backlog
            && backlog
        {
            self.measured.push_back((answered.saturating_sub(last.answered), at - last.at));
        }
        self.last = Some(Look { at, backlog, answered });
        let time = |measured: &VecDeque<(u64, Duration)>| -> Duration {
            measured.iter().map(|(_, time)| *time).sum()
        };
        while WINDOW < time(&self.measured) {
            self.measured.pop_front();
        }
    }

    /// By what was measured and what was expected before. Never zero.
    pub(super) fn per_second(&self) -> f64 {
        let (answered, seconds) = self.sum();
        let prior = PRIOR_SECONDS * (1.0 - FADES * (seconds / WINDOW.as_secs_f64()).min(1.0));
        let rate = (answered as f64 + self.expected * prior) / (seconds + prior);
        rate.max(SLOWEST)
    }

    /// By what was measured alone, if that is enough. Never zero.
    pub(super) fn measured(&self) -> Option<f64> {
        let (answered, seconds) = self.sum();
        (ENOUGH <= answered && 0.0 < seconds).then(|| answered as f64 / seconds)
    }

    fn sum(&self) -> (u64, f64) {
        let answered = self.measured.iter().map(|(answered, _)| answered).sum();
        let time: Duration = self.measured.iter().map(|(_, time)| *time).sum();
        (answered, time.as_secs_f64())
    }
}

/// How long answers take in their slots, on average over the last of them.
#[derive(Default)]
pub(super) struct Service {
    answers: f64,
    busy_seconds: f64,
    last: Option<(u64, Duration)>,
}

impl Service {
    /// Answers that count: a mean over so many is known to a tenth when they vary as much as they last.
    const MEMORY: f64 = 100.0;

    /// How many were ever answered, and what those took together. The first look takes all of the past.
    pub(super) fn see(&mut self, answered: u64, busy: Duration) {
        let (answered_before, busy_before) = self.last.replace((answered, busy)).unwrap_or_default();
        let more = answered.saturating_sub(answered_before) as f64;
        if more == 0.0 {
            return;
        }
        let all = self.answers + more;
        let kept = (Self::MEMORY / all).min(1.0);
        self.busy_seconds = (self.busy_seconds + busy.saturating_sub(busy_before).as_secs_f64()) * kept;
        self.answers = all * kept;
    }

    /// `None` while too little was answered.
    pub(super) fn seconds(&self) -> Option<f64> {
        (ENOUGH as f64 <= self.answers && 0.0 < self.busy_seconds).then(|| self.busy_seconds / self.answers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_time_in_which_jobs_wait_is_measured_and_the_expectation_fades() {
        let (mut rate, mut now, mut answered) = (Rate::new(200.0), Instant::now(), 1_000_000);
        let mut pass = |rate: &mut Rate, backlog, jobs| {
            now += Duration::from_secs(1);
            answered += jobs;
            rate.see(backlog, answered, now);
        };
        for _ in 0..60 {
            pass(&mut rate, false, 1);
        }
        assert!((rate.per_second() - 200.0).abs() < 1e-9, "an idle system says nothing");
        for _ in 0..60 {
            pass(&mut rate, true, 50);
        }
        assert!((50.0..51.0).contains(&rate.per_second()), "{}", rate.per_second());
        pass(&mut rate, false, 0);
        for _ in 0..60 {
            pass(&mut rate, false, 1);
        }
        assert!((50.0..51.0).contains(&rate.per_second()), "kept while nothing waits");
        for _ in 0..60 {
            pass(&mut rate, true, 10);
        }
        assert!((10.0..11.0).contains(&rate.per_second()), "{}", rate.per_second());
    }

    #[test]
    fn answers_of_long_ago_say_little_of_how_long_one_takes_now() {
        let mut service = Service::default();
        service.see(4, Duration::from_secs(8));
        assert_eq!(service.seconds(), None, "too few");
        service.see(1_000, Duration::from_secs(2_000));
        assert_eq!(service.seconds(), Some(2.0));
        service.see(1_000, Duration::from_secs(2_000));
        assert_eq!(service.seconds(), Some(2.0), "while nothing is answered it stays");
        service.see(1_300, Duration::from_secs(2_000 + 300 * 4));
        let seconds = service.seconds().unwrap();
        assert!((3.4..4.0).contains(&seconds), "{seconds}");
    }

    #[test]
    fn a_count_that_was_started_anew_is_no_progress() {
        let (mut rate, now) = (Rate::new(1.0), Instant::now());
        rate.see(true, 500, now);
        rate.see(true, 3, now + Duration::from_secs(1));
        rate.see(true, 8, now + Duration::from_secs(2));
        assert!(
            (rate.per_second() - 2.0).abs() < 0.1,
            "{}: five, and the one expected, in three seconds",
            rate.per_second()
        );
    }
}
