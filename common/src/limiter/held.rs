//! What is reserved, by whom, until when.

use std::collections::{BTreeSet, HashMap, VecDeque};

use uuid::Uuid;

use super::Units;

/// How long a call that was given up can still be corrected.
const LATE: u64 = 3_600_000;

/// A granted call, or a place in the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Held {
    pub(super) units: Units,
    /// Of a call: when it was granted; of a place: when it may start.
    pub(super) since: u64,
    pub(super) is_place: bool,
}

#[derive(Clone, Debug, Default)]
pub(super) struct Holds {
    by_id: HashMap<Uuid, (Held, u64)>,
    by_end: BTreeSet<(u64, Uuid)>,
    /// Calls, without places.
    pub(super) running: i64,
    late: HashMap<Uuid, (Units, u64)>,
    late_order: VecDeque<(u64, Uuid)>,
}

impl Holds {
    pub(super) fn has(&self, id: Uuid) -> bool {
        self.by_id.contains_key(&id)
    }

    pub(super) fn get(&self, id: Uuid) -> Option<Held> {
        self.by_id.get(&id).map(|(held, _)| *held)
    }

    pub(super) fn add(&mut self, id: Uuid, held: Held, until: u64) {
        self.running += i64::from(!held.is_place);
        self.by_id.insert(id, (held, until));
        self.by_end.insert((until, id));
    }

    pub(super) fn remove(&mut self, id: Uuid) -> Option<Held> {
        let (held, until) = self.by_id.remove(&id)?;
        self.by_end.remove(&(until, id));
        self.running -= i64::from(!held.is_place);
        Some(held)
    }

    pub(super) fn keep(&mut self, id: Uuid, until: u64) {
        if let Some((_, end)) = self.by_id.get_mut(&id) {
            self.by_end.remove(&(*end, id));
            *end = until;
            self.by_end.insert((until, id));
        }
    }

    /// One whose time is over; it stays until it is removed.
    pub(super) fn next_overdue(&self, now: u64) -> Option<(Uuid, Held)> {
        let (end, id) = *self.by_end.first()?;
        if end > now {
            return None;
        }
        Some((id, self.get(id)?))
    }

    pub(super) fn places_by(&self, at: u64) -> u64 {
        let ripe = |(held, _): &&(Held, u64)| held.is_place && held.since <= at;
        self.by_id.values().filter(ripe).count() as u64
    }

    /// When the first place after `at` is to be taken.
    pub(super) fn next_place(&self, at: u64) -> Option<u64> {
        let later = |(held, _): &&(Held, u64)| held.is_place && at < held.since;
        self.by_id.values().filter(later).map(|(held, _)| held.since).min()
    }

    /// What all places together hold that are to be taken at `at` or after.
    pub(super) fn placed_from(&self, at: u64) -> Units {
        let later = self.by_id.values().filter(|(held, _)| held.is_place && at <= held.since);
        later.fold([0; 4], |sums, (held, _)| std::array::from_fn(|of| sums[of] + held.units[of]))
    }

    pub(super) fn add_late(&mut self, id: Uuid, units: Units, now: u64) {
        self.late.insert(id, (units, now + LATE));
        self.late_order.push_back((now + LATE, id));
        while let Some((end, id)) = self.late_order.front().copied()
            && end <= now
        {
            self.late_order.pop_front();
            self.late.remove(&id);
        }
    }

    pub(super) fn take_late(&mut self, id: Uuid, now: u64) -> Option<Units> {
        let (units, end) = self.late.remove(&id)?;
        (now < end).then_some(units)
    }
}
