//! The quota of one pool, shared by all processes through Redis: one script per operation, on the server's
//! clock.
//!
//! # Keys
//!
//! A key is `<prefix>:{quota:<pool>}:<name>`, so all that one operation touches lies in one slot, which is not
//! that of any job.
//!
//! | name | type | holds |
//! |---|---|---|
//! | `pool` | string | levels, pause, learned limits: MessagePack |
//! | `held` | hash | call or ticket → what it reserved, since when, and whether it is a place in the line |
//! | `until` | zset | the same by when they are given up |
//! | `places` | zset | tickets by when their call may start |
//! | `offers` | string | pulls that were offered, and until when they count: MessagePack |
//! | `spent` | hash | quarter of a second → what calls used that ended in it; windows only |
//! | `late:<call>` | string | for an hour, what a call reserved that was given up |

use std::sync::LazyLock;

use async_trait::async_trait;
use redis::Value;
use uuid::Uuid;

use crate::ports::{
    Asking, Dimension, Forecast, Level, Levels, Limit, LimitFacts, LimitPolicy, Quota, QuotaMode,
    RateLimiter, Reserved, Said, StoreError, Used,
};

use super::link::Link;
use super::options::{OpenError, StoreClock};
use super::reply::{at, damaged, list, number, text};
use super::scripts::{Script, limit};
use std::time::Duration;

/// No provider is believed that asks for a longer pause.
const LONGEST_PAUSE: Duration = Duration::from_secs(15 * 60);

/// How a limiter is opened.
#[derive(Clone, Debug)]
pub struct LimiterOptions {
    /// What every key starts with.
    pub prefix: String,
    /// Names what the quota is of: processes with the same name share it.
    pub pool: String,
    /// How long one operation may take, connecting and repeating included.
    pub patience: Duration,
    pub clock: StoreClock,
}

impl Default for LimiterOptions {
    fn default() -> Self {
        Self {
            prefix: "millhand".to_owned(),
            pool: "default".to_owned(),
            patience: Duration::from_millis(1500),
            clock: StoreClock::Server,
        }
    }
}

/// A [`RateLimiter`] in Redis.
pub struct RedisLimiter {
    link: Link,
    prefix: String,
    clock: StoreClock,
    policy: [String; 7],
}

impl RedisLimiter {
    /// Connects to the address of a store; see [`RedisStore::open`](super::RedisStore::open).
    pub async fn open(url: &str, options: LimiterOptions, policy: &LimitPolicy) -> Result<Self, OpenError> {
        let link = Link::find(url, options.patience).await?;
        let prefix = format!("{}:{{quota:{}}}", options.prefix, options.pool);
        let limiter = Self { link, prefix, clock: options.clock, policy: policy_args(policy) };
        // Makes the pool, if it is new: from now on refill is counted.
        limiter.run(&limit::EXTEND, [Uuid::nil().simple().to_string()]).await?;
        Ok(limiter)
    }

    async fn run(
        &self,
        script: &LazyLock<Script>,
        args: impl IntoIterator<Item = String>,
    ) -> Result<Value, StoreError> {
        let clock = self.clock.manual_now().map_or(String::new(), |now| now.as_millis().to_string());
        let args: Vec<String> =
            std::iter::once(clock).chain(self.policy.iter().cloned()).chain(args).collect();
        Ok(self.link.call(script, std::slice::from_ref(&self.prefix), &args).await?.value)
    }
}

fn policy_args(policy: &LimitPolicy) -> [String; 7] {
    let limit = |dimension| policy.per_minute(dimension).unwrap_or(0).to_string();
    let [requests, input, output, tokens] = Dimension::ALL.map(limit);
    let mode = match policy.mode {
        QuotaMode::Bucket => "bucket",
        QuotaMode::Window => "window",
    };
    let concurrency = policy.concurrency.map_or(String::new(), |calls| calls.to_string());
    [mode.to_owned(), policy.burst_seconds.to_string(), concurrency, requests, input, output, tokens]
}

#[async_trait]
impl RateLimiter for RedisLimiter {
    async fn reserve(&self, asking: &Asking) -> Result<Reserved, StoreError> {
        let ids = [asking.call, asking.ticket].map(|id| id.simple().to_string());
        let answer =
            self.run(&limit::RESERVE, ids.into_iter().chain(amounts(asking.amounts.units()))).await?;
        let answer = list(&answer)?;
        let wait = || Ok::<_, StoreError>(Duration::from_millis(number(at(answer, 1)?)?));
        match text(at(answer, 0)?)? {
            "granted" => Ok(Reserved::Granted),
            "at" => Ok(Reserved::At(wait()?)),
            "park" => Ok(Reserved::Park(wait()?)),
            "never" => {
                let dimension = usize::try_from(number(at(answer, 1)?)?).ok();
                let dimension = dimension.and_then(|at| Dimension::ALL.get(at).copied());
                Ok(Reserved::Never {
                    dimension: dimension.ok_or_else(|| damaged("an unknown dimension"))?,
                    limit: number(at(answer, 2)?)?,
                    asked: number(at(answer, 3)?)?,
                })
            }
            other => Err(damaged(format!("a limiter answered {other}"))),
        }
    }

