//! Places in the line.

use std::time::Duration;

use uuid::Uuid;

use crate::ports::{Asking, Reserved};

use super::held::Held;
use super::{ASK_AGAIN, PLACE_GRACE, Pool, TTL};

impl Pool {
    /// What a place that was given becomes.
    pub(super) fn take_place(&mut self, asking: &Asking, place: Held) -> Reserved {
        let later = |wait| Reserved::At(Duration::from_millis(wait));
        if place.since > self.now {
            return later(place.since - self.now);
        }
        let paused = self.paused_until.saturating_sub(self.now);
        if paused > 0 || self.is_full() {
            let wait = paused.max(ASK_AGAIN);
            self.holds.keep(asking.ticket, self.now + wait + PLACE_GRACE);
            return later(wait);
        }
        self.holds.remove(asking.ticket);
        let held = Held { units: place.units, since: self.now, is_place: false };
        self.holds.add(asking.call, held, self.now + TTL);
        Reserved::Granted
    }

    /// Until when somebody else keeps the rest back.
    pub(super) fn head_but(&self, ticket: Uuid) -> Option<u64> {
        let (head, until) = self.head?;
        (head != ticket && self.now < until).then_some(until)
    }

    pub(super) fn give_up_place(&mut self, ticket: Uuid) {
        if let Some(place) = self.holds.remove(ticket) {
            self.release(&place.units, &[0; 4]);
        }
    }
}
