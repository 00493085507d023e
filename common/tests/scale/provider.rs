//! The model's provider: lets calls start as its quota allows.

use std::collections::VecDeque;

use millhand_common::ports::Dimension;
use millhand_common::scale::{Limit, Quota};

use crate::dice::along;
use crate::scenario::Scenario;

/// Starts within this are the quota's use.
const USED_OVER_MS: u64 = 60_000;

/// A bucket that holds what comes in one second.
#[derive(Default)]
pub(crate) struct Provider {
    left: f64,
    refilled_ms: u64,
    starts: VecDeque<u64>,
}

impl Provider {
    /// Calls per second.
    pub(crate) fn rate(scenario: &Scenario, now_ms: u64) -> f64 {
        along(&scenario.quota, now_ms as f64 / 1000.0)
    }

    /// Takes a call; else says when there will be one.
    pub(crate) fn take(&mut self, now_ms: u64, rate: f64) -> Result<(), u64> {
        let refill = rate * (now_ms - self.refilled_ms) as f64 / 1000.0;
        self.left = (self.left + refill).min(rate.max(1.0));
        self.refilled_ms = now_ms;
        if self.left < 1.0 {
            return Err(now_ms + ((1.0 - self.left) / rate * 1000.0) as u64 + 1);
        }
        self.left -= 1.0;
        self.starts.push_back(now_ms);
        Ok(())
    }

    /// As the limiter would tell it.
    pub(crate) fn quota(&mut self, now_ms: u64, rate: f64) -> Quota {
        while self.starts.front().is_some_and(|at| at + USED_OVER_MS < now_ms) {
            self.starts.pop_front();
        }
        let per_second = self.starts.len() as f64 * 1000.0 / USED_OVER_MS as f64;
        Quota {
            limit: Limit::PerMinute(Dimension::Tokens),
            calls_per_second: rate,
            used: (per_second / rate).min(1.0),
        }
    }
}
