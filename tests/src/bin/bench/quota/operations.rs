//! What one reservation and its settlement take, against two scripts that only write a key.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use millhand_common::adapters::redis::{LimiterOptions, RedisLimiter};
use millhand_common::ports::{Amounts, Asking, LimitPolicy, RateLimiter, Used};
use millhand_tests::servers::Redis;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::table::Table;

/// Pairs of each kind, in turns.
const PAIRS: usize = 2_000;
const CALLERS: usize = 64;
const FULL_LOAD: Duration = Duration::from_secs(4);

pub(super) async fn measure(table: &mut Table) -> anyhow::Result<()> {
    let redis = Redis::start().await;
    // Nobody waits.
    let policy = LimitPolicy {
        per_minute: [Some(LimitPolicy::MOST_PER_MINUTE), None, None, Some(LimitPolicy::MOST_PER_MINUTE)],
        burst_seconds: 60,
        ..LimitPolicy::default()
    };
    let limiter = RedisLimiter::open(&redis.url(), LimiterOptions::default(), &policy).await?;
    let limiter: Arc<dyn RateLimiter> = Arc::new(limiter);
    let client = redis::Client::open(redis.url())?;
    let mut connection = client.get_multiplexed_async_connection().await?;
    let script = redis::Script::new("return redis.call('SET', KEYS[1], ARGV[1])");
    let (mut ours, mut bare) = (Histogram::<u64>::new(3)?, Histogram::<u64>::new(3)?);
    for n in 0..PAIRS {
        let begun = Instant::now();
        pair(&*limiter).await?;
        ours.record(micros(begun))?;
        let begun = Instant::now();
        for _ in 0..2 {
            let () = script.key("bench:bare").arg(n).invoke_async(&mut connection).await?;
        }
        bare.record(micros(begun))?;
    }
    for (text, quantile, aim) in [("p50", 0.5, None), ("p95", 0.95, Some(1.5))] {
        let (us, it) = (ours.value_at_quantile(quantile) as f64, bare.value_at_quantile(quantile) as f64);
        let what = format!("reserve and settle {text}, against two one-key write scripts");
        let met = aim.map(|most| us <= most * it);
        table.row(&what, (us, Some(it), "us"), if aim.is_some() { "<= 1.5 x" } else { "" }, met);
    }
    let rate = full_load(&limiter).await?;
    table.row("limiter, calls of 64 callers at full load", (rate, None, "/s"), "", None);
    Ok(())
}

fn micros(since: Instant) -> u64 {
    u64::try_from(since.elapsed().as_micros()).unwrap_or(u64::MAX).max(1)
}

async fn pair(limiter: &dyn RateLimiter) -> anyhow::Result<()> {
    let (call, ticket) = (Uuid::now_v7(), Uuid::now_v7());
    limiter.reserve(&Asking { call, ticket, amounts: Amounts::call(100, 40) }).await?;
    limiter.settle(call, Used::Exactly(Amounts::call(90, 35))).await?;
    Ok(())
}

/// Reservations and settlements a second.
async fn full_load(limiter: &Arc<dyn RateLimiter>) -> anyhow::Result<f64> {
    let (done, until) = (Arc::new(AtomicU64::new(0)), Instant::now() + FULL_LOAD);
    let mut callers = JoinSet::new();
    for _ in 0..CALLERS {
        let (limiter, done) = (Arc::clone(limiter), Arc::clone(&done));
        callers.spawn(async move {
            while Instant::now() < until {
                pair(&*limiter).await?;
                done.fetch_add(2, Ordering::Relaxed);
            }
            anyhow::Ok(())
        });
    }
    while let Some(ended) = callers.join_next().await {
        ended??;
    }
    Ok(done.load(Ordering::Relaxed) as f64 / FULL_LOAD.as_secs_f64())
}
