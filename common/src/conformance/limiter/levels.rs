//! How the limits stand.

use super::{Subject, asking, tokens, window};
use crate::ports::{
    Amounts, Dimension, Level, Levels, Limit, LimitFact, LimitFacts, LimitPolicy, Reserved, Said, Used,
};

/// Of the only limit.
async fn level(on: &Subject) -> Level {
    let levels = on.levels().await;
    let [level] = levels.limits[..] else { panic!("{levels:?}") };
    level
}

pub async fn what_is_left_falls_with_grants_and_comes_back_with_time(
    open: &impl AsyncFn(LimitPolicy) -> Subject,
) {
    let limits = LimitPolicy { per_minute: [Some(60), None, None, Some(6_000)], ..tokens(0) };
    for policy in [limits.clone(), LimitPolicy { mode: window(0).mode, ..limits }] {
        let on = open(policy).await;
        on.advance(120_000);
        let call = on.granted(1_000, 500).await;
        let [requests, tokens] = on.levels().await.limits[..] else { panic!("two limits") };
        assert_eq!((requests.limit, requests.left), (Limit::PerMinute(Dimension::Requests), 59));
        assert_eq!((tokens.limit, tokens.left), (Limit::PerMinute(Dimension::Tokens), 4_500));
        assert_eq!((tokens.units, tokens.debt, tokens.used), (6_000, 0, 0.0), "{tokens:?}");
        on.settle(call, Used::Exactly(Amounts::call(600, 0))).await;
        let [requests, tokens] = on.levels().await.limits[..] else { panic!("two limits") };
        assert_eq!((requests.left, tokens.left), (59, 5_400));
        assert_eq!((requests.used, tokens.used), (1.0 / 60.0, 0.1));
        on.advance(120_000);
        let [requests, tokens] = on.levels().await.limits[..] else { panic!("two limits") };
        assert_eq!((requests.left, tokens.left), (60, 6_000));
        assert_eq!((requests.used, tokens.used), (0.0, 0.0));
    }
}

pub async fn a_debt_is_what_calls_took_beyond_and_not_what_the_line_keeps(
    open: &impl AsyncFn(LimitPolicy) -> Subject,
) {
    let on = open(tokens(6_000)).await;
    on.advance(60_000);
    let [call, other] = [on.granted(3_000, 0).await, on.granted(3_000, 0).await];
    on.settle(other, Used::Exactly(Amounts::call(3_000, 0))).await;
    assert_eq!((level(&on).await.left, level(&on).await.debt), (0, 0));
    let Reserved::At(_) = on.ask(2_000, 0).await else { panic!("it has to wait") };
    assert_eq!((level(&on).await.left, level(&on).await.debt), (0, 0), "a place is no debt");
    on.settle(call, Used::Exactly(Amounts::call(4_000, 0))).await;
    assert_eq!((level(&on).await.left, level(&on).await.debt), (0, 1_000));
    on.advance(5_000);
    assert_eq!(level(&on).await.debt, 500);
}

pub async fn a_learned_limit_is_told(open: &impl AsyncFn(LimitPolicy) -> Subject) {
    let on = open(tokens(6_000)).await;
    on.advance(60_000);
    let asking = asking(100, 0);
    assert_eq!(on.reserve(&asking).await, Reserved::Granted);
    let tokens = LimitFact { limit: Some(3_000), ..LimitFact::default() };
    on.observe(asking.call, Said::Answered(LimitFacts { tokens, ..LimitFacts::default() })).await;
    assert_eq!(level(&on).await.units, 3_000);
}

pub async fn calls_are_under_way_until_they_end_or_are_given_up(open: &impl AsyncFn(LimitPolicy) -> Subject) {
    let on = open(LimitPolicy { concurrency: Some(4), ..LimitPolicy::default() }).await;
    let calls = [on.granted(1, 0).await, on.granted(1, 0).await, on.granted(1, 0).await];
    assert_eq!((on.levels().await.active, level(&on).await.left), (3, 1));
    on.advance(15_000);
    on.settle(calls[0], Used::Exactly(Amounts::call(1, 0))).await;
    on.extend(calls[1]).await;
    assert_eq!((level(&on).await.limit, level(&on).await.used), (Limit::Concurrency, 1.0 / 16.0));
    on.advance(20_000);
    let Levels { active, expired, .. } = on.levels().await;
    assert_eq!((active, expired), (1, 1), "nobody said that the third goes on");
    on.advance(60_000);
    // Told again, nothing is counted twice.
    on.settle(calls[2], Used::Unknown).await;
    let Levels { active, expired, .. } = on.levels().await;
    assert_eq!((active, expired), (0, 2));
}
