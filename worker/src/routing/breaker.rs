//! When a pool is left alone because it is sick. Pure: `now` is any clock that never goes back.

use std::time::Duration;

/// Calls of the last ten seconds are looked at, by the second.
const WINDOW_SECONDS: usize = 10;
/// Of fewer calls nothing is concluded.
const MIN_SAMPLES: u32 = 20;
/// How long a pool is left alone first; twice as long after each probe that fails.
const FIRST_PAUSE: Duration = Duration::from_secs(5);
const MAX_PAUSE: Duration = Duration::from_secs(120);
/// A pool that is out of money or credit is left alone for this long: somebody has to pay.
const NO_CREDIT_PAUSE: Duration = Duration::from_secs(15 * 60);
/// While a probe is under way, others ask again after this long.
const PROBE_WAIT: Duration = Duration::from_secs(1);

/// What the end of a call says of its pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signal {
    Good,
    /// It failed, was silent or made no sense.
    Sick,
    /// It takes no call until somebody pays.
    NoCredit,
    /// It lives, and refused this call: for its rate, its key or what it asks for.
    Refused,
}

/// Whether a call may go to the pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Entry {
    Pass,
    /// The one call that finds out whether it is well again; its end must be told.
    Probe,
    /// Not before this long from now.
    Shut(Duration),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Duration },
    Probing,
}

/// The calls that ended within one second.
#[derive(Clone, Copy, Debug, Default)]
struct Second {
    at: u64,
    all: u32,
    sick: u32,
    /// Sick ones since the last good one, of whatever second.
    on_end: u32,
}

/// Opens at half of at least [`MIN_SAMPLES`] calls gone wrong within ten seconds, or at as many on end, since after
/// a busy time half of all would be many; then one call at a time finds out whether it may close.
#[derive(Debug)]
pub(super) struct Breaker {
    state: State,
    seconds: [Second; WINDOW_SECONDS],
    /// Pauses since it was last closed.
    pauses: u32,
}

impl Default for Breaker {
    fn default() -> Self {
        Self { state: State::Closed, seconds: [Second::default(); WINDOW_SECONDS], pauses: 0 }
    }
}

impl Breaker {
    pub(super) fn enter(&mut self, now: Duration) -> Entry {
        match self.state {
            State::Closed => Entry::Pass,
            State::Open { until } if now < until => Entry::Shut(until - now),
            State::Open { .. } => {
                self.state = State::Probing;
                Entry::Probe
            }
            State::Probing => Entry::Shut(PROBE_WAIT),
        }
    }

    /// How long no call may be made; `None` when one may.
    pub(super) fn shut_for(&self, now: Duration) -> Option<Duration> {
        match self.state {
            State::Closed => None,
            State::Open { until } => Some(until.saturating_sub(now)).filter(|wait| !wait.is_zero()),
            State::Probing => Some(PROBE_WAIT),
        }
    }

    /// A call has ended. `probe`: it was let in as one.
    pub(super) fn ended(&mut self, now: Duration, probe: bool, signal: Signal) {
        match (signal, probe) {
            (Signal::NoCredit, _) => self.open(now, NO_CREDIT_PAUSE),
            (Signal::Sick, true) => self.pause(now),
            (Signal::Good | Signal::Refused, true) => *self = Self::default(),
            // Whoever was let in before it opened says nothing new.
            (Signal::Good | Signal::Sick, false) if self.state == State::Closed => {
                self.count(now, signal == Signal::Sick);
                if self.is_sick(now) {
                    self.pause(now);
                }
            }
            (Signal::Good | Signal::Sick | Signal::Refused, false) => {}
        }
    }

    /// The probe was never sent, or nobody heard its end: the next call is one.
    pub(super) fn probe_lost(&mut self, now: Duration) {
        if self.state == State::Probing {
            self.state = State::Open { until: now };
        }
    }

    /// 0 closed, 1 open, 0.5 between the two.
    pub(super) fn gauge(&self) -> f64 {
        match self.state {
            State::Closed => 0.0,
            State::Probing => 0.5,
            State::Open { .. } => 1.0,
        }
    }

    fn count(&mut self, now: Duration, sick: bool) {
        let second = &mut self.seconds[now.as_secs() as usize % WINDOW_SECONDS];
        if second.at != now.as_secs() {
            *second = Second { at: now.as_secs(), ..Second::default() };
        }
        second.all += 1;
        second.sick += u32::from(sick);
        second.on_end += u32::from(sick);
        if !sick {
            self.seconds.iter_mut().for_each(|second| second.on_end = 0);
        }
    }

    fn is_sick(&self, now: Duration) -> bool {
        let recent = self.seconds.iter().filter(|second| second.at + WINDOW_SECONDS as u64 > now.as_secs());
        let (all, sick, on_end) = recent.fold((0, 0, 0), |(all, sick, on_end), one| {
            (all + one.all, sick + one.sick, on_end + one.on_end)
        });
        all >= MIN_SAMPLES && (sick * 2 >= all || on_end >= MIN_SAMPLES)
    }

    fn pause(&mut self, now: Duration) {
        let pause = FIRST_PAUSE.saturating_mul(1 << self.pauses.min(10)).min(MAX_PAUSE);
        self.open(now, pause);
    }

