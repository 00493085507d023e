//! How many workers there should be. Pure: time comes in as an argument, nothing is read or started, so
//! tests run days of it in a moment. Whoever owns the workers fills [`Observed`] about once a second, asks a
//! [`Scaler`], and starts or drains workers until there are as many as it says.
//!
//! # The rule ([`decide`])
//!
//! Jobs wait for a model, so a worker's processor says nothing about its load; what counts is how many
//! slots the work needs:
//!
//! - *flow*: arrivals/s × service time are the slots that are busy at any moment (Little's law). On top come
//!   as many square roots of it as spare, because arrivals are random and their noise grows like that
//!   (square-root staffing: Halfin and Whitt, Operations Research 29, 1981).
//! - *backlog*: what is ready, or will be before a new worker could be up, gets the slots that work it off
//!   within [`Settings::drain_target`]. This needs no worker to be alive: it is what the store counts.
//! - *lateness*: when the oldest job has waited longer than start-up and drain target together, the measures
//!   must be wrong, and up to twice as much is asked for.
//!
//! Three things hold it down: `min` and `max`; the *quota*, because slots beyond what the provider lets
//! start would only wait there; and a *stall*, because when nothing ends although jobs run and wait, what
//! they depend on is stuck, and more of the same would be stuck too. (The first worker is always started.)
//!
//! # Why it does not flap
//!
//! The need is computed twice, with little to spare and with much ([`GROW`], [`SHRINK`]): workers are added when
//! not even the former fits, and taken away when even the latter has room. Between the two, which is wider
//! than the noise of the measures, nothing happens. Workers are added at once, and taken away only down to
//! the most that was needed at any moment of the last [`SETTLE`].

mod decide;
mod measure;
mod reason;

use std::collections::VecDeque;
use std::time::Duration;

use crate::ports::LaneDepth;

pub use crate::ports::{Limit, Quota, Totals};
pub use decide::{Decision, GROW, Margin, SHRINK, Situation, decide};
pub use reason::Reason;

use measure::{Arrivals, Ended};

/// Workers are taken away when they were not needed for this long.
///
/// Source: a pool must be back at `min` within 60 s of an empty queue; 15 s are left for noticing it, and for
/// an idle worker to stop.
pub const SETTLE: Duration = Duration::from_secs(45);
/// Nothing ended for this many service times, while jobs run and others wait: stuck.
///
/// Source: with full slots something ends many times per service time; with the single slot of a single
/// worker, of exponential times one in twenty is longer than three times the mean.
const STALLED_FOR: f64 = 3.0;
/// But not before: a second of this is what a round of observing takes.
const STALLED_AFTER: Duration = Duration::from_secs(10);

/// What one pool of workers may be.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Fewest workers; 0 stops the last one when nothing is to be done.
    pub min: u32,
    /// Most workers, whatever the load.
    pub max: u32,
    /// Jobs that one worker runs at a time, at least 1.
    pub slots: u32,
    /// From starting a worker until it takes jobs.
    pub start_up: Duration,
    /// A backlog is to be gone this long after the workers for it are up.
    pub drain_target: Duration,
    /// How long a job takes, until some have ended.
    pub expected_service: Duration,
}

impl Settings {
    /// For workers of so many slots.
    ///
    /// Sources: a process of this machine is up within a second; 30 s is what people wait for an answer that
    /// has not begun, and three times what an answer takes, so a drained backlog does not leave a crowd of
    /// workers; 10 s is an answer of 500 tokens at 50 tokens/s.
    #[must_use]
    pub fn new(min: u32, max: u32, slots: u32) -> Self {
        Self {
            min,
            max,
            slots,
            start_up: Duration::from_secs(1),
            drain_target: Duration::from_secs(30),
            expected_service: Duration::from_secs(10),
        }
    }

    fn clamp(&self, workers: u32) -> u32 {
        workers.min(self.max).max(self.min)
    }

    fn workers_for(&self, slots: f64) -> u32 {
        // A float that is too large becomes the largest number, which `clamp` cuts.
        (slots / f64::from(self.slots.max(1))).ceil() as u32
    }
}

