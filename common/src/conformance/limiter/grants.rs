//! Reserving and settling.

use futures::future::join_all;

use super::{Subject, again, asking, ms, tokens, window};
use crate::ports::{Amounts, Dimension, LimitPolicy, Reserved, Used};

/// A limiter that starts knows nothing of earlier processes: it waits for refill.
pub async fn nothing_is_there_at_first_and_it_fills_as_told(open: &impl AsyncFn(LimitPolicy) -> Subject) {
    let on = open(tokens(6_000)).await;
    let first = asking(30, 70);
    assert_eq!(on.reserve(&first).await, Reserved::At(ms(1_000)));
    on.advance(999);
    assert_eq!(on.reserve(&again(&first)).await, Reserved::At(ms(1)));
    on.advance(1);
    assert_eq!(on.reserve(&again(&first)).await, Reserved::Granted);
    assert_eq!(on.ask(1, 1).await, Reserved::At(ms(20)), "nothing is left");
}

/// C2: all or nothing.
pub async fn a_call_is_granted_in_all_dimensions_or_in_none(open: &impl AsyncFn(LimitPolicy) -> Subject) {
    let policy = LimitPolicy {
        per_minute: [Some(60), Some(6_000), Some(600), None],
        burst_seconds: 60,
        ..LimitPolicy::default()
    };
    let on = open(policy).await;
    on.advance(60_000);
    let calls = [on.granted(100, 300).await, on.granted(100, 300).await];
    // The output is used up; the rest is not touched by what is refused for it.
    assert_eq!(on.ask(100, 150).await, Reserved::Park(ms(1_000)));
    for call in calls {
        on.settle(call, Used::Exactly(Amounts::call(100, 300))).await;
    }
    // The one who waited keeps the others back for a moment.
    on.advance(1_001);
    let large = on.granted(5_800, 0).await;
    on.settle(large, Used::Exactly(Amounts::call(5_800, 0))).await;
    assert_eq!(on.ask(400, 0).await, Reserved::At(ms(2_999)), "100 are left, and a little came back");
}

/// C3: a refusal charges nothing.
pub async fn a_refusal_is_free(open: &impl AsyncFn(LimitPolicy) -> Subject) {
    let on = open(LimitPolicy { concurrency: Some(2), ..tokens(6_000) }).await;
    on.advance(60_000);
    let held = on.granted(500, 0).await;
    for _ in 0..20 {
        // More than all there is, and more than there is beside the one that runs.
        assert!(matches!(on.ask(7_000, 0).await, Reserved::Never { .. }));
        assert!(matches!(on.ask(5_600, 0).await, Reserved::Park(_)));
        on.advance(1_001);
    }
    let other = on.granted(5_000, 0).await;
    for _ in 0..20 {
        assert!(matches!(on.ask(100, 0).await, Reserved::Park(_)), "two calls run");
    }
    on.settle(held, Used::Nothing).await;
    on.settle(other, Used::Exactly(Amounts::call(5_000, 0))).await;
    on.granted(1_000, 0).await;
    assert_eq!(on.ask(1, 0).await, Reserved::At(ms(10)));
}

/// C5: a refund at its time is as if less had been reserved.
pub async fn what_was_not_used_comes_back(open: &impl AsyncFn(LimitPolicy) -> Subject) {
    let on = open(tokens(6_000)).await;
    on.advance(10_000);
    let call = on.granted(200, 800).await;
    on.advance(1_000);
    on.settle(call, Used::Exactly(Amounts::call(100, 150))).await;
    // 1,000 there, 100 refilled, 250 used.
    on.granted(850, 0).await;
    assert_eq!(on.ask(1, 0).await, Reserved::At(ms(10)));
}

/// C4: what a call took beyond its reservation is deducted, below zero if need be.
pub async fn what_was_used_beyond_is_a_debt(open: &impl AsyncFn(LimitPolicy) -> Subject) {
    let on = open(tokens(6_000)).await;
    on.advance(1_000);
    let call = on.granted(50, 50).await;
    on.settle(call, Used::Exactly(Amounts::call(50, 350))).await;
    assert_eq!(on.ask(0, 100).await, Reserved::At(ms(4_000)), "300 owed and 100 asked for");
}

/// What is not known is taken for used; what was not sent is not.
pub async fn a_broken_call_is_charged_whole_and_one_that_was_not_sent_not_at_all(
    open: &impl AsyncFn(LimitPolicy) -> Subject,
) {
    let on = open(tokens(6_000)).await;
    on.advance(10_000);
    let call = on.granted(500, 500).await;
    on.settle(call, Used::Nothing).await;
    let call = on.granted(500, 500).await;
    on.settle(call, Used::Unknown).await;
    assert_eq!(on.ask(10, 0).await, Reserved::At(ms(100)));
}

/// C6.
pub async fn settling_and_extending_twice_is_once(open: &impl AsyncFn(LimitPolicy) -> Subject) {
    let on = open(tokens(6_000)).await;
    on.advance(10_000);
    let (call, other) = (on.granted(500, 0).await, on.granted(500, 0).await);
    for _ in 0..3 {
        on.extend(other).await;
        on.settle(call, Used::Nothing).await;
        on.extend(call).await;
    }
    on.granted(500, 0).await;
    assert_eq!(on.ask(10, 0).await, Reserved::At(ms(100)));
}

/// C6: an answer that was lost is given again.
pub async fn asking_again_for_a_granted_call_charges_once(open: &impl AsyncFn(LimitPolicy) -> Subject) {
    let on = open(tokens(6_000)).await;
    on.advance(10_000);
    let call = asking(500, 0);
    for _ in 0..3 {
        assert_eq!(on.reserve(&call).await, Reserved::Granted);
    }
    on.granted(500, 0).await;
    assert_eq!(on.ask(10, 0).await, Reserved::At(ms(100)));
}