    async fn settle(&self, call: Uuid, used: Used) -> Result<(), StoreError> {
        let (known, units) = match used {
            Used::Nothing => ("nothing", [0; 4]),
            Used::Refused => ("refused", [0; 4]),
            Used::Exactly(used) => ("exactly", used.units()),
            Used::Unknown => ("unknown", [0; 4]),
        };
        let args = [call.simple().to_string(), known.to_owned()];
        self.run(&limit::SETTLE, args.into_iter().chain(amounts(units))).await?;
        Ok(())
    }

    async fn extend(&self, call: Uuid) -> Result<(), StoreError> {
        self.run(&limit::EXTEND, [call.simple().to_string()]).await?;
        Ok(())
    }

    async fn observe(&self, call: Uuid, said: &Said) -> Result<(), StoreError> {
        const PAUSE: Duration = Duration::from_secs(1);
        let millis = |wait: Duration| wait.as_millis().min(u128::from(u32::MAX)).to_string();
        let wait = match said {
            Said::Answered(_) => String::new(),
            Said::Limited { wait, .. } => millis(wait.unwrap_or(PAUSE).min(LONGEST_PAUSE)),
        };
        let LimitFacts { requests, tokens, input_tokens, output_tokens } = said.facts();
        let facts = [requests, input_tokens, output_tokens, tokens].into_iter().flat_map(|fact| {
            let number = |units: Option<u64>| units.map_or(String::new(), |units| units.to_string());
            [number(fact.limit), number(fact.remaining), fact.resets_in.map_or(String::new(), millis)]
        });
        self.run(&limit::OBSERVE, [call.simple().to_string(), wait].into_iter().chain(facts)).await?;
        Ok(())
    }

    async fn forecast(&self) -> Result<Forecast, StoreError> {
        forecast(&self.run(&limit::FORECAST, []).await?)
    }

    async fn offer(&self, most: u32) -> Result<Forecast, StoreError> {
        forecast(&self.run(&limit::OFFER, [most.to_string()]).await?)
    }

    async fn quota(&self) -> Result<Option<Quota>, StoreError> {
        let answer = self.run(&limit::QUOTA, []).await?;
        let answer = list(&answer)?;
        if answer.is_empty() {
            return Ok(None);
        }
        let limit = limit_at(answer)?;
        let [units, per_call, recent] = [1, 2, 3].map(|place| at(answer, place).and_then(number));
        Ok(Some(Quota::new(limit, units?, per_call?, recent?)))
    }

    async fn levels(&self) -> Result<Levels, StoreError> {
        let answer = self.run(&limit::LEVELS, []).await?;
        let (pool, limits) = list(&answer)?.split_at_checked(2).ok_or_else(|| damaged("no levels"))?;
        let level = |parts: &[Value]| {
            let count = |place| at(parts, place).and_then(number);
            Ok(Level::new(limit_at(parts)?, [count(1)?, count(2)?, count(3)?], count(4)?, count(5)?))
        };
        Ok(Levels {
            limits: limits.chunks(6).map(level).collect::<Result<_, StoreError>>()?,
            active: number(&pool[0])?,
            expired: number(&pool[1])?,
        })
    }
}

/// The limit whose place an answer begins with.
fn limit_at(answer: &[Value]) -> Result<Limit, StoreError> {
    let place = usize::try_from(number(at(answer, 0)?)?).unwrap_or(usize::MAX);
    Limit::ALL.get(place).copied().ok_or_else(|| damaged("an unknown limit"))
}

fn forecast(answer: &Value) -> Result<Forecast, StoreError> {
    let answer = list(answer)?;
    Ok(Forecast {
        calls: u32::try_from(number(at(answer, 0)?)?).unwrap_or(u32::MAX),
        opens_in: Duration::from_millis(number(at(answer, 1)?)?),
    })
}

/// Requests, input and output; no larger than sums stay exact.
fn amounts(units: [u64; 4]) -> impl Iterator<Item = String> {
    units.into_iter().take(3).map(|units| units.min(100_000_000_000).to_string())
}
