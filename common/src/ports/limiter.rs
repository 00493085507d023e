//! The provider's quota, shared by all workers: who may call a model now, and who comes when.

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::{Levels, LimitFacts, StoreError};

/// What is limited per minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dimension {
    Requests,
    InputTokens,
    OutputTokens,
    /// Input and output together.
    Tokens,
}

impl Dimension {
    pub const ALL: [Self; 4] = [Self::Requests, Self::InputTokens, Self::OutputTokens, Self::Tokens];

    /// As messages and metrics name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::InputTokens => "input_tokens",
            Self::OutputTokens => "output_tokens",
            Self::Tokens => "tokens",
        }
    }
}

/// How a provider gives quota back.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum QuotaMode {
    /// All the time, into a bucket.
    #[default]
    Bucket,
    /// All at once, each minute; nobody says when the minute begins.
    Window,
}

/// The limits of one pool: one model of one account, over all workers together. A limit that is absent
/// does not limit, until the provider's headers tell of one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LimitPolicy {
    /// By [`Dimension::ALL`].
    pub per_minute: [Option<u64>; 4],
    /// Calls under way at a time.
    pub concurrency: Option<u32>,
    pub mode: QuotaMode,
    /// How much refill the provider's bucket holds, and so how much may be started at once. Headers may
    /// tell that it holds more.
    pub burst_seconds: u32,
}

impl LimitPolicy {
    /// Numbers larger than this could not be counted exactly.
    pub const MOST_PER_MINUTE: u64 = 10_000_000_000;

    #[must_use]
    pub fn per_minute(&self, dimension: Dimension) -> Option<u64> {
        self.per_minute[dimension as usize]
    }

    /// Whether how much a call writes is limited.
    #[must_use]
    pub fn limits_output(&self) -> bool {
        self.per_minute(Dimension::OutputTokens).or(self.per_minute(Dimension::Tokens)).is_some()
    }
}

/// What a call takes, or took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Amounts {
    pub requests: u64,
    pub input_tokens: u64,
    pub output_tokens: u64,
}

impl Amounts {
    /// One call.
    #[must_use]
    pub fn call(input_tokens: u64, output_tokens: u64) -> Self {
        Self { requests: 1, input_tokens, output_tokens }
    }

    /// By [`Dimension::ALL`].
    #[must_use]
    pub fn units(&self) -> [u64; 4] {
        let Self { requests, input_tokens, output_tokens } = *self;
        [requests, input_tokens, output_tokens, input_tokens + output_tokens]
    }
}

/// Who asks for quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Asking {
    /// New for each call that is sent; asking again with it answers the same.
    pub call: Uuid,
    /// The same for all tries of one step: a place in the line that was given to one is kept for the next.
    pub ticket: Uuid,
    /// Upper bounds.
    pub amounts: Amounts,
}

/// What was answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reserved {
    /// Send it now: within [`GRANT_TTL`], or give it back.
    Granted,
    /// Not now; its quota is kept for it, and it is granted when asked for after this long.
    At(Duration),
    /// Not now, nothing is kept: ask again after this long.
    Park(Duration),
    /// It asks for more than there can ever be.
    Never { dimension: Dimension, limit: u64, asked: u64 },
}

/// What a call has taken, as far as is known.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Used {
    /// It was not sent.
    Nothing,
    /// The provider did not let it in.
    Refused,
    /// As the provider counted; more than was reserved is a debt.
    Exactly(Amounts),
    /// It broke off: all that was reserved is taken for used.
    Unknown,
}

/// What a provider said to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Said {
    /// With its answer.
    Answered(LimitFacts),
    /// 429. `wait` as it asked for, if it did.
    Limited { wait: Option<Duration>, facts: LimitFacts },
}

impl Said {
    #[must_use]
    pub fn facts(&self) -> &LimitFacts {
        match self {
            Self::Answered(facts) | Self::Limited { facts, .. } => facts,
        }
    }
}

/// Whether it is worth to start something that will call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forecast {
    /// Calls of the size asked for lately that could start within [`GATE_HORIZON`].
    pub calls: u32,
    /// Until there is one; zero when there is. It may come sooner, when calls end.
    pub opens_in: Duration,
}

/// Which limit binds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    PerMinute(Dimension),
    Concurrency,
}

impl Limit {
    /// All of them, in the order that adapters number them.
    pub const ALL: [Self; 5] = [
        Self::PerMinute(Dimension::Requests),
        Self::PerMinute(Dimension::InputTokens),
        Self::PerMinute(Dimension::OutputTokens),
        Self::PerMinute(Dimension::Tokens),
        Self::Concurrency,
    ];

