//! The limiter on a real server, and what it costs there.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use millhand_common::adapters::redis::{LimiterOptions, RedisLimiter, StoreClock};
use millhand_common::conformance::limiter::{Subject, asking, tokens};
use millhand_common::ports::{LimitPolicy, RateLimiter, Reserved, StoreError, Used};
use millhand_tests::servers::Redis;
use millhand_tests::wait_for;
use rustix::process::Signal;

use super::shared;

/// A pool that nobody else has.
fn alone() -> LimiterOptions {
    static MADE: AtomicU64 = AtomicU64::new(0);
    LimiterOptions {
        prefix: "test-limiter".to_owned(),
        pool: MADE.fetch_add(1, Ordering::Relaxed).to_string(),
        ..LimiterOptions::default()
    }
}

async fn open(policy: LimitPolicy) -> Subject {
    let clock = Arc::new(AtomicU64::new(1_000_000));
    let options = LimiterOptions { clock: StoreClock::Manual(Arc::clone(&clock)), ..alone() };
    let limiter = RedisLimiter::open(&shared().await.url(), options, &policy).await.unwrap();
    Subject { limiter: Arc::new(limiter), clock }
}

millhand_common::limiter_conformance!(open);

#[tokio::test(flavor = "multi_thread")]
async fn processes_share_one_pool_on_the_servers_clock() {
    let (options, policy) = (alone(), tokens(6_000));
    let url = shared().await.url();
    let first = RedisLimiter::open(&url, options.clone(), &policy).await.unwrap();
    let second = RedisLimiter::open(&url, options, &policy).await.unwrap();
    let step = asking(20, 30);
    let Reserved::At(wait) = first.reserve(&step).await.unwrap() else { panic!("nothing is there yet") };
    assert!(wait <= Duration::from_millis(500), "{wait:?}");
    let granted = wait_for("its time", async || match second.reserve(&step).await.unwrap() {
        Reserved::Granted => Some(()),
        _ => None,
    });
    granted.await;
    assert!(matches!(first.reserve(&asking(50, 0)).await.unwrap(), Reserved::At(_)));
    first.settle(step.call, Used::Unknown).await.unwrap();
}

/// C12: no grant, and no hanging.
#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_grants_nothing_and_says_so_in_time() {
    let server = Redis::start().await;
    let limiter = RedisLimiter::open(&server.url(), alone(), &LimitPolicy::default()).await.unwrap();
    assert_eq!(limiter.reserve(&asking(1, 1)).await.unwrap(), Reserved::Granted);
    server.process().signal(Signal::STOP);
    let asked = Instant::now();
    assert!(matches!(limiter.reserve(&asking(1, 1)).await, Err(StoreError::Unreachable(_))));
    assert!(asked.elapsed() < Duration::from_secs(4), "{:?}", asked.elapsed());
    server.process().signal(Signal::CONT);
    wait_for("the server to go on", async || limiter.reserve(&asking(1, 1)).await.ok()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_call_costs_is_printed() {
    const ROUNDS: usize = 400;
    let policy = LimitPolicy { concurrency: Some(1_000), ..tokens(1_000_000_000) };
    let limiter = RedisLimiter::open(&shared().await.url(), alone(), &policy).await.unwrap();
    // The bucket is empty at first.
    wait_for("quota", async || {
        let call = asking(10, 10);
        let granted = limiter.reserve(&call).await.unwrap() == Reserved::Granted;
        limiter.settle(call.call, Used::Nothing).await.unwrap();
        granted.then_some(())
    })
    .await;
    let mut times = Vec::with_capacity(ROUNDS);
    for _ in 0..ROUNDS {
        let call = asking(10, 10);
        let started = Instant::now();
        assert_eq!(limiter.reserve(&call).await.unwrap(), Reserved::Granted);
        limiter.settle(call.call, Used::Exactly(call.amounts)).await.unwrap();
        times.push(started.elapsed());
    }
    times.sort_unstable();
    println!("reserve + settle: p50 {:?}, p95 {:?}", times[ROUNDS / 2], times[ROUNDS * 95 / 100]);
}
