//! The two limiters that stand before a call.

use std::time::Duration;

use redis::Script;
use redis::aio::MultiplexedConnection;

use super::Policy;

/// How often a bucket is asked again, at most and at least.
const SOONEST_MS: u64 = 10;
const LATEST_MS: u64 = 250;

/// Answers 0 when `ARGV[1]` tokens were taken of the `ARGV[2]` of this minute, else milliseconds until the
/// next one. The minute begins with its first call.
const COUNTER: &str = "
local used = tonumber(redis.call('GET', KEYS[1]) or '0')
if used + ARGV[1] > tonumber(ARGV[2]) then return math.max(redis.call('PTTL', KEYS[1]), 1) end
redis.call('INCRBY', KEYS[1], ARGV[1])
if used == 0 then redis.call('PEXPIRE', KEYS[1], 60000) end
return 0";

/// Gives tokens back to the minute, if there still is one.
const COUNTER_BACK: &str = "
if redis.call('EXISTS', KEYS[1]) == 1 then redis.call('DECRBY', KEYS[1], ARGV[1]) end
return 0";

/// The same of a bucket that holds five seconds of refill.
const BUCKET: &str = "
local time = redis.call('TIME')
local now, rate = time[1] * 1000 + math.floor(time[2] / 1000), ARGV[2] / 60000
local bucket = redis.call('HMGET', KEYS[1], 'level', 'at')
local level = tonumber(bucket[1] or '0') + (now - tonumber(bucket[2] or now)) * rate
level = math.min(level, rate * 5000)
local wait = 0
if level >= tonumber(ARGV[1]) then level = level - ARGV[1] else wait = math.ceil((ARGV[1] - level) / rate) end
redis.call('HSET', KEYS[1], 'level', tostring(level), 'at', now)
return wait";

const BUCKET_BACK: &str = "
redis.call('HINCRBYFLOAT', KEYS[1], 'level', ARGV[1])
return 0";

/// A limiter in Redis.
pub(super) struct Admission {
    connection: MultiplexedConnection,
    take: Script,
    back: Script,
    per_minute: u64,
    /// Nobody knows how long others will take: it is asked again and again.
    is_polled: bool,
}

impl Admission {
    pub(super) async fn of(policy: Policy, url: &str, per_minute: u64) -> anyhow::Result<Option<Self>> {
        let (take, back) = match policy {
            Policy::Retries => return Ok(None),
            Policy::Counter => (COUNTER, COUNTER_BACK),
            Policy::Polled => (BUCKET, BUCKET_BACK),
        };
        let connection = redis::Client::open(url)?.get_multiplexed_async_connection().await?;
        let (take, back, is_polled) = (Script::new(take), Script::new(back), policy == Policy::Polled);
        Ok(Some(Self { connection, take, back, per_minute, is_polled }))
    }

    /// Takes so many tokens; else, when to ask again.
    pub(super) async fn take(&self, tokens: u64) -> anyhow::Result<Option<Duration>> {
        let mut connection = self.connection.clone();
        let mut take = self.take.key("quota");
        let wait: u64 = take.arg(tokens).arg(self.per_minute).invoke_async(&mut connection).await?;
        let wait = match wait {
            0 => return Ok(None),
            wait if self.is_polled => wait.clamp(SOONEST_MS, LATEST_MS),
            wait => wait,
        };
        Ok(Some(Duration::from_millis(wait)))
    }

    /// Gives back what was not used.
    pub(super) async fn give_back(&self, tokens: u64) -> anyhow::Result<()> {
        let mut connection = self.connection.clone();
        let () = self.back.key("quota").arg(tokens).invoke_async(&mut connection).await?;
        Ok(())
    }
}