    fn open(&mut self, now: Duration, pause: Duration) {
        self.pauses = self.pauses.saturating_add(1);
        self.seconds = Default::default();
        // A shorter pause never takes back a longer one.
        let until = match self.state {
            State::Open { until } => until.max(now + pause),
            State::Closed | State::Probing => now + pause,
        };
        self.state = State::Open { until };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    fn end(breaker: &mut Breaker, now: Duration, calls: u32, signal: Signal) {
        (0..calls).for_each(|_| breaker.ended(now, false, signal));
    }

    fn opened(now: Duration) -> Breaker {
        let mut breaker = Breaker::default();
        end(&mut breaker, now, MIN_SAMPLES, Signal::Sick);
        breaker
    }

    #[test]
    fn it_opens_at_half_of_twenty_calls_within_ten_seconds() {
        let mut breaker = Breaker::default();
        end(&mut breaker, at(1000), 10, Signal::Good);
        end(&mut breaker, at(2000), 9, Signal::Sick);
        assert_eq!(breaker.enter(at(2000)), Entry::Pass, "nineteen are too few");
        end(&mut breaker, at(3000), 1, Signal::Sick);
        assert_eq!(breaker.enter(at(3000)), Entry::Shut(FIRST_PAUSE));
        assert_eq!(breaker.shut_for(at(4000)), Some(at(4000)));

        let mut breaker = Breaker::default();
        end(&mut breaker, at(1000), 11, Signal::Good);
        end(&mut breaker, at(2000), 10, Signal::Sick);
        assert_eq!(breaker.enter(at(2000)), Entry::Pass, "ten of twenty-one are less than half");
    }

    #[test]
    fn after_a_busy_time_twenty_on_end_are_enough() {
        let mut breaker = Breaker::default();
        end(&mut breaker, at(0), 1000, Signal::Good);
        end(&mut breaker, at(900), 19, Signal::Sick);
        end(&mut breaker, at(950), 1, Signal::Good);
        end(&mut breaker, at(1000), 19, Signal::Sick);
        assert_eq!(breaker.enter(at(1000)), Entry::Pass, "one was good in between");
        end(&mut breaker, at(2000), 1, Signal::Sick);
        assert_eq!(breaker.enter(at(2000)), Entry::Shut(FIRST_PAUSE));
    }

    #[test]
    fn what_is_older_than_ten_seconds_is_forgotten() {
        let mut breaker = Breaker::default();
        end(&mut breaker, at(0), 19, Signal::Sick);
        end(&mut breaker, at(10_000), 19, Signal::Sick);
        assert_eq!(breaker.enter(at(10_000)), Entry::Pass);
        end(&mut breaker, at(19_999), 1, Signal::Sick);
        assert_eq!(breaker.enter(at(19_999)), Entry::Shut(FIRST_PAUSE));
    }

    #[test]
    fn a_rate_limit_or_a_refused_request_is_no_sign_of_sickness() {
        let mut breaker = Breaker::default();
        end(&mut breaker, at(0), 1000, Signal::Refused);
        assert_eq!(breaker.enter(at(0)), Entry::Pass);
    }

    #[test]
    fn one_probe_finds_out_and_each_that_fails_doubles_the_pause() {
        let mut breaker = opened(at(0));
        let mut now = FIRST_PAUSE;
        for pause in [10, 20, 40, 80, 120, 120] {
            assert_eq!(breaker.enter(now), Entry::Probe);
            assert_eq!(breaker.enter(now), Entry::Shut(PROBE_WAIT), "one at a time");
            breaker.ended(now, true, Signal::Sick);
            assert_eq!(breaker.enter(now), Entry::Shut(Duration::from_secs(pause)));
            now += Duration::from_secs(pause);
        }
        assert_eq!(breaker.enter(now), Entry::Probe);
        breaker.ended(now, true, Signal::Good);
        assert_eq!((breaker.enter(now), breaker.gauge()), (Entry::Pass, 0.0));
        end(&mut breaker, now, MIN_SAMPLES, Signal::Sick);
        assert_eq!(breaker.enter(now), Entry::Shut(FIRST_PAUSE), "it begins anew");
    }

    #[test]
    fn a_probe_that_is_lost_leaves_its_place_to_the_next() {
        let mut breaker = opened(at(0));
        assert_eq!(breaker.enter(FIRST_PAUSE), Entry::Probe);
        breaker.probe_lost(FIRST_PAUSE);
        assert_eq!(breaker.shut_for(FIRST_PAUSE), None);
        assert_eq!(breaker.enter(FIRST_PAUSE), Entry::Probe);
    }

    #[test]
    fn calls_that_were_under_way_when_it_opened_change_nothing() {
        let mut breaker = opened(at(0));
        end(&mut breaker, at(1000), 50, Signal::Sick);
        end(&mut breaker, at(1000), 50, Signal::Good);
        assert_eq!(breaker.enter(at(1000)), Entry::Shut(at(4000)));
    }

    #[test]
    fn without_credit_one_call_is_enough_and_the_pause_is_long() {
        let mut breaker = Breaker::default();
        breaker.ended(at(0), false, Signal::NoCredit);
        assert_eq!(breaker.enter(at(1000)), Entry::Shut(NO_CREDIT_PAUSE - at(1000)));
        end(&mut breaker, at(2000), 50, Signal::Good);
        assert_eq!(breaker.enter(NO_CREDIT_PAUSE), Entry::Probe);
        breaker.ended(NO_CREDIT_PAUSE, true, Signal::NoCredit);
        assert_eq!(breaker.enter(NO_CREDIT_PAUSE), Entry::Shut(NO_CREDIT_PAUSE));
    }
}
