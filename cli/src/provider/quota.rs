//! What a provider allows. Pure: time comes in as an argument, so tests run hours of it in a moment.
//!
//! All arithmetic is in whole numbers: a limit is per minute and time is in microseconds, so one unit
//! is 60,000,000 parts and a refill is exact.

mod meter;
#[cfg(test)]
mod tests;

use std::time::Duration;

use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};

use meter::Meter;

/// How quota comes back, and what a call costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Mode {
    /// Refills all the time, up to `burst_seconds` of refill; tokens cost what they are
    Bucket,
    /// Full again at each fixed minute, whose beginning nobody is told; tokens cost what they are
    Window,
    /// A sixth of the minute in each ten seconds, while the headers tell of the minute only
    Slices,
    /// As bucket; a call costs its prompt and its whole max_tokens at arrival, whatever it writes
    Arrival,
}

/// What a call costs, against the mode's own way.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Charge {
    /// Its prompt at arrival, what it writes as it is written
    Actual,
    /// Its prompt and its whole max_tokens at arrival
    Arrival,
}

/// The rules of one provider. A limit that is absent does not limit.
#[derive(Clone, Copy, Debug, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rules {
    /// How quota comes back, and what a call costs
    #[arg(long, value_name = "MODE", default_value = "bucket")]
    pub(crate) mode: Mode,
    /// What a call costs, if not as the mode has it
    #[arg(long, value_name = "WHAT")]
    pub(crate) charge: Option<Charge>,
    /// Refill that a bucket holds, in seconds
    #[arg(long, value_name = "N", default_value_t = 60, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) burst_seconds: u64,
    #[arg(long, value_name = "N")]
    pub(crate) requests_per_minute: Option<u64>,
    /// Input and output together
    #[arg(long, value_name = "N")]
    pub(crate) tokens_per_minute: Option<u64>,
    #[arg(long, value_name = "N")]
    pub(crate) input_tokens_per_minute: Option<u64>,
    #[arg(long, value_name = "N")]
    pub(crate) output_tokens_per_minute: Option<u64>,
    /// Calls that may run at a time
    #[arg(long, value_name = "N")]
    pub(crate) concurrency: Option<u32>,
}

impl Rules {
    fn charge(&self) -> Charge {
        self.charge.unwrap_or(match self.mode {
            Mode::Bucket | Mode::Window | Mode::Slices => Charge::Actual,
            Mode::Arrival => Charge::Arrival,
        })
    }

    fn per_minute(&self, dimension: Dimension) -> Option<u64> {
        match dimension {
            Dimension::Requests => self.requests_per_minute,
            Dimension::Tokens => self.tokens_per_minute,
            Dimension::InputTokens => self.input_tokens_per_minute,
            Dimension::OutputTokens => self.output_tokens_per_minute,
        }
    }
}

/// What is limited per minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Dimension {
    Requests,
    Tokens,
    InputTokens,
    OutputTokens,
}

impl Dimension {
    pub(crate) const ALL: [Self; 4] = [Self::Requests, Self::Tokens, Self::InputTokens, Self::OutputTokens];
}

/// What a call asks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Ask {
    pub(crate) input: u64,
    /// The most it may write; 0 for calls that write nothing.
    pub(crate) max_output: u64,
}

/// Why a call is not let in. A refusal costs nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Refusal {
    /// The same call alone is let in after `wait`.
    Later { dimension: Dimension, limit: u64, left: i64, asked: u64, wait: Duration },
    /// It is larger than all there can ever be.
    Never { dimension: Dimension, limit: u64, asked: u64 },
    /// Too many calls run.
    Busy { limit: u32 },
}

/// One limit as a caller may be told of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Shown {
    pub(crate) dimension: Dimension,
    pub(crate) limit: u64,
    /// Negative when calls wrote more than there was.
    pub(crate) left: i64,
    /// Until it is full again.
    pub(crate) reset: Duration,
}

/// One limit as its owner counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct Counted {
    pub(crate) dimension: Dimension,
    pub(crate) per_minute: u64,
    /// Units charged since the start.
    pub(crate) charged: u64,
    pub(crate) left: i64,
    /// The most units by which calls were ever over the limit.
    pub(crate) overdrawn: u64,
}

/// The state of all limits.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Quota {
    rules: Rules,
    /// Of windows and slices: how long before the start the first one began.
    phase: u64,
    /// By [`Dimension::ALL`].
    meters: [Option<Meter>; 4],
    /// Hidden slices are judged by the meters; these are the minutes that the headers tell of.
    minutes: [Option<Meter>; 4],
    running: u32,
}

