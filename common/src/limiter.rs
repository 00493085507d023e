//! The decisions of a rate limiter. Pure: time comes in as an argument, so tests run hours of it in a
//! moment; `adapters::local` keeps one of these in memory, `adapters::redis` does the same in a script.
//!
//! # What is counted
//!
//! A provider charges a call at some moments between its grant and its settlement; which ones, and how
//! much, is known at the end only. Of each limit two things are kept (`meter.rs`):
//!
//! - the *pace*: a bucket of `burst_seconds`, charged when a call is granted. It spreads calls over time,
//!   and may go below zero: a large call pays afterwards.
//! - what is *sure* to be there, however late the provider charges. Of a bucket it is a lower bound of the
//!   provider's level less all that calls under way may still take. A call that ended is charged at its
//!   end; refill is counted only as far as the provider's bucket has room for it when nothing of what is
//!   under way has been charged yet. Of a window it is what is not under way and was not used by calls
//!   that ended less than a minute ago, so it is right for every phase of the window. Once its headers
//!   agree on when a window begins (`phase.rs`), calls that ended in the window before count no more.
//!
//! A call is granted when the pace allows it and all that it may take is sure to be there. So calls that
//! take no more than they reserved never overdraw a bucket or a window by one unit, at whatever moment
//! they are charged; a call that takes more is a debt that later calls wait for.
//!
//! # The line
//!
//! A call that has to wait gets a place: its quota is taken now and kept for it until its time, so the
//! ones behind it, large or small, come after it, and its worker may give the job back meanwhile. Nothing
//! is kept for a call that waits for others to end (nobody knows when that is), but the first of these
//! keeps the others back for a second after each time it asks, and is called when it could start.
//!
//! Jobs are pulled when their calls can start. Each pull is offered to one worker only: without that all of
//! them would come for the same room, and all but one would have come in vain.
//!
//! All arithmetic is in whole numbers below 2^53, which is what a script in Redis can count exactly: a
//! limit is per minute and time is in milliseconds, so one unit is 60,000 parts and a refill is exact.

mod forecast;
mod held;
mod learn;
mod levels;
mod line;
mod meter;
mod phase;
mod spent;
mod through;

use std::time::Duration;

use uuid::Uuid;

use crate::ports::{Asking, Dimension, LEASE_TTL, LimitPolicy, QuotaMode, Reserved, Used};
use forecast::Offers;
use held::{Held, Holds};
use meter::Meter;
use phase::Phase;
use spent::Spent;
use through::Through;

/// Places are given to calls that start within this: a whole bucket is full again by then. Only debts and
/// pauses take longer, and nobody keeps a place beyond those.
const LINE: u64 = 60_000;
/// A place that is not taken this long after its time is given up.
const PLACE_GRACE: u64 = 5_000;
/// When to ask again for what nobody can foretell.
const ASK_AGAIN: u64 = 100;
/// How long the first of those who wait for others to end keeps the rest back.
const HEAD: u64 = 1_000;
/// More time than this at once is taken for this.
const MOST_ELAPSED: u64 = 600_000;
/// No provider counts more than this for one call; it keeps sums exact.
const MOST_UNITS: u64 = 100_000_000_000;
const MOST: i64 = 100_000_000_000;

/// Units by [`Dimension::ALL`].
type Units = [i64; 4];

/// The quota of one pool. Times are in milliseconds, from any fixed moment; one that is earlier than the
/// last is taken for the last.
#[derive(Clone, Debug)]
pub struct Pool {
    policy: LimitPolicy,
    now: u64,
    paused_until: u64,
    /// Of the configured rate, in thousandths: refusals lower it, time raises it.
    share: i64,
    share_at: u64,
    /// The provider charges all that a call may write when it arrives, and nothing comes back.
    charges_whole: bool,
    /// How often on end it has shown the contrary.
    surpluses: u32,
    /// Who waits for others to end with how large a call, and keeps the rest back until when.
    head: Option<(Uuid, Units, u64)>,
    offers: Offers,
    meters: [Meter; 4],
    spent: Spent,
    phase: Phase,
    holds: Holds,
    /// Calls that were given up.
    expired: u64,
    through: Through,
}