/// What is seen at one moment.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Observed {
    /// Workers that were started and not told to stop, whether they are up yet or not.
    pub workers: u32,
    /// Jobs that could start now, as the store counts them, over all lanes.
    pub ready: u64,
    /// Jobs that wait for a time that comes within [`Settings::start_up`].
    pub due_soon: u64,
    /// Jobs that have an owner.
    pub running: u64,
    /// Since when the oldest ready job has been ready.
    pub oldest_ready: Duration,
    pub totals: Totals,
    /// Absent when nothing limits the calls.
    pub quota: Option<Quota>,
}

impl Observed {
    /// What the store and the limiters say, beside what one knows oneself.
    #[must_use]
    pub fn of(workers: u32, lanes: &[LaneDepth], quota: Option<Quota>) -> Self {
        let mut observed = Self { workers, quota, ..Self::default() };
        for lane in lanes {
            observed.running += lane.running;
            observed.totals += lane.totals;
            // Of what is paused nothing can be worked off.
            if !lane.paused {
                observed.ready += lane.ready;
                observed.due_soon += lane.due_soon;
                observed.oldest_ready =
                    observed.oldest_ready.max(Duration::from_millis(lane.oldest_ready_ms));
            }
        }
        observed
    }
}

/// Decides again and again: keeps what [`decide`] needs to know of the past.
#[derive(Clone, Debug)]
pub struct Scaler {
    settings: Settings,
    arrivals: Arrivals,
    ended: Ended,
    last: Option<(Duration, Totals)>,
    /// The last moment at which something ended, or nothing had to.
    moved: Duration,
    /// Workers that were needed, newest last; the first held at [`SETTLE`] ago.
    needed: VecDeque<(Duration, u32)>,
}

impl Scaler {
    /// One that knows nothing yet: for the first [`SETTLE`] it takes no worker away.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        let ended = Ended::expecting(settings.expected_service);
        Self {
            settings,
            arrivals: Arrivals::default(),
            ended,
            last: None,
            moved: Duration::ZERO,
            needed: VecDeque::new(),
        }
    }

    #[must_use]
    pub fn settings(&self) -> &Settings {
        &self.settings
    }

    /// What to do at `now`, counted from any fixed moment on a clock that never goes back. Rounds may be
    /// late or missed: nothing depends on their distance.
    pub fn decide(&mut self, now: Duration, observed: &Observed) -> Decision {
        self.measure(now, observed);
        while self.needed.get(1).is_some_and(|(at, _)| *at + SETTLE <= now) {
            self.needed.pop_front();
        }
        let decision = decide(&self.settings, &self.situation(now, observed));
        self.needed.push_back((now, decision.needed));
        decision
    }

    fn measure(&mut self, now: Duration, observed: &Observed) {
        let totals = observed.totals;
        let (then, before) = *self.last.get_or_insert((now, totals));
        let is_idle = observed.ready == 0 || observed.running == 0;
        if is_idle || totals.ended != before.ended {
            self.moved = now;
        }
        self.arrivals.add(totals.arrived.saturating_sub(before.arrived), now.saturating_sub(then));
        self.ended.add(
            totals.ended.saturating_sub(before.ended),
            totals.busy.saturating_sub(before.busy),
            totals.calls.saturating_sub(before.calls),
        );
        self.last = Some((now, totals));
    }

    fn situation(&self, now: Duration, observed: &Observed) -> Situation {
        let service = self.ended.service_seconds();
        let still_for = now.saturating_sub(self.moved);
        let is_stalled = still_for > STALLED_AFTER && still_for.as_secs_f64() > STALLED_FOR * service;
        let remembers = self.needed.front().is_some_and(|(at, _)| *at + SETTLE <= now);
        let most_needed = self.needed.iter().map(|(_, workers)| *workers).max().unwrap_or(0);
        Situation {
            workers: observed.workers,
            backlog: observed.ready + observed.due_soon,
            running: observed.running,
            oldest_ready: observed.oldest_ready,
            arrivals_per_second: self.arrivals.per_second(),
            service_seconds: service,
            calls_per_job: self.ended.calls(),
            quota: observed.quota,
            stalled_for: is_stalled.then_some(still_for),
            most_needed: if remembers { most_needed } else { most_needed.max(observed.workers) },
        }
    }
}
