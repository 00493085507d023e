//! A provider that counts exactly, in virtual milliseconds.

use millhand_common::ports::{LimitPolicy, QuotaMode};

const PARTS: i128 = 60_000;

/// Its limits are the ones configured; a bucket holds `burst_seconds` of refill.
pub(crate) struct Provider {
    policy: LimitPolicy,
    /// How long before time 0 the first window began.
    phase: u64,
    now: u64,
    level: [i128; 4],
    /// The least that was ever left, in parts: below zero is an excess.
    pub(crate) lowest: [i128; 4],
    pub(crate) charged: [u64; 4],
    pub(crate) refused: u64,
    running: u32,
    pub(crate) most_running: u32,
    /// Of `max_tokens` all is charged when a call arrives.
    pub(crate) charges_whole: bool,
}

impl Provider {
    /// `full`: else with nothing left, as an earlier process may have left it.
    pub(crate) fn new(policy: LimitPolicy, phase: u64, full: bool) -> Self {
        let mut provider = Self {
            policy,
            phase,
            now: 0,
            level: [0; 4],
            lowest: [i128::MAX; 4],
            charged: [0; 4],
            refused: 0,
            running: 0,
            most_running: 0,
            charges_whole: false,
        };
        if full {
            provider.level = std::array::from_fn(|at| provider.capacity(at));
        }
        provider
    }

    fn capacity(&self, at: usize) -> i128 {
        let limit = i128::from(self.policy.per_minute[at].unwrap_or(0));
        match self.policy.mode {
            QuotaMode::Bucket => (limit * i128::from(self.policy.burst_seconds) * 1000).max(PARTS),
            QuotaMode::Window => limit * PARTS,
        }
    }

    pub(crate) fn advance(&mut self, now: u64) {
        for at in 0..4 {
            let Some(limit) = self.policy.per_minute[at] else { continue };
            match self.policy.mode {
                QuotaMode::Bucket => {
                    let refill = i128::from(limit) * i128::from(now - self.now);
                    self.level[at] = (self.level[at] + refill).min(self.capacity(at));
                }
                QuotaMode::Window => {
                    if (now + self.phase) / 60_000 > (self.now + self.phase) / 60_000 {
                        self.level[at] = self.capacity(at);
                    }
                }
            }
        }
        self.now = now;
    }

    /// What its headers say is left of input and output together.
    pub(crate) fn left(&self) -> u64 {
        u64::try_from(self.level[3].max(0) / PARTS).unwrap()
    }

    /// A call arrives: its request and its prompt are charged, or it is refused for nothing.
    pub(crate) fn admit(&mut self, now: u64, input: u64, max_output: u64) -> bool {
        self.advance(now);
        let output = if self.charges_whole { max_output } else { 1 };
        let asked = [1, input, output, input + output];
        let lacks = |at: usize| {
            self.policy.per_minute[at].is_some() && self.level[at] < i128::from(asked[at]) * PARTS
        };
        if (0..4).any(lacks) || self.policy.concurrency.is_some_and(|limit| self.running >= limit) {
            self.refused += 1;
            return false;
        }
        self.running += 1;
        self.most_running = self.most_running.max(self.running);
        let output = if self.charges_whole { max_output } else { 0 };
        self.charge([1, input, output, input + output]);
        true
    }

    /// It writes.
    pub(crate) fn write(&mut self, now: u64, tokens: u64) {
        self.advance(now);
        if !self.charges_whole {
            self.charge([0, 0, tokens, tokens]);
        }
    }

    pub(crate) fn end(&mut self) {
        self.running -= 1;
    }

    fn charge(&mut self, units: [u64; 4]) {
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