/// When a call could start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct When {
    wait: u64,
    /// Not before some call ends.
    blocked: bool,
}

impl Pool {
    /// With nothing left at `now`: what earlier processes have used is not known.
    #[must_use]
    pub fn new(policy: LimitPolicy, now: u64) -> Self {
        let spent = match policy.mode {
            QuotaMode::Window => Spent::as_if_used(&policy, now),
            QuotaMode::Bucket => Spent::default(),
        };
        let mut pool = Self {
            policy,
            now,
            paused_until: 0,
            share: 1000,
            share_at: now,
            charges_whole: false,
            surpluses: 0,
            head: None,
            offers: Offers::default(),
            meters: [Meter::default(); 4],
            spent,
            phase: Phase::default(),
            holds: Holds::default(),
            expired: 0,
            through: Through::default(),
        };
        pool.through.advance(now);
        pool.renew_rates();
        pool
    }

    /// New limits. What is used stays used.
    pub fn set_policy(&mut self, policy: LimitPolicy) {
        self.policy = policy;
    }

    /// Asks for quota.
    pub fn reserve(&mut self, now: u64, asking: &Asking) -> Reserved {
        self.advance(now);
        if self.holds.has(asking.call) {
            return Reserved::Granted;
        }
        self.take_offer();
        let units = units(&asking.amounts.units());
        if let Some(never) = self.never(&units) {
            return never;
        }
        if let Some(place) = self.holds.get(asking.ticket) {
            if place.units == units {
                return self.take_place(asking, place);
            }
            self.give_up_place(asking.ticket);
        }
        for (meter, units) in self.meters.iter_mut().zip(units) {
            meter.note_typical(units);
        }
        if self.head_but(asking.ticket).is_some() {
            return park(ASK_AGAIN);
        }
        if self.is_full() {
            return park(ASK_AGAIN);
        }
        let paused = self.paused_until.saturating_sub(self.now);
        let When { wait, blocked } = self.when(&units);
        if blocked {
            self.head = Some((asking.ticket, units, self.now + HEAD));
            return park(wait.clamp(ASK_AGAIN, HEAD).max(paused));
        }
        // It is this one's turn; or it was another's, and that one has not come.
        self.head = None;
        if paused > 0 || wait > LINE {
            return park(wait.max(paused));
        }
        self.charge(&units);
        if wait == 0 {
            self.holds.add(asking.call, Held { units, since: self.now, is_place: false }, self.now + TTL);
            return Reserved::Granted;
        }
        self.hold_place(asking.ticket, units, wait);
        Reserved::At(Duration::from_millis(wait))
    }

    /// A call has ended.
    pub fn settle(&mut self, now: u64, call: Uuid, used: Used) {
        self.advance(now);
        let Some(held) = self.holds.get(call).filter(|held| !held.is_place) else {
            self.settle_late(call, used);
            return;
        };
        self.holds.remove(call);
        let taken = self.taken(&held.units, used);
        if matches!(used, Used::Exactly(_) | Used::Unknown) {
            self.through.add(&taken, self.now.saturating_sub(held.since));
        }
        self.release(&held.units, &taken);
    }

    /// A call that was given up in the meantime was charged all that it reserved: what it did not use comes
    /// back, but not into a window, where it has its place already.
    fn settle_late(&mut self, call: Uuid, used: Used) {
        let Some(units) = self.holds.take_late(call, self.now) else { return };
        let used = self.taken(&units, used);
        for (at, (reserved, used)) in units.into_iter().zip(used).enumerate() {
            self.meters[at].correct(reserved - used, self.policy.mode);
        }
    }

    /// A call goes on.
    pub fn extend(&mut self, now: u64, call: Uuid) {
        self.advance(now);
        if self.holds.has(call) {
            self.holds.keep(call, self.now + TTL);
        }
    }