/// It is said in numbers, and costs nothing.
pub async fn a_call_larger_than_all_there_is_never_starts(open: &impl AsyncFn(LimitPolicy) -> Subject) {
    for policy in [tokens(6_000), window(6_000)] {
        let on = open(policy).await;
        on.advance(61_000);
        let never = Reserved::Never { dimension: Dimension::Tokens, limit: 6_000, asked: 6_001 };
        assert_eq!(on.ask(6_000, 1).await, never);
        on.granted(6_000, 0).await;
    }
}

/// A bucket of one second with a call of ten: it waits until it is alone and the bucket is full, and pays
/// afterwards.
pub async fn a_call_larger_than_the_bucket_goes_alone_from_a_full_one(
    open: &impl AsyncFn(LimitPolicy) -> Subject,
) {
    let on = open(LimitPolicy { burst_seconds: 1, ..tokens(6_000) }).await;
    on.advance(1_000);
    let small = on.granted(50, 0).await;
    on.advance(500);
    let large = asking(200, 800);
    assert!(matches!(on.reserve(&large).await, Reserved::Park(_)), "somebody is under way");
    on.settle(small, Used::Exactly(Amounts::call(50, 0))).await;
    assert_eq!(on.reserve(&again(&large)).await, Reserved::At(ms(500)), "refill beside a call is not sure");
    on.advance(500);
    let large = again(&large);
    assert_eq!(on.reserve(&large).await, Reserved::Granted);
    on.settle(large.call, Used::Exactly(large.amounts)).await;
    assert_eq!(on.ask(10, 0).await, Reserved::At(ms(9_100)));
}

/// P11, concurrency.
pub async fn as_many_calls_run_as_may(open: &impl AsyncFn(LimitPolicy) -> Subject) {
    let on = open(LimitPolicy { concurrency: Some(2), ..LimitPolicy::default() }).await;
    let (first, _second) = (on.granted(1, 1).await, on.granted(1, 1).await);
    assert!(matches!(on.ask(1, 1).await, Reserved::Park(_)));
    assert_eq!(on.forecast().await.calls, 0);
    on.settle(first, Used::Unknown).await;
    assert_eq!(on.forecast().await.calls, 1);
    on.granted(1, 1).await;
    assert!(matches!(on.ask(1, 1).await, Reserved::Park(_)));
}

/// C7: what a killed worker held costs at most what it reserved, once, and its slot for 30 s.
pub async fn a_dead_workers_place_and_charge_are_settled_in_time(
    open: &impl AsyncFn(LimitPolicy) -> Subject,
) {
    let on = open(LimitPolicy { concurrency: Some(2), ..tokens(600) }).await;
    on.advance(60_000);
    let (_dead, alive) = (on.granted(200, 0).await, on.granted(200, 0).await);
    on.advance(20_000);
    on.extend(alive).await;
    on.advance(9_999);
    assert_eq!(on.forecast().await.calls, 0);
    on.advance(1);
    assert_eq!(on.forecast().await.calls, 1, "its slot is back");
    // The bucket was full of 600 when nothing had been charged yet; since then only what the calls under
    // way leave room for has come back.
    assert_eq!(on.ask(201, 0).await, Reserved::At(ms(100)));
}

/// C6: late settlement corrects what expiry took.
pub async fn a_late_settlement_corrects_and_never_doubles(open: &impl AsyncFn(LimitPolicy) -> Subject) {
    let on = open(tokens(600)).await;
    on.advance(60_000);
    let late = on.granted(500, 100).await;
    on.advance(30_000);
    assert_eq!(on.ask(10, 0).await, Reserved::At(ms(1_000)), "all of it is taken for used");
    for _ in 0..2 {
        on.settle(late, Used::Exactly(Amounts::call(250, 50))).await;
    }
    on.granted(290, 0).await;
    assert_eq!(on.ask(1, 0).await, Reserved::At(ms(100)));
}

/// C8.
pub async fn a_clock_that_steps_back_gives_nothing(open: &impl AsyncFn(LimitPolicy) -> Subject) {
    let on = open(tokens(6_000)).await;
    on.advance(10_000);
    on.granted(1_000, 0).await;
    on.step_back(8_000);
    assert!(matches!(on.ask(10, 0).await, Reserved::At(_)));
    on.advance(8_000);
    // The place in the line, and then 10 more.
    assert_eq!(on.ask(10, 0).await, Reserved::At(ms(200)));
}

/// Any sixty seconds hold at most a minute's quota, counted from the end of the call that took it.
pub async fn a_window_gives_a_minute_s_worth_whatever_its_phase(open: &impl AsyncFn(LimitPolicy) -> Subject) {
    let on = open(window(6_000)).await;
    on.advance(61_000);
    let call = on.granted(3_000, 3_000).await;
    on.advance(5_000);
    on.settle(call, Used::Exactly(Amounts::call(3_000, 2_000))).await;
    on.granted(1_000, 0).await;
    on.advance(59_000);
    assert!(matches!(on.ask(1_000, 0).await, Reserved::At(_) | Reserved::Park(_)), "its minute is not over");
    on.advance(1_500);
    on.granted(3_000, 0).await;
}

/// Under real concurrency.
pub async fn calls_at_once_never_get_more_than_there_is(open: &impl AsyncFn(LimitPolicy) -> Subject) {
    let on = open(LimitPolicy { concurrency: Some(1_000), ..tokens(6_000) }).await;
    on.advance(10_000);
    let asked = join_all((0..50).map(|_| on.ask(20, 30))).await;
    let granted = asked.iter().filter(|answer| **answer == Reserved::Granted).count();
    assert_eq!(granted, 20, "{asked:?}");
}
