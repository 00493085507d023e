//! What gets through in the long run.

use super::{Subject, tokens, window};
use crate::ports::{Amounts, Dimension, Limit, LimitPolicy, Quota, Used};

const TOKENS: Limit = Limit::PerMinute(Dimension::Tokens);

/// Lets `count` calls end, each after `millis`, as large as it said or smaller.
async fn calls(on: &Subject, count: u32, millis: u64, asked: u64, took: u64) {
    for _ in 0..count {
        let call = on.granted(asked, 0).await;
        on.advance(millis);
        on.settle(call, Used::Exactly(Amounts::call(took, 0))).await;
    }
}

/// A share of a whole, give or take a hundredth.
fn is_about(share: f64, expected: f64) -> bool {
    (share - expected).abs() < 0.01
}

pub async fn nothing_binds_before_a_size_is_known(open: &impl AsyncFn(LimitPolicy) -> Subject) {
    let on = open(LimitPolicy { concurrency: Some(2), ..tokens(6_000) }).await;
    assert_eq!(on.quota().await, None);
    on.advance(60_000);
    let call = on.granted(100, 0).await;
    // As it was asked for: 6,000 a minute in calls of 100.
    assert_eq!(on.quota().await, Some(Quota { limit: TOKENS, calls_per_second: 1.0, used: 0.0 }));
    on.settle(call, Used::Nothing).await;
    assert_eq!(on.quota().await.map(|quota| quota.used), Some(0.0), "it was not sent");
}

pub async fn what_calls_took_counts_and_not_what_they_asked_for(open: &impl AsyncFn(LimitPolicy) -> Subject) {
    for policy in [tokens(6_000), window(6_000)] {
        let on = open(policy).await;
        on.advance(60_000);
        // In the middle of a minute, whatever minute it is.
        let into = on.clock.load(std::sync::atomic::Ordering::SeqCst) % 60_000;
        on.advance(60_000 - into);
        calls(&on, 20, 500, 200, 50).await;
        let quota = on.quota().await.expect("calls have ended");
        assert_eq!((quota.limit, quota.calls_per_second), (TOKENS, 2.0));
        assert!(is_about(quota.used, 20.0 / 120.0), "{quota:?}");
    }
}

pub async fn the_limit_that_binds_first_is_told(open: &impl AsyncFn(LimitPolicy) -> Subject) {
    let requests = [Some(30), None, None, Some(60_000)];
    let on = open(LimitPolicy { per_minute: requests, ..tokens(0) }).await;
    on.advance(60_000);
    calls(&on, 4, 1_000, 100, 100).await;
    let quota = on.quota().await.expect("calls have ended");
    assert_eq!((quota.limit, quota.calls_per_second), (Limit::PerMinute(Dimension::Requests), 0.5));

    // Two at a time of four seconds each are one in two seconds.
    let on = open(LimitPolicy { concurrency: Some(2), ..tokens(6_000) }).await;
    on.advance(60_000);
    calls(&on, 4, 4_000, 100, 100).await;
    let quota = on.quota().await.expect("calls have ended");
    assert_eq!((quota.limit, quota.calls_per_second), (Limit::Concurrency, 0.5));

    // A bucket that holds one call of those that were asked for lets one run at a time.
    let on = open(LimitPolicy { burst_seconds: 1, ..tokens(6_000) }).await;
    on.advance(60_000);
    calls(&on, 4, 4_000, 60, 10).await;
    let quota = on.quota().await.expect("calls have ended");
    assert_eq!((quota.limit, quota.calls_per_second), (TOKENS, 0.25));
}

pub async fn a_minute_without_calls_uses_nothing(open: &impl AsyncFn(LimitPolicy) -> Subject) {
    let on = open(tokens(6_000)).await;
    on.advance(60_000);
    calls(&on, 10, 500, 100, 100).await;
    let quota = on.quota().await.expect("calls have ended");
    assert!(quota.used > 0.0);
    on.advance(120_000);
    assert_eq!(on.quota().await, Some(Quota { used: 0.0, ..quota }));
}