impl Quota {
    /// Full at time 0. `phase` is in microseconds.
    pub(crate) fn new(rules: Rules, phase: u64) -> Self {
        let meter = |mode| {
            Dimension::ALL.map(|dimension| {
                Some(Meter::new(mode, rules.per_minute(dimension)?, rules.burst_seconds, phase))
            })
        };
        let minutes = if rules.mode == Mode::Slices { meter(Mode::Window) } else { [None; 4] };
        Self { rules, phase, meters: meter(rules.mode), minutes, running: 0 }
    }

    /// Lets a call in and charges it, or does neither.
    pub(crate) fn admit(&mut self, now: u64, ask: Ask) -> Result<(), Refusal> {
        self.advance(now);
        if let Some(limit) = self.rules.concurrency.filter(|limit| self.running >= *limit) {
            return Err(Refusal::Busy { limit });
        }
        let asked = self.asked(ask);
        let refusals = Dimension::ALL.iter().zip(&self.meters).zip(asked);
        let refused = refusals
            .filter_map(|((dimension, meter), asked)| meter.as_ref()?.refusal(*dimension, asked, now))
            .max_by_key(|refusal| match refusal {
                Refusal::Later { wait, .. } => *wait,
                Refusal::Never { .. } | Refusal::Busy { .. } => Duration::MAX,
            });
        if let Some(refusal) = refused {
            return Err(refusal);
        }
        self.charge(self.at_arrival(ask));
        self.running += 1;
        Ok(())
    }

    /// Charges what a call that was let in has written.
    pub(crate) fn wrote(&mut self, now: u64, tokens: u64) {
        self.advance(now);
        if self.rules.charge() == Charge::Actual {
            self.charge([0, tokens, 0, tokens]);
        }
    }

    /// A call that was let in has ended.
    pub(crate) fn ended(&mut self) {
        self.running = self.running.saturating_sub(1);
    }

    pub(crate) fn running(&self) -> u32 {
        self.running
    }

    /// New rules. What was used stays used: a changed limit is no fresh quota.
    pub(crate) fn change(&mut self, now: u64, rules: Rules) {
        self.advance(now);
        let mut changed = Self::new(rules, self.phase);
        changed.advance(now);
        changed.running = self.running;
        let carry = |new: &mut [Option<Meter>; 4], old: &[Option<Meter>; 4]| {
            for (new, old) in new.iter_mut().zip(old) {
                if let (Some(new), Some(old)) = (new, old) {
                    new.carry(old);
                }
            }
        };
        carry(&mut changed.meters, &self.meters);
        carry(&mut changed.minutes, &self.minutes);
        *self = changed;
    }

    /// What headers tell.
    pub(crate) fn shown(&mut self, now: u64) -> Vec<Shown> {
        self.advance(now);
        let meters = if self.rules.mode == Mode::Slices { &self.minutes } else { &self.meters };
        let all = Dimension::ALL.iter().zip(meters);
        all.filter_map(|(dimension, meter)| Some(meter.as_ref()?.shown(*dimension, now))).collect()
    }

    /// What the ledger tells.
    pub(crate) fn counted(&mut self, now: u64) -> Vec<Counted> {
        self.advance(now);
        let all = Dimension::ALL.iter().zip(&self.meters);
        all.filter_map(|(dimension, meter)| Some(meter.as_ref()?.counted(*dimension))).collect()
    }

    fn advance(&mut self, now: u64) {
        for meter in self.meters.iter_mut().chain(&mut self.minutes).flatten() {
            meter.advance(now);
        }
    }

    fn charge(&mut self, units: [u64; 4]) {
        for meters in [&mut self.meters, &mut self.minutes] {
            for (meter, units) in meters.iter_mut().zip(units) {
                if let Some(meter) = meter {
                    meter.charge(units);
                }
            }
        }
    }

    /// What must be there for the call to be let in.
    fn asked(&self, ask: Ask) -> [u64; 4] {
        match self.rules.charge() {
            Charge::Arrival => self.at_arrival(ask),
            // Whoever is going to write needs room for a first token.
            Charge::Actual => [1, ask.input + ask.max_output.min(1), ask.input, ask.max_output.min(1)],
        }
    }

    fn at_arrival(&self, ask: Ask) -> [u64; 4] {
        match self.rules.charge() {
            Charge::Arrival => [1, ask.input + ask.max_output, ask.input, ask.max_output],
            Charge::Actual => [1, ask.input, ask.input, 0],
        }
    }
}
