//! Jobs at a rate that does not wait for answers: nine small prompts, then one that is twenty times as long.

use std::time::Duration;

use millhand_common::model::Timestamp;
use tokio::time::Instant;

/// Times of a quick model: a call takes a second.
pub(super) const PHYSICS: [&str; 4] = ["--first-token", "300ms", "--per-token", "20ms"];
/// What an answer is long, and what it may be.
pub(super) const OUTPUT_TOKENS: u64 = 35;
pub(super) const MAX_OUTPUT_TOKENS: u64 = 100;
/// Load as a multiple of what the quota allows.
pub(super) const OVERLOAD: f64 = 1.5;

const LARGE_EVERY: u32 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Size {
    Small,
    Large,
}

impl Size {
    fn of(n: u32) -> Self {
        if n % LARGE_EVERY == LARGE_EVERY - 1 { Self::Large } else { Self::Small }
    }

    pub(super) fn share(self) -> f64 {
        match self {
            Self::Small => 1.0 - 1.0 / f64::from(LARGE_EVERY),
            Self::Large => 1.0 / f64::from(LARGE_EVERY),
        }
    }

    /// As the provider counts a prompt.
    pub(super) fn input_tokens(self) -> u64 {
        const PER_MESSAGE: u64 = 4;
        PER_MESSAGE + self.characters() as u64 / 4
    }

    fn characters(self) -> usize {
        match self {
            Self::Small => 400,
            Self::Large => 8_000,
        }
    }
}

/// One job.
#[derive(Clone, Copy, Debug)]
pub(super) struct Job {
    pub(super) n: u32,
    pub(super) size: Size,
    pub(super) due: Duration,
}

impl Job {
    /// No other is the same.
    pub(super) fn question(self) -> String {
        let head = format!("job {} tokens={OUTPUT_TOKENS} ", self.n);
        let rest = self.size.characters() - head.len();
        head + &"word ".repeat(rest.div_ceil(5))[..rest]
    }

    /// Leads from a call in the ledger to its job.
    pub(super) fn traceparent(self) -> String {
        format!("00-{:032x}-{:016x}-01", (1_u128 << 64) + u128::from(self.n), 1)
    }

    /// The number of the job that a call belongs to.
    pub(super) fn of_trace(traceparent: &str) -> Option<u32> {
        u32::from_str_radix(traceparent.split('-').nth(1)?.get(16..)?, 16).ok()
    }
}

/// Jobs that come evenly, `rate` a second for so long.
pub(super) fn jobs(rate: f64, length: Duration) -> Vec<Job> {
    let count = (rate * length.as_secs_f64()) as u32;
    let job = |n| Job { n, size: Size::of(n), due: Duration::from_secs_f64(f64::from(n) / rate) };
    (0..count).map(job).collect()
}

/// The moment from which jobs are due, on both clocks.
#[derive(Clone, Copy, Debug)]
pub(super) struct Start {
    pub(super) at: Instant,
    pub(super) wall: Timestamp,
}

impl Start {
    pub(super) fn now() -> Self {
        Self { at: Instant::now(), wall: Timestamp::now() }
    }
}
