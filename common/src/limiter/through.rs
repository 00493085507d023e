//! What gets through: how large calls are in the end, how long they take, and how many there were.

use crate::ports::{Dimension, Limit, Quota, QuotaMode};

use super::{Pool, Units};

pub(super) const MINUTE: u64 = 60_000;
/// The means are of the last calls, at most so many, at least half of them.
///
/// Source: the size of answers varies about as much as it is, so a mean of 128 is known to 9 %.
const MEMORY: i64 = 256;

#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Through {
    /// Calls that ended, and what they took together.
    calls: i64,
    pub(super) units: Units,
    pub(super) millis: i64,
    /// The number of the minute, the calls that ended in it, and in the one before.
    minute: u64,
    this: i64,
    last: i64,
}

impl Through {
    pub(super) fn advance(&mut self, now: u64) {
        let minute = now / MINUTE;
        if minute != self.minute {
            self.last = if minute == self.minute + 1 { self.this } else { 0 };
            self.this = 0;
            self.minute = minute;
        }
    }

    /// A call has ended that took so much.
    pub(super) fn add(&mut self, used: &Units, millis: u64) {
        if self.calls >= MEMORY {
            self.calls /= 2;
            self.millis /= 2;
            for units in &mut self.units {
                *units /= 2;
            }
        }
        self.calls += 1;
        self.this += 1;
        self.millis += i64::try_from(millis).unwrap_or(i64::MAX);
        for (sum, units) in self.units.iter_mut().zip(used) {
            *sum += units;
        }
    }

    /// Calls within the last minute, as if those of the minute before had ended evenly.
    fn recent(&self, now: u64) -> i64 {
        let left = MINUTE - now % MINUTE;
        self.this + self.last * signed(left) / signed(MINUTE)
    }

    /// What the calls of the last minute took, of which all took so much.
    pub(super) fn lately(&self, of: i64, now: u64) -> i64 {
        if self.calls > 0 { of / self.calls * self.recent(now) } else { 0 }
    }

    /// What a call takes on average; `None` before the first has ended.
    fn mean(&self, of: i64) -> Option<i64> {
        (self.calls > 0).then(|| (of / self.calls).max(1))
    }
}

impl Pool {
    /// What gets through in the long run, and how much of that is used. Changes nothing.
    #[must_use]
    pub fn quota(&self, now: u64) -> Option<Quota> {
        let mut later = self.clone();
        later.advance(now);
        later.quota_now()
    }

    fn quota_now(&self) -> Option<Quota> {
        let through = &self.through;
        let millis = through.mean(through.millis);
        // So many units a minute, of which a call takes so many.
        let mut binding: Option<(Limit, i64, i64)> = None;
        let mut bind = |limit, units: i64, per_call: i64| {
            let calls = |(_, units, per_call): &(Limit, i64, i64)| *units as f64 / *per_call as f64;
            let new = (limit, units, per_call);
            if binding.as_ref().is_none_or(|old| calls(&new) < calls(old)) {
                binding = Some(new);
            }
        };
        for (at, dimension) in Dimension::ALL.into_iter().enumerate() {
            let (meter, limit) = (&self.meters[at], Limit::PerMinute(dimension));
            let asked = (meter.typical8 > 0).then(|| meter.typical());
            let Some(took) = through.mean(through.units[at]).or(asked).filter(|_| meter.is_limited()) else {
                continue;
            };
            bind(limit, meter.rate, took);
            // All that running calls may take must be there, so only so many run at a time.
            if let (Some(asked), Some(millis)) = (asked, millis) {
                let room = if self.policy.mode == QuotaMode::Bucket { meter.room } else { meter.base };
                bind(limit, (room / asked).max(1) * signed(MINUTE), millis);
            }
        }
        if let (Some(most), Some(millis)) = (self.policy.concurrency, millis) {
            bind(Limit::Concurrency, i64::from(most) * signed(MINUTE), millis);
        }
        let (limit, units, per_call) = binding?;
        let [units, per_call, recent] =
            [units, per_call, through.recent(self.now)].map(|number| u64::try_from(number).unwrap_or(0));
        Some(Quota::new(limit, units, per_call, recent))
    }
}

pub(super) fn signed(of: u64) -> i64 {
    i64::try_from(of).unwrap_or(i64::MAX)
}
