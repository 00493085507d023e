//! Places in the line.

use std::time::Duration;

use uuid::Uuid;

use crate::ports::{Asking, QuotaMode, Reserved};

use super::held::Held;
use super::spent::number;
use super::{ASK_AGAIN, PLACE_GRACE, Pool, TTL, Units, When};

impl Pool {
    /// What a place that was given becomes.
    pub(super) fn take_place(&mut self, asking: &Asking, place: Held) -> Reserved {
        let later = |wait| Reserved::At(Duration::from_millis(wait));
        if place.since > self.now {
            return later(place.since - self.now);
        }
        let paused = self.paused_until.saturating_sub(self.now);
        let When { wait, blocked } = self.when_kept(&place.units);
        if paused > 0 || blocked || self.is_full() {
            let wait = paused.max(ASK_AGAIN);
            self.holds.keep(asking.ticket, self.now + wait + PLACE_GRACE);
            return later(wait);
        }
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

    /// When there is what a place was given for: more may have been charged than was known then, and calls of the
    /// window before may still be under way.
    fn when_kept(&self, units: &Units) -> When {
        let mut when = When::default();
        for (at, (meter, asked)) in self.meters.iter().zip(units).enumerate() {
            if !meter.is_limited() || *asked == 0 {
                continue;
            }
            let of_meter = match self.policy.mode {
                QuotaMode::Bucket => When { wait: meter.when_kept(*asked), blocked: false },
                QuotaMode::Window => self.when_in_window(at, meter.held - meter.placed + asked, 0),
            };
            when.blocked |= of_meter.blocked;
            when.wait = when.wait.max(of_meter.wait);
        }
        when
    }

    /// What is kept for places in windows after that of `at`, if it is known when one begins.
    pub(super) fn placed_later(&self, at: u64) -> Units {
        match self.window() {
            Some(phase) if self.policy.mode == QuotaMode::Window => {
                let end = u64::try_from(phase.over(number(at))).unwrap_or(0);
                self.holds.placed_from(end)
            }
            _ => [0; 4],
        }
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
