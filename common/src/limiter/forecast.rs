//! Whether work that will call is worth to be started.

use std::time::Duration;

use uuid::Uuid;

use crate::ports::{Forecast, GATE_HORIZON, QuotaMode};

use super::{ASK_AGAIN, Pool, Units};

const AHEAD: u64 = GATE_HORIZON.as_millis() as u64;
/// When to look again at the earliest, and at the latest: calls that end bring quota back.
const SOONEST: u64 = 10;
const LATEST: u64 = 1_000;

impl Pool {
    /// What could start now. Changes nothing.
    #[must_use]
    pub fn forecast(&self, now: u64) -> Forecast {
        let mut later = self.clone();
        later.advance(now);
        later.forecast_now()
    }

    fn forecast_now(&self) -> Forecast {
        let paused = self.paused_until.saturating_sub(self.now);
        let free = match self.policy.concurrency {
            Some(limit) => (i64::from(limit) - self.holds.running).max(0),
            None => i64::from(u32::MAX),
        };
        let mut calls = free;
        for (at, meter) in self.meters.iter().enumerate().filter(|(_, meter)| meter.is_limited()) {
            calls = calls.min(meter.calls(self.policy.mode, AHEAD));
            if self.policy.mode == QuotaMode::Window {
                let used = self.spent.sum_by(at, self.now + AHEAD, self.window()) + meter.held;
                calls = calls.min((meter.base - used).max(0) / meter.typical());
            }
        }
        // Whoever has a place must come and take it.
        let places = i64::try_from(self.holds.places_by(self.now)).unwrap_or(i64::MAX);
        calls = calls.max(places.min(free));
        let kept_back = self.head_but(Uuid::nil()).map_or(0, |until| until - self.now);
        if paused > AHEAD || kept_back > 0 {
            calls = 0;
        }
        let opens_in = if calls > 0 { 0 } else { self.opens_in(paused, free).max(kept_back) };
        Forecast {
            calls: u32::try_from(calls).unwrap_or(u32::MAX),
            opens_in: Duration::from_millis(opens_in),
        }
    }

    fn opens_in(&self, paused: u64, free: i64) -> u64 {
        let typical: Units = std::array::from_fn(|at| self.meters[at].typical());
        let when = self.when(&typical);
        let mut wait = when.wait.max(paused).saturating_sub(AHEAD);
        if when.blocked || free == 0 {
            wait = wait.max(ASK_AGAIN / 2);
        }
        wait.clamp(SOONEST, LATEST)
    }
}
