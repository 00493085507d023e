//! Places in the line.

use std::time::Duration;

use uuid::Uuid;

use crate::ports::{Asking, QuotaMode, Reserved};

use super::held::Held;
use super::{ASK_AGAIN, PLACE_GRACE, Pool, TTL, Units};

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
        let wait = self.until_kept(&place.units);
        if wait > 0 {
            self.drop_place(asking.ticket);
            self.hold_place(asking.ticket, place.units, wait);
            return later(wait);
        }
        self.drop_place(asking.ticket);
        let held = Held { units: place.units, since: self.now, is_place: false };
        self.holds.add(asking.call, held, self.now + TTL);
        Reserved::Granted
    }

    /// Until when somebody else keeps the rest back.
    pub(super) fn head_but(&self, ticket: Uuid) -> Option<u64> {
        let (head, _, until) = self.head?;
        (head != ticket && self.now < until).then_some(until)
    }

    pub(super) fn give_up_place(&mut self, ticket: Uuid) {
        if let Some(place) = self.drop_place(ticket) {
            self.release(&place.units, &[0; 4]);
        }
    }

    /// Until there is what a place was given for: more calls may have been charged for than was known then.
    fn until_kept(&self, units: &Units) -> u64 {
        if self.policy.mode == QuotaMode::Window {
            return 0;
        }
        let each = self.meters.iter().zip(units).filter(|(meter, units)| meter.is_limited() && **units > 0);
        each.map(|(meter, units)| meter.when_kept(*units)).max().unwrap_or(0)
    }

    pub(super) fn hold_place(&mut self, ticket: Uuid, units: Units, wait: u64) {
        let at = self.now + wait;
        for (meter, units) in self.meters.iter_mut().zip(units) {
            meter.placed += units;
        }
        self.holds.add(ticket, Held { units, since: at, is_place: true }, at + PLACE_GRACE);
    }

    fn drop_place(&mut self, ticket: Uuid) -> Option<Held> {
        let place = self.holds.remove(ticket)?;
        for (meter, units) in self.meters.iter_mut().zip(place.units) {
            meter.placed -= units;
        }
        Some(place)
    }
}
