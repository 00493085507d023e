//! How the limits stand.

use crate::ports::{Level, Levels, Limit, QuotaMode};

use super::meter::PARTS;
use super::through::{MINUTE, signed};
use super::{Meter, Pool};

impl Pool {
    /// How its limits stand. Changes nothing.
    #[must_use]
    pub fn levels(&self, now: u64) -> Levels {
        let mut later = self.clone();
        later.advance(now);
        Levels {
            limits: Limit::ALL.into_iter().filter_map(|limit| later.level(limit)).collect(),
            active: unsigned(later.holds.running),
            expired: later.expired,
        }
    }

    fn level(&self, limit: Limit) -> Option<Level> {
        let through = &self.through;
        let ([units, left, debt], used, of) = match limit {
            Limit::PerMinute(dimension) => {
                let at = dimension as usize;
                let meter = Some(&self.meters[at]).filter(|meter| meter.is_limited())?;
                let used = through.lately(through.units[at], self.now);
                ([meter.rate, self.left(meter, at), meter.debt()], used, meter.rate)
            }
            Limit::Concurrency => {
                let most = i64::from(self.policy.concurrency?);
                let left = most - self.holds.running;
                let used = through.lately(through.millis, self.now);
                ([most, left.max(0), (-left).max(0)], used, most * signed(MINUTE))
            }
        };
        Some(Level::new(limit, [units, left, debt].map(unsigned), unsigned(used), unsigned(of)))
    }

    /// Units that may be reserved at once, pauses and the line apart.
    fn left(&self, meter: &Meter, at: usize) -> i64 {
        let there = match self.policy.mode {
            QuotaMode::Bucket => meter.sure,
            QuotaMode::Window => {
                let later = self.placed_later(self.now)[at];
                (meter.base - self.spent.sum(at) - meter.held + later) * PARTS
            }
        };
        meter.pace.min(there).max(0) / PARTS
    }
}

fn unsigned(of: i64) -> u64 {
    u64::try_from(of).unwrap_or(0)
}
