//! What the provider says changes what is believed, mostly downwards: all of it is hearsay.

use uuid::Uuid;

use crate::ports::{Dimension, LimitFact, LimitFacts, QuotaMode, Said};

use super::held::Held;
use super::meter::PARTS;
use super::spent::WINDOW;
use super::{MOST_UNITS, Pool, Units};

/// A higher limit is believed when it was told this often.
const SIGHTS: i64 = 3;
/// A provider that had a surplus this often on end does not charge at arrival.
const SURPLUSES: u32 = 20;
/// A refusal without a word how long it lasts.
const PAUSE: u64 = 1_000;
/// No provider is believed that asks for more.
const LONGEST_PAUSE: u64 = 15 * 60_000;
/// The pace after a refusal, of the one before, in percent; it never falls below the floor.
const LOWERED: i64 = 95;
const FLOOR: i64 = 500;
/// How often refusals count: a burst of them is one.
const LOWER_EVERY: u64 = 1_000;
/// How fast it comes back: by a hundredth of the whole for each minute without a refusal.
const RECOVER_EVERY: u64 = 60_000;
const RECOVERED: i64 = 10;

/// What is known of a call of which something was said.
struct Heard {
    /// When it was granted, if it is still under way.
    granted: Option<u64>,
    /// Of what it reserved, what the provider surely did not charge.
    uncharged: Units,
}

impl Pool {
    /// Learns from what the provider said to a call.
    pub fn observe(&mut self, now: u64, call: Uuid, said: &Said) {
        self.advance(now);
        let held = self.holds.get(call).filter(|held| !held.is_place);
        let heard = Heard {
            granted: held.map(|held| held.since),
            // A call that was refused was not charged; its request may have been.
            uncharged: match (said, held) {
                (Said::Limited { .. }, Some(Held { units: [_, input, output, both], .. })) => {
                    [0, input, output, both]
                }
                _ => [0; 4],
            },
        };
        let LimitFacts { requests, tokens, input_tokens, output_tokens } = said.facts();
        for (at, fact) in [requests, input_tokens, output_tokens, tokens].into_iter().enumerate() {
            self.learn_limit(at, fact);
        }
        self.renew_rates();
        for (at, fact) in [requests, input_tokens, output_tokens, tokens].into_iter().enumerate() {
            self.learn_level(at, fact, &heard);
        }
        self.renew_rates();
        if let Said::Limited { wait, .. } = said {
            let wait = wait.map_or(PAUSE, |wait| u64::try_from(wait.as_millis()).unwrap_or(u64::MAX));
            let wait = wait.min(LONGEST_PAUSE);
            self.paused_until = self.paused_until.max(self.now + wait);
            if self.share_at + LOWER_EVERY <= self.now || self.share == 1000 {
                self.share = (self.share * LOWERED / 100).max(FLOOR);
                self.share_at = self.now;
                self.renew_rates();
            }
        }
    }

    fn learn_limit(&mut self, at: usize, fact: &LimitFact) {
        let Some(limit) = fact.limit.filter(|limit| (1..=MOST_UNITS).contains(limit)) else { return };
        let (limit, meter) = (i64::try_from(limit).unwrap_or(i64::MAX), &mut self.meters[at]);
        if meter.told == 0 || limit < meter.told {
            (meter.told, meter.sights) = (limit, 0);
        } else if limit == meter.told {
            meter.sights = 0;
        } else if limit != meter.next || meter.sights == 0 {
            (meter.next, meter.sights) = (limit, 1);
        } else {
            meter.sights += 1;
            if meter.sights >= SIGHTS {
                (meter.told, meter.sights) = (limit, 0);
            }
        }
    }

    fn learn_level(&mut self, at: usize, fact: &LimitFact, heard: &Heard) {
        // The provider said this at most so long ago, or refill since then would be left out.
        let age = heard.granted.map_or(0, |granted| self.now.saturating_sub(granted));
        if self.policy.mode == QuotaMode::Window {
            self.learn_phase(at, fact, heard);
        }
        let Some(left) = fact.remaining else { return };
        let (left, meter) = (i64::try_from(left.min(MOST_UNITS)).unwrap_or(i64::MAX), &mut self.meters[at]);
        if !meter.is_limited() {
            return;
        }
        match self.policy.mode {
            QuotaMode::Bucket => {
                meter.seen = meter.seen.max(left);
                let refill = meter.rate * i64::try_from(age).unwrap_or(i64::MAX);
                let most = left.min(meter.base) * PARTS + refill;
                let call = meter.typical() * PARTS;
                // Gone from what is sure, and surely not charged when this was said.
                let uncharged = (meter.placed + heard.uncharged[at]) * PARTS;
                let is_short = most + call / 4 < meter.sure + uncharged;
                // While refill is counted at less than the limit there is a surplus whatever is charged.
                let is_surplus = self.share == 1000 && most > meter.sure + meter.held * PARTS + 4 * call;
                // Prompts of calls under way were charged as they are and will be settled so: what was reserved
                // beyond comes back though it was never gone from what is left.
                let kept = if self.charges_whole { call / 4 } else { 0 };
                meter.bound(most - uncharged - kept);
                if at >= Dimension::OutputTokens as usize {
                    self.learn_charge(is_short, is_surplus);
                }
            }
            QuotaMode::Window => {
                // Of a window that is over nothing is left to learn.
                let is_over = fact.resets_in.is_none_or(|reset| reset.as_millis() <= u128::from(age));
                let foreign = meter.base - left - self.spent.sum(at) - meter.held;
                if foreign > 0 && !is_over {
                    let mut units = [0; 4];
                    units[at] = foreign;
                    self.spent.add(self.now, &units);
                }
            }
        }
    }

    /// Several limits are counted in windows of their own, so they all have to agree.
    fn learn_phase(&mut self, at: usize, fact: &LimitFact, heard: &Heard) {
        let reset = fact.resets_in.and_then(|reset| u64::try_from(reset.as_millis()).ok());
        let reset = reset.filter(|reset| (1..=WINDOW).contains(reset));
        if let (Some(granted), Some(reset), true) = (heard.granted, reset, self.meters[at].is_limited()) {
            self.phase.sight(granted, self.now, reset);
        }
    }

    /// Less is left than was sure to be there: the provider charges more than calls use. It is what it
    /// does that charges `max_tokens` at arrival, as most do. More is left than there could be if calls
    /// under way had taken nothing yet: it does not.
    fn learn_charge(&mut self, is_short: bool, is_surplus: bool) {
        if is_short {
            (self.charges_whole, self.surpluses) = (true, 0);
        } else if is_surplus {
            self.surpluses += 1;
            if self.surpluses >= SURPLUSES {
                (self.charges_whole, self.surpluses) = (false, 0);
            }
        } else {
            self.surpluses = 0;
        }
    }

    pub(super) fn recover(&mut self) {
        let minutes = self.now.saturating_sub(self.share_at) / RECOVER_EVERY;
        if minutes > 0 {
            let recovered = i64::try_from(minutes).unwrap_or(i64::MAX).min(100) * RECOVERED;
            self.share = (self.share + recovered).min(1000);
            self.share_at += minutes * RECOVER_EVERY;
        }
    }
}
