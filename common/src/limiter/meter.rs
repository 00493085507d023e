//! One limit of one dimension.

use crate::ports::QuotaMode;

use super::When;

/// Parts of one unit: a rate of one unit a minute refills one part a millisecond.
pub(super) const PARTS: i64 = 60_000;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Meter {
    /// Units a minute that refill is counted by; 0 is no limit.
    pub(super) rate: i64,
    /// The limit itself: as configured, or as told when that is less.
    pub(super) base: i64,
    /// Units that the provider's bucket is known to hold.
    pub(super) room: i64,
    /// The most that the pace saves up, in parts.
    cap: i64,
    /// In parts; negative when a call was larger than the pace.
    pub(super) pace: i64,
    /// In parts. Buckets only.
    pub(super) sure: i64,
    /// Units reserved and not settled, places included.
    pub(super) held: i64,
    /// Of these, what is kept for places: it has surely not been charged yet.
    pub(super) placed: i64,
    /// The most that the provider ever said was left.
    pub(super) seen: i64,
    /// Eight times the size of calls lately.
    pub(super) typical8: i64,
    /// What the provider says its limit is, 0 when it does not.
    pub(super) told: i64,
    /// A higher limit that it says now, and how often it has.
    pub(super) next: i64,
    pub(super) sights: i64,
}

impl Meter {
    pub(super) fn is_limited(&self) -> bool {
        self.base > 0
    }

    /// Takes over the limit as it is now.
    pub(super) fn renew(&mut self, configured: Option<u64>, burst_seconds: u32, share: i64) {
        let configured = configured.map_or(0, |limit| i64::try_from(limit).unwrap_or(i64::MAX));
        self.base = match (configured, self.told) {
            (0, told) => told,
            (configured, 0) => configured,
            (configured, told) => configured.min(told),
        };
        if !self.is_limited() {
            (self.rate, self.room, self.cap) = (0, 0, 0);
            return;
        }
        if self.rate == 0 {
            // What is under way was not charged: nobody knew of a limit.
            self.pace = -self.held * PARTS;
            self.sure = self.pace;
        }
        self.rate = (self.base * share / 1000).max(1);
        let burst = i64::from(burst_seconds);
        self.cap = (self.rate * burst * 1000).max(PARTS);
        self.room = (self.base * burst / 60).max(1).max(self.seen.min(self.base));
    }

    pub(super) fn refill(&mut self, elapsed: u64, mode: QuotaMode) {
        if !self.is_limited() {
            return;
        }
        let refill = self.rate * i64::try_from(elapsed).unwrap_or(i64::MAX);
        // Refunds may have lifted the pace above its cap: they stay.
        self.pace = self.pace.max((self.pace + refill).min(self.cap));
        if mode == QuotaMode::Bucket {
            self.sure = (self.sure + refill).min(self.most_sure());
        }
    }

    /// A full bucket, when nothing of what is under way has been charged yet.
    fn most_sure(&self) -> i64 {
        (self.room - self.held) * PARTS
    }

    pub(super) fn hold(&mut self, units: i64) {
        self.held += units;
        if self.is_limited() {
            self.pace -= units * PARTS;
            self.sure -= units * PARTS;
        }
    }

    pub(super) fn release(&mut self, reserved: i64, used: i64) {
        self.held -= reserved;
        if self.is_limited() {
            self.pace += (reserved - used) * PARTS;
            self.sure = (self.sure + (reserved - used) * PARTS).min(self.most_sure());
        }
    }

    /// Credits what was charged too much, or charges what was credited too much.
    pub(super) fn correct(&mut self, units: i64, mode: QuotaMode) {
        if self.is_limited() {
            self.pace += units * PARTS;
            if mode == QuotaMode::Bucket {
                self.sure = (self.sure + units * PARTS).min(self.most_sure());
            }
        }
    }

    /// Units of the pace that are missing though nobody waits with them.
    pub(super) fn debt(&self) -> i64 {
        (-(self.pace + self.placed * PARTS)).max(0) / PARTS
    }

    /// The level is at most this.
    pub(super) fn bound(&mut self, parts: i64) {
        self.sure = self.sure.min(parts);
    }

    /// Until the pace allows a call: one that is larger than it saves up waits until it has saved all.
    pub(super) fn when_paced(&self, asked: i64) -> u64 {
        self.until(asked.saturating_mul(PARTS).min(self.cap) - self.pace)
    }

    /// Until the provider's bucket holds what a place was given for, however it was learned since that less
    /// is there. What is kept for other places is not used yet.
    pub(super) fn when_kept(&self, asked: i64) -> u64 {
        self.until(asked.min(self.room).saturating_mul(PARTS) - self.sure - self.placed * PARTS)
    }

    /// Until all that a call may take is in the provider's bucket.
    pub(super) fn when_sure(&self, asked: i64) -> When {
        if asked > self.room {
            // Larger than the bucket is known to be: alone, and when it is full.
            return When { wait: self.until(self.room * PARTS - self.sure), blocked: self.held > 0 };
        }
        When {
            wait: self.until(asked.saturating_mul(PARTS) - self.sure),
            blocked: asked > self.room - self.held,
        }
    }

    /// How many calls of the usual size the pace and the bucket allow `ahead` milliseconds from now.
    pub(super) fn calls(&self, mode: QuotaMode, ahead: u64) -> i64 {
        let whole = self.typical() * PARTS;
        let refill = self.rate * i64::try_from(ahead).unwrap_or(i64::MAX);
        let pace = self.pace.max((self.pace + refill).min(self.cap));
        let paced = if whole > self.cap { i64::from(pace >= self.cap) } else { pace.max(0) / whole };
        if mode == QuotaMode::Window {
            return paced;
        }
        let sure = (self.sure + refill).min(self.most_sure());
        let room = self.room * PARTS;
        let sure = if whole > room { i64::from(sure >= room) } else { sure.max(0) / whole };
        paced.min(sure)
    }

    pub(super) fn note_typical(&mut self, units: i64) {
        self.typical8 = match self.typical8 {
            0 => units * 8,
            typical8 => typical8 + units - typical8 / 8,
        };
    }

    /// At least one unit.
    pub(super) fn typical(&self) -> i64 {
        (self.typical8 / 8).max(1)
    }

    fn until(&self, missing: i64) -> u64 {
        let missing = u64::try_from(missing).unwrap_or(0);
        missing.div_ceil(self.rate.max(1).unsigned_abs())
    }
}
