//! A provider that counts exactly, in virtual milliseconds.

use std::time::Duration;

use millhand_common::ports::{LimitFact, LimitPolicy, QuotaMode};

const PARTS: i128 = 60_000;

const MINUTE: u64 = 60_000;
const SLICE: u64 = 10_000;

/// What it does that nobody configured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Manner {
    /// As configured, without a word.
    Silent,
    /// As configured; its headers say what is left, and until when.
    Telling,
    /// Of `max_tokens` all is charged when a call arrives, and nothing comes back.
    Arrival,
    /// It allows a sixth of the minute in each ten seconds, and tells of the minute.
    Slices,
}

/// Its limits are the ones configured; a bucket holds `burst_seconds` of refill.
pub(crate) struct Provider {
    policy: LimitPolicy,
    /// How long before time 0 the first window began.
    phase: u64,
    now: u64,
    level: [i128; 4],
    /// Of slices: what is left of the minute that headers tell of.
    minute: i128,
    /// The least that was ever left, in parts: below zero is an excess.
    pub(crate) lowest: [i128; 4],
    pub(crate) charged: [u64; 4],
    pub(crate) refused: u64,
    running: u32,
    pub(crate) most_running: u32,
    manner: Manner,
}

impl Provider {
    /// `full`: else with nothing left, as an earlier process may have left it.
    pub(crate) fn new(policy: LimitPolicy, phase: u64, full: bool, manner: Manner) -> Self {
        let mut provider = Self {
            policy,
            phase,
            now: 0,
            level: [0; 4],
            minute: 0,
            lowest: [i128::MAX; 4],
            charged: [0; 4],
            refused: 0,
            running: 0,
            most_running: 0,
            manner,
        };
        provider.minute = i128::from(provider.policy.per_minute[3].unwrap_or(0)) * PARTS;
        if full {
            provider.level = std::array::from_fn(|at| provider.capacity(at));
        }
        provider
    }

    fn capacity(&self, at: usize) -> i128 {
        let limit = i128::from(self.policy.per_minute[at].unwrap_or(0));
        match self.window() {
            None => (limit * i128::from(self.policy.burst_seconds) * 1000).max(PARTS),
            Some(width) => limit * i128::from(width) / i128::from(MINUTE) * PARTS,
        }
    }

    /// How long one lasts, if all comes back at once.
    fn window(&self) -> Option<u64> {
        match (self.manner, self.policy.mode) {
            (Manner::Slices, _) => Some(SLICE),
            (_, QuotaMode::Window) => Some(MINUTE),
            (_, QuotaMode::Bucket) => None,
        }
    }

    fn begins_anew(&self, now: u64, width: u64) -> bool {
        (now + self.phase) / width > (self.now + self.phase) / width
    }

    pub(crate) fn advance(&mut self, now: u64) {
        for at in 0..4 {
            let Some(limit) = self.policy.per_minute[at] else { continue };
            match self.window() {
                None => {
                    let refill = i128::from(limit) * i128::from(now - self.now);
                    self.level[at] = (self.level[at] + refill).min(self.capacity(at));
                }
                Some(width) => {
                    if self.begins_anew(now, width) {
                        self.level[at] = self.capacity(at);
                    }
                }
            }
        }
        if self.begins_anew(now, MINUTE) {
            self.minute = i128::from(self.policy.per_minute[3].unwrap_or(0)) * PARTS;
        }
        self.now = now;
    }

    /// What its headers say of input and output together.
    pub(crate) fn says(&self) -> LimitFact {
        let level = if self.manner == Manner::Slices { self.minute } else { self.level[3] };
        let remaining = u64::try_from(level.max(0) / PARTS).ok();
        let resets_in = self.window().map(|_| MINUTE - (self.now + self.phase) % MINUTE);
        let resets_in = resets_in.map(Duration::from_millis);
        LimitFact { limit: self.policy.per_minute[3], remaining, resets_in }
    }

    /// How long a call that is refused is told to wait.
    pub(crate) fn retry_after(&self, input: u64, max_output: u64) -> Duration {
        let missing = |at: usize| {
            let missing = i128::from(self.asked(input, max_output)[at]) * PARTS - self.level[at];
            let rate = i128::from(self.policy.per_minute[at]?);
            (missing > 0).then(|| match self.window() {
                None => u64::try_from(missing / rate + 1).unwrap(),
                Some(width) => width - (self.now + self.phase) % width,
            })
        };
        // What ends when is not known.
        Duration::from_millis((0..4).filter_map(missing).max().unwrap_or(1_000))
    }

    /// What must be there for a call to be let in.
    fn asked(&self, input: u64, max_output: u64) -> [u64; 4] {
        let output = if self.manner == Manner::Arrival { max_output } else { 1 };
        [1, input, output, input + output]
    }

    /// A call arrives: its request and its prompt are charged, or it is refused for nothing.
    pub(crate) fn admit(&mut self, now: u64, input: u64, max_output: u64) -> bool {
        self.advance(now);
        let asked = self.asked(input, max_output);
        let lacks = |at: usize| {
            self.policy.per_minute[at].is_some() && self.level[at] < i128::from(asked[at]) * PARTS
        };
        if (0..4).any(lacks) || self.policy.concurrency.is_some_and(|limit| self.running >= limit) {
            self.refused += 1;
            return false;
        }
        self.running += 1;
        self.most_running = self.most_running.max(self.running);
        let output = if self.manner == Manner::Arrival { max_output } else { 0 };
        self.charge([1, input, output, input + output]);
        true
    }

    /// It writes.
    pub(crate) fn write(&mut self, now: u64, tokens: u64) {
        self.advance(now);
        if self.manner != Manner::Arrival {
            self.charge([0, 0, tokens, tokens]);
        }
    }

    pub(crate) fn end(&mut self) {
        self.running -= 1;
    }

    fn charge(&mut self, units: [u64; 4]) {
        self.minute -= i128::from(units[3]) * PARTS;
        for (at, units) in units.into_iter().enumerate() {
            self.charged[at] += units;
            if self.policy.per_minute[at].is_some() {
                self.level[at] -= i128::from(units) * PARTS;
                self.lowest[at] = self.lowest[at].min(self.level[at]);
            }
        }
    }

    pub(crate) fn is_overdrawn(&self) -> bool {
        self.lowest.iter().any(|lowest| *lowest < 0)
    }
}
