//! One limit of one dimension.

use std::time::Duration;

use super::{Counted, Dimension, Mode, Refusal, Shown};

/// Parts of one unit.
const PARTS: i128 = 60_000_000;
const MINUTE: u64 = 60_000_000;
const SLICE: u64 = 10_000_000;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shape {
    Bucket { burst_micros: u64 },
    Window { width: u64, phase: u64 },
}

/// What is left of one limit. Times are microseconds from the start; one that is earlier than the
/// last is taken as the last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Meter {
    shape: Shape,
    per_minute: u64,
    /// In parts; negative when calls wrote more than there was.
    level: i128,
    lowest: i128,
    charged: u64,
    now: u64,
}

impl Meter {
    pub(super) fn new(mode: Mode, per_minute: u64, burst_seconds: u64, phase: u64) -> Self {
        let shape = match mode {
            Mode::Bucket | Mode::Arrival => Shape::Bucket { burst_micros: burst_seconds * 1_000_000 },
            Mode::Window => Shape::Window { width: MINUTE, phase },
            Mode::Slices => Shape::Window { width: SLICE, phase },
        };
        let mut meter = Self { shape, per_minute, level: 0, lowest: 0, charged: 0, now: 0 };
        meter.level = meter.capacity();
        meter
    }

    /// The most that can be left, in parts. A slice of a small limit still lets one unit in.
    fn capacity(&self) -> i128 {
        let per_minute = i128::from(self.per_minute);
        match self.shape {
            Shape::Bucket { burst_micros } => {
                (per_minute * i128::from(burst_micros)).max(PARTS.min(per_minute * PARTS))
            }
            Shape::Window { width, .. } => {
                let units = per_minute * i128::from(width) / i128::from(MINUTE);
                units.max(per_minute.min(1)) * PARTS
            }
        }
    }

    pub(super) fn advance(&mut self, now: u64) {
        let now = now.max(self.now);
        match self.shape {
            Shape::Bucket { .. } => {
                let refill = i128::from(self.per_minute) * i128::from(now - self.now);
                self.level = (self.level + refill).min(self.capacity());
            }
            Shape::Window { width, phase } => {
                if (now + phase) / width > (self.now + phase) / width {
                    self.level = self.capacity();
                }
            }
        }
        self.now = now;
    }

    pub(super) fn charge(&mut self, units: u64) {
        self.level -= i128::from(units) * PARTS;
        self.lowest = self.lowest.min(self.level);
        self.charged += units;
    }

    /// Why `asked` units are not let in now; the meter has been advanced to now.
    pub(super) fn refusal(&self, dimension: Dimension, asked: u64, now: u64) -> Option<Refusal> {
        let parts = i128::from(asked) * PARTS;
        let capacity = self.capacity();
        if asked == 0 || parts <= self.level {
            return None;
        }
        if parts > capacity {
            return Some(Refusal::Never { dimension, limit: whole(capacity).unsigned_abs(), asked });
        }
        let wait = match self.shape {
            Shape::Bucket { .. } => micros(div_ceil(parts - self.level, i128::from(self.per_minute))),
            Shape::Window { .. } => self.until_next_window(now),
        };
        let (limit, left) = (self.per_minute, whole(self.level));
        Some(Refusal::Later { dimension, limit, left, asked, wait })
    }

    fn until_next_window(&self, now: u64) -> Duration {
        match self.shape {
            Shape::Window { width, phase } => {
                Duration::from_micros(width - (now.max(self.now) + phase) % width)
            }
            Shape::Bucket { .. } => Duration::ZERO,
        }
    }

    /// Takes over what another meter of the same dimension has used.
    pub(super) fn carry(&mut self, old: &Self) {
        self.level = self.capacity() - (old.capacity() - old.level);
        self.lowest = old.lowest;
        self.charged = old.charged;
    }

    pub(super) fn shown(&self, dimension: Dimension, now: u64) -> Shown {
        let reset = match self.shape {
            Shape::Bucket { .. } if self.per_minute == 0 => Duration::ZERO,
            Shape::Bucket { .. } => {
                micros(div_ceil(self.capacity() - self.level, i128::from(self.per_minute)))
            }
            Shape::Window { .. } => self.until_next_window(now),
        };
        Shown { dimension, limit: self.per_minute, left: whole(self.level), reset }
    }

    pub(super) fn counted(&self, dimension: Dimension) -> Counted {
        Counted {
            dimension,
            per_minute: self.per_minute,
            charged: self.charged,
            left: whole(self.level),
            overdrawn: whole(self.lowest.min(0)).unsigned_abs(),
        }
    }
}

/// Whole units, rounded down: what is not whole cannot be used, and a debt is not made smaller.
fn whole(parts: i128) -> i64 {
    i64::try_from(parts.div_euclid(PARTS)).unwrap_or(i64::MAX)
}

fn micros(count: i128) -> Duration {
    Duration::from_micros(u64::try_from(count).unwrap_or(u64::MAX))
}

/// `count / by`, rounded up; neither is negative.
fn div_ceil(count: i128, by: i128) -> i128 {
    (count + by - 1) / by
}
