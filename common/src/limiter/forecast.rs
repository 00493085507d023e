//! Whether work that will call is worth to be started.

use std::time::Duration;

use crate::ports::{Forecast, GATE_HORIZON, QuotaMode};

use super::{ASK_AGAIN, HEAD, Pool, Units};

const AHEAD: u64 = GATE_HORIZON.as_millis() as u64;
/// When to look again at the earliest, and at the latest: calls that end bring quota back.
const SOONEST: u64 = 10;
const LATEST: u64 = 1_000;
/// Whoever was offered a call asks for it within this, or has nothing to ask for.
const OFFER: u64 = 100;

/// Calls that were offered, and until when they count.
pub(super) type Offers = Vec<(u64, u32)>;

impl Pool {
    /// What could start now. Changes nothing.
    #[must_use]
    pub fn forecast(&self, now: u64) -> Forecast {
        let mut later = self.clone();
        later.advance(now);
        later.forecast_now()
    }

    /// The same, `most` at most and without what was offered to others a moment ago: they come for it.
    pub fn offer(&mut self, now: u64, most: u32) -> Forecast {
        let Forecast { calls, opens_in } = self.forecast(now);
        self.forget_offers(self.now.max(now));
        let offered = self.offers.iter().map(|(_, calls)| calls).sum();
        let left = calls.saturating_sub(offered).min(most);
        if left > 0 {
            self.offers.push((self.now.max(now) + OFFER, left));
            return Forecast { calls: left, opens_in: Duration::ZERO };
        }
        let opens_in = if calls > 0 { Duration::from_millis(SOONEST) } else { opens_in };
        Forecast { calls: 0, opens_in }
    }

    /// Somebody came for what was offered.
    pub(super) fn take_offer(&mut self) {
        self.forget_offers(self.now);
        if let Some((_, calls)) = self.offers.first_mut() {
            *calls -= 1;
            if *calls == 0 {
                self.offers.remove(0);
            }
        }
    }

    fn forget_offers(&mut self, now: u64) {
        self.offers.retain(|(until, _)| now < *until);
    }

    fn forecast_now(&self) -> Forecast {
        let paused = self.paused_until.saturating_sub(self.now);
        let free = match self.policy.concurrency {
            Some(limit) => (i64::from(limit) - self.holds.running).max(0),
            None => i64::from(u32::MAX),
        };
        // Whoever has a place must come and take it, whoever else waits.
        let places = i64::try_from(self.holds.places_by(self.now)).unwrap_or(i64::MAX).min(free);
        let (calls, opens_in) = match self.head {
            Some((_, units, until)) if self.now < until + HEAD => self.head_opens(&units, until, free),
            _ => (self.calls(free), self.opens_in(&self.typical(), free)),
        };
        let (calls, opens_in) =
            if paused > AHEAD { (0, opens_in.max(paused - AHEAD)) } else { (calls.max(places), opens_in) };
        let next_place = self.holds.next_place(self.now).map_or(LATEST, |at| at - self.now);
        let opens_in =
            if calls > 0 { 0 } else { opens_in.min(next_place.max(paused)).clamp(SOONEST, LATEST) };
        Forecast {
            calls: u32::try_from(calls).unwrap_or(u32::MAX),
            opens_in: Duration::from_millis(opens_in),
        }
    }

    /// Calls of the usual size.
    fn calls(&self, free: i64) -> i64 {
        let (mut calls, later) = (free, self.placed_later(self.now + AHEAD));
        for (at, meter) in self.meters.iter().enumerate().filter(|(_, meter)| meter.is_limited()) {
            calls = calls.min(meter.calls(self.policy.mode, AHEAD));
            if self.policy.mode == QuotaMode::Window {
                let used = self.spent.sum_by(at, self.now + AHEAD, self.window()) + meter.held - later[at];
                calls = calls.min((meter.base - used).max(0) / meter.typical());
            }
        }
        calls
    }

    /// While one keeps the rest back it is the one to come, as soon as it could start; and when it has not
    /// come in its time, somebody must see whether it ever will.
    fn head_opens(&self, units: &Units, until: u64, free: i64) -> (i64, u64) {
        let opens_in = self.opens_in(units, free);
        let comes = opens_in == 0 || until <= self.now;
        (i64::from(comes).min(free), opens_in.min(until.saturating_sub(self.now)))
    }

    fn typical(&self) -> Units {
        std::array::from_fn(|at| self.meters[at].typical())
    }

    /// Until a call of this size is so near that a job may be pulled for it.
    fn opens_in(&self, units: &Units, free: i64) -> u64 {
        let when = self.when(units);
        let wait = when.wait.saturating_sub(AHEAD);
        if when.blocked || free == 0 { wait.max(ASK_AGAIN / 2) } else { wait }
    }
}