    /// Why a call can never start.
    fn never(&self, units: &Units) -> Option<Reserved> {
        let over = Dimension::ALL.into_iter().find_map(|dimension| {
            let (meter, asked) = (&self.meters[dimension as usize], units[dimension as usize]);
            let limit = meter.base.max(meter.room);
            (meter.is_limited() && asked > limit).then_some((dimension, limit, asked))
        });
        over.map(|(dimension, limit, asked)| Reserved::Never {
            dimension,
            limit: limit.unsigned_abs(),
            asked: asked.unsigned_abs(),
        })
    }

    /// When the provider's windows begin, if that is known.
    fn window(&self) -> Option<&Phase> {
        Some(&self.phase).filter(|phase| phase.is_known(self.now))
    }

    fn is_full(&self) -> bool {
        self.policy.concurrency.is_some_and(|limit| self.holds.running >= i64::from(limit))
    }

    /// When a call of this size could start, apart from concurrency and pauses.
    fn when(&self, units: &Units) -> When {
        let (mut when, later) = (When::default(), self.placed_later(self.now));
        for (at, (meter, asked)) in self.meters.iter().zip(units).enumerate() {
            if !meter.is_limited() || *asked == 0 {
                continue;
            }
            let of_meter = match self.policy.mode {
                QuotaMode::Bucket => meter.when_sure(*asked),
                QuotaMode::Window => self.when_in_window(at, meter.held + asked, later[at]),
            };
            when.blocked |= of_meter.blocked;
            when.wait = when.wait.max(of_meter.wait).max(meter.when_paced(*asked));
        }
        when
    }

    /// When a window has room for all that is held and asked for. In this one there may be room at once: what is kept
    /// for a `later` one is not of it.
    fn when_in_window(&self, at: usize, held: i64, later: i64) -> When {
        let over = self.spent.sum(at) + held - self.meters[at].base;
        if over <= later { When::default() } else { self.spent.when(at, over, self.now, self.window()) }
    }

    fn taken(&self, reserved: &Units, used: Used) -> Units {
        match used {
            Used::Nothing => [0; 4],
            Used::Refused => [1, 0, 0, 0],
            Used::Unknown => *reserved,
            Used::Exactly(amounts) => {
                let [requests, input, output, _] = units(&amounts.units());
                let output = if self.charges_whole { output.max(reserved[2]) } else { output };
                [requests, input, output, (input + output).min(MOST)]
            }
        }
    }

    fn charge(&mut self, units: &Units) {
        for (meter, units) in self.meters.iter_mut().zip(units) {
            meter.hold(*units);
        }
    }

    /// What was reserved is no longer; what of it was used is used now.
    fn release(&mut self, reserved: &Units, used: &Units) {
        for (meter, (reserved, used)) in self.meters.iter_mut().zip(reserved.iter().zip(used)) {
            meter.release(*reserved, *used);
        }
        if self.policy.mode == QuotaMode::Window {
            self.spent.add(self.now, used);
        }
    }

    /// Brings everything to `now`.
    fn advance(&mut self, now: u64) {
        let elapsed = now.saturating_sub(self.now).min(MOST_ELAPSED);
        self.now = self.now.max(now);
        for meter in &mut self.meters {
            meter.refill(elapsed, self.policy.mode);
        }
        self.spent.forget(self.now, self.phase.is_known(self.now).then_some(&self.phase));
        self.recover();
        self.renew_rates();
        self.through.advance(self.now);
        while let Some((id, held)) = self.holds.next_overdue(self.now) {
            if held.is_place {
                self.give_up_place(id);
            } else {
                self.holds.remove(id);
                self.expired += 1;
                self.through.add(&held.units, self.now.saturating_sub(held.since));
                self.release(&held.units, &held.units);
                self.holds.add_late(id, held.units, self.now);
            }
        }
    }

    fn renew_rates(&mut self) {
        for (at, meter) in self.meters.iter_mut().enumerate() {
            meter.renew(self.policy.per_minute[at], self.policy.burst_seconds, self.share);
        }
    }
}

const TTL: u64 = LEASE_TTL.as_millis() as u64;

fn park(wait: u64) -> Reserved {
    Reserved::Park(Duration::from_millis(wait))
}

fn units(of: &[u64; 4]) -> Units {
    of.map(|units| i64::try_from(units.min(MOST_UNITS)).unwrap_or(i64::MAX))
}