    /// What it is of, as metrics name it.
    #[must_use]
    pub fn dimension(self) -> &'static str {
        match self {
            Self::PerMinute(dimension) => dimension.as_str(),
            Self::Concurrency => "concurrency",
        }
    }

    /// As reasons name it.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::PerMinute(Dimension::Requests) => "requests/min",
            Self::PerMinute(Dimension::InputTokens) => "input tokens/min",
            Self::PerMinute(Dimension::OutputTokens) => "output tokens/min",
            Self::PerMinute(Dimension::Tokens) => "tokens/min",
            Self::Concurrency => "calls at a time",
        }
    }
}

/// What the limiter lets through.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Quota {
    /// The limit that binds first.
    pub limit: Limit,
    /// Calls that it lets start, per second, in the long run and of the size that calls had lately.
    pub calls_per_second: f64,
    /// The share of it that was used during the last minute, 0 to 1.
    pub used: f64,
}

impl Quota {
    /// Of so many `units` a minute, when a call takes `per_call` of them and so many calls ended within the
    /// last minute.
    #[must_use]
    pub fn new(limit: Limit, units: u64, per_call: u64, recent: u64) -> Self {
        let per_minute = units as f64 / per_call.max(1) as f64;
        let used = if per_minute > 0.0 { (recent as f64 / per_minute).min(1.0) } else { 1.0 };
        Self { limit, calls_per_second: per_minute / 60.0, used }
    }

    /// What several pools let through together, named after the widest; `None` when there is none, or one of them
    /// is not known to be limited.
    #[must_use]
    pub fn together(pools: &[Option<Self>]) -> Option<Self> {
        let pools: Vec<Self> = pools.iter().copied().collect::<Option<_>>()?;
        let widest = pools.iter().max_by(|a, b| a.calls_per_second.total_cmp(&b.calls_per_second))?;
        let calls_per_second: f64 = pools.iter().map(|pool| pool.calls_per_second).sum();
        let in_use: f64 = pools.iter().map(|pool| pool.calls_per_second * pool.used).sum();
        let used = if calls_per_second > 0.0 { in_use / calls_per_second } else { 1.0 };
        Some(Self { limit: widest.limit, calls_per_second, used })
    }
}

/// A grant that is not sent within this is given back: it may have been granted for another minute.
pub const GRANT_TTL: Duration = Duration::from_millis(250);
/// Work is pulled when its call is expected to start within this: about what it takes to pull it. Whoever
/// comes earlier waits in a slot.
pub const GATE_HORIZON: Duration = Duration::from_millis(50);
/// A call whose worker has not said for this long that it goes on is taken for ended, with all that it
/// reserved.
pub const LEASE_TTL: Duration = Duration::from_secs(30);
/// How often a worker says that a call goes on.
pub const EXTEND_EVERY: Duration = Duration::from_secs(8);

/// The quota of one pool. Every operation is atomic, on one clock, and may be repeated.
///
/// What it promises, over all processes that share it: as long as calls take at most what they reserved,
/// the provider's own count never goes over a limit, whenever between grant and settlement the provider
/// counts a call. The exception is a call that is larger than the provider's bucket is known to be: it
/// starts alone, from a full bucket.
#[async_trait]
pub trait RateLimiter: Send + Sync {
    /// Asks for quota. A refusal changes nothing but the line. May be dropped: quota that was granted
    /// comes back after [`LEASE_TTL`].
    async fn reserve(&self, asking: &Asking) -> Result<Reserved, StoreError>;

    /// A granted call has ended. A second time nothing happens.
    async fn settle(&self, call: Uuid, used: Used) -> Result<(), StoreError>;

    /// A granted call goes on.
    async fn extend(&self, call: Uuid) -> Result<(), StoreError>;

    /// Learns from what the provider said to a call.
    async fn observe(&self, call: Uuid, said: &Said) -> Result<(), StoreError>;

    /// What could start now. Changes nothing.
    async fn forecast(&self) -> Result<Forecast, StoreError>;

    /// The same for one that pulls jobs: `most` calls at most, and not what was offered to others a moment
    /// ago. An offer is no promise; the next to reserve is taken to come for the oldest one. May be dropped:
    /// what was offered is offered again a tenth of a second later.
    async fn offer(&self, most: u32) -> Result<Forecast, StoreError>;

    /// What it lets through in the long run, and how much of that is used; `None` while nothing is known to
    /// limit calls, or how large they are.
    async fn quota(&self) -> Result<Option<Quota>, StoreError>;

    /// How its limits stand, for who watches them. Changes nothing.
    async fn levels(&self) -> Result<Levels, StoreError>;
}
