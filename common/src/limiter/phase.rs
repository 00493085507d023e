//! When a provider's window begins anew, as far as its headers tell.

use super::spent::{WINDOW, number};

/// What agrees this often, over this long, is believed. One that contradicts it ends that.
const SIGHTS: u32 = 3;
const FOR: u64 = 5_000;

/// A header says how long its window lasts from a moment between the grant of its call and now, so each
/// tells of an interval in which a window begins; what lies in all of them is left.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Phase {
    /// Of one window; the others begin whole minutes before and after it.
    earliest: i64,
    latest: i64,
    sights: u32,
    /// The first of these sights.
    since: u64,
}

impl Phase {
    /// A call that was granted at `granted` heard that its window ends in `reset`.
    pub(super) fn sight(&mut self, granted: u64, now: u64, reset: u64) {
        let (earliest, latest) = (number(granted + reset), number(now + reset));
        let later = (earliest - self.earliest + number(WINDOW) / 2) / number(WINDOW) * number(WINDOW);
        let both = (earliest.max(self.earliest + later), latest.min(self.latest + later));
        if self.sights > 0 && both.0 <= both.1 {
            (self.earliest, self.latest) = both;
            self.sights = self.sights.saturating_add(1);
        } else {
            *self = Self { earliest, latest, sights: 1, since: now };
        }
    }

    pub(super) fn is_known(&self, now: u64) -> bool {
        self.sights >= SIGHTS && now >= self.since + FOR
    }

    /// When the window in which `at` lies is surely over.
    pub(super) fn over(&self, at: i64) -> i64 {
        at + (self.earliest - at).rem_euclid(number(WINDOW)) + self.latest - self.earliest
    }
}
