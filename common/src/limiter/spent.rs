//! What calls that ended have used within a minute, for limits that come back all at once.

use std::collections::VecDeque;

use crate::ports::LimitPolicy;

use super::phase::Phase;
use super::{Units, When};

/// The width of every provider's window.
pub(super) const WINDOW: u64 = 60_000;
/// What ended within one of these is forgotten together.
const SLOT: u64 = 250;

#[derive(Clone, Debug, Default)]
pub(super) struct Spent {
    /// Oldest first; the number of a slot is its time, and may lie before 0.
    slots: VecDeque<(i64, Units)>,
    sum: Units,
}

impl Spent {
    /// A minute in which everything was used, evenly.
    pub(super) fn as_if_used(policy: &LimitPolicy, now: u64) -> Self {
        let mut spent = Self::default();
        let (slots, last) = (WINDOW / SLOT, now / SLOT);
        for n in 0..slots {
            let share = |limit: u64| limit * (n + 1) / slots - limit * n / slots;
            let units = policy.per_minute.map(|limit| number(share(limit.unwrap_or(0))));
            spent.add_to(number(last + n + 1) - number(slots), &units);
        }
        spent
    }

    pub(super) fn add(&mut self, now: u64, units: &Units) {
        self.add_to(number(now / SLOT), units);
    }

    fn add_to(&mut self, slot: i64, units: &Units) {
        if units.iter().all(|units| *units == 0) {
            return;
        }
        match self.slots.back_mut() {
            Some((last, sum)) if *last == slot => plus(sum, units),
            _ => self.slots.push_back((slot, *units)),
        }
        plus(&mut self.sum, units);
    }

    pub(super) fn forget(&mut self, now: u64, phase: Option<&Phase>) {
        while let Some((slot, units)) = self.slots.front().copied()
            && end(slot, phase) <= now
        {
            self.slots.pop_front();
            for (sum, units) in self.sum.iter_mut().zip(units) {
                *sum -= units;
            }
        }
    }

    pub(super) fn sum(&self, dimension: usize) -> i64 {
        self.sum[dimension]
    }

    /// What will be left of the sum at `later`.
    pub(super) fn sum_by(&self, dimension: usize, later: u64, phase: Option<&Phase>) -> i64 {
        let gone = self.slots.iter().take_while(|(slot, _)| end(*slot, phase) <= later);
        self.sum[dimension] - gone.map(|(_, units)| units[dimension]).sum::<i64>()
    }

    /// When so much is forgotten as is there too much: `over`, which is more than 0.
    pub(super) fn when(&self, dimension: usize, mut over: i64, now: u64, phase: Option<&Phase>) -> When {
        for (slot, units) in &self.slots {
            over -= units[dimension];
            if over <= 0 {
                return When { wait: end(*slot, phase).saturating_sub(now), blocked: false };
            }
        }
        When { wait: 0, blocked: true }
    }
}

/// When all that ended in a slot is out of its window; if nobody knows when one begins, of every window.
fn end(slot: i64, phase: Option<&Phase>) -> u64 {
    let last = (slot + 1) * number(SLOT);
    u64::try_from(phase.map_or(last + number(WINDOW), |phase| phase.over(last))).unwrap_or(0)
}

pub(super) fn number(of: u64) -> i64 {
    i64::try_from(of).unwrap_or(i64::MAX)
}

fn plus(sum: &mut Units, units: &Units) {
    for (sum, units) in sum.iter_mut().zip(units) {
        *sum += units;
    }
}
