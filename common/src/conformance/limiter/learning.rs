//! What providers tell.

use super::{Subject, again, asking, ms, tokens, window};
use crate::ports::{Amounts, Dimension, LimitFact, LimitFacts, LimitPolicy, Reserved, Said, Used};

fn said(limit: Option<u64>, remaining: Option<u64>) -> Said {
    let tokens = LimitFact { limit, remaining, resets_in: None };
    Said::Answered(LimitFacts { tokens, ..LimitFacts::default() })
}

fn never(limit: u64) -> Reserved {
    Reserved::Never { dimension: Dimension::Tokens, limit, asked: 100_000 }
}

/// A limit that falls is obeyed at once; one that rises must be told three times, and never lifts the
/// configured one.
pub async fn a_lower_limit_is_believed_at_once_and_a_higher_one_when_it_stays(
    open: &impl AsyncFn(LimitPolicy) -> Subject,
) {
    let on = open(tokens(6_000)).await;
    on.advance(60_000);
    let call = on.granted(1, 0).await;
    let limit = async || on.ask(100_000, 0).await;
    on.observe(call, said(Some(9_000), None)).await;
    assert_eq!(limit().await, never(6_000));
    on.observe(call, said(Some(3_000), None)).await;
    assert_eq!(limit().await, never(3_000));
    for _ in 0..2 {
        on.observe(call, said(Some(5_000), None)).await;
        assert_eq!(limit().await, never(3_000));
    }
    on.observe(call, said(Some(5_000), None)).await;
    assert_eq!(limit().await, never(5_000));
}

/// C11: what was used stays used.
pub async fn a_changed_limit_is_no_fresh_quota(open: &impl AsyncFn(LimitPolicy) -> Subject) {
    let on = open(tokens(6_000)).await;
    on.advance(60_000);
    let call = on.granted(5_000, 0).await;
    on.observe(call, said(Some(3_000), None)).await;
    on.settle(call, Used::Exactly(Amounts::call(5_000, 0))).await;
    for _ in 0..3 {
        on.observe(call, said(Some(6_000), None)).await;
    }
    // A bucket of 3,000 could not hold what 5,000 in flight left of it: it owes 2,000.
    assert_eq!(on.ask(100, 0).await, Reserved::At(ms(21_000)));
}

/// An upper bound, with what has come since.
pub async fn what_is_left_is_at_most_what_is_said(open: &impl AsyncFn(LimitPolicy) -> Subject) {
    let on = open(tokens(6_000)).await;
    on.advance(60_000);
    let call = on.granted(1_000, 0).await;
    on.advance(2_000);
    on.observe(call, said(None, Some(100))).await;
    // Said between 2 s ago and now.
    on.granted(300, 0).await;
    assert_eq!(on.ask(10, 0).await, Reserved::At(ms(100)));
    on.observe(call, said(None, Some(5_000))).await;
    assert!(matches!(on.ask(10, 0).await, Reserved::At(_)), "it never raises what is believed");
}

/// `burst_seconds` says one second; the provider has a minute's worth left.
pub async fn a_larger_bucket_is_learned_from_what_is_left_in_it(open: &impl AsyncFn(LimitPolicy) -> Subject) {
    let on = open(LimitPolicy { burst_seconds: 1, ..tokens(6_000) }).await;
    on.advance(60_000);
    let call = on.granted(50, 0).await;
    let other = asking(80, 0);
    assert!(matches!(on.reserve(&other).await, Reserved::Park(_)), "a bucket of 100 has no room for both");
    on.observe(call, said(None, Some(5_950))).await;
    on.advance(1_000);
    assert_eq!(on.reserve(&other).await, Reserved::Granted);
}

/// Then it counts like a configured one.
pub async fn a_limit_that_nobody_configured_is_learned(open: &impl AsyncFn(LimitPolicy) -> Subject) {
    let on = open(LimitPolicy { per_minute: [Some(600), None, None, None], ..tokens(0) }).await;
    on.advance(60_000);
    let call = on.granted(50_000, 50_000).await;
    on.observe(call, said(Some(6_000), Some(3_000))).await;
    on.settle(call, Used::Exactly(Amounts::call(100, 100))).await;
    assert_eq!(on.ask(100_000, 0).await, never(6_000));
    assert!(matches!(on.ask(1_000, 0).await, Reserved::At(_)));
}

/// The whole fleet pauses once.
pub async fn a_refusal_holds_everybody_back_as_long_as_it_says(open: &impl AsyncFn(LimitPolicy) -> Subject) {
    let on = open(tokens(6_000)).await;
    on.advance(60_000);
    let call = on.granted(100, 0).await;
    on.observe(call, Said::Limited { wait: Some(ms(4_000)), facts: LimitFacts::default() }).await;
    on.settle(call, Used::Nothing).await;
    assert_eq!(on.ask(10, 0).await, Reserved::Park(ms(4_000)));
    let shorter = Said::Limited { wait: Some(ms(1_000)), facts: LimitFacts::default() };
    on.observe(call, shorter).await;
    on.advance(3_000);
    assert_eq!(on.forecast().await.calls, 0);
    assert_eq!(on.ask(10, 0).await, Reserved::Park(ms(1_000)), "the longer one counts");
    on.advance(1_000);
    on.granted(10, 0).await;
}

/// Most providers charge the prompt and all of `max_tokens` when a call arrives: what was not written does
/// not come back.
pub async fn a_provider_that_charges_at_arrival_is_found_out(open: &impl AsyncFn(LimitPolicy) -> Subject) {
    let on = open(tokens(6_000)).await;
    on.advance(60_000);
    let mut left = 6_000;
    for _ in 0..3 {
        let call = on.granted(100, 900).await;
        left -= 1_000;
        on.observe(call, said(None, Some(left))).await;
        on.settle(call, Used::Exactly(Amounts::call(100, 100))).await;
    }
    // The second showed it: since then what was not written does not come back, and a quarter of a call is
    // kept for what calls under way may get back too much.
    on.granted(100, 2_650).await;
    assert_eq!(on.ask(100, 0).await, Reserved::At(ms(1_000)));
}

/// A call that was refused will give its reservation back, which was never taken from what is left.
pub async fn what_a_refused_call_reserved_is_not_left_twice(open: &impl AsyncFn(LimitPolicy) -> Subject) {
    let on = open(tokens(6_000)).await;
    on.advance(60_000);
    let call = on.granted(1_000, 0).await;
    let tokens = LimitFact { remaining: Some(400), ..LimitFact::default() };
    let facts = LimitFacts { tokens, ..LimitFacts::default() };
    on.observe(call, Said::Limited { wait: Some(ms(0)), facts }).await;
    on.settle(call, Used::Refused).await;
    on.granted(400, 0).await;
    // The pace is a twentieth less after a refusal.
    assert_eq!(on.ask(95, 0).await, Reserved::At(ms(1_000)));
}

/// A place was given for quota that turns out not to be there: it is late.
pub async fn a_place_waits_for_what_is_found_missing(open: &impl AsyncFn(LimitPolicy) -> Subject) {
    let on = open(tokens(6_000)).await;
    on.advance(10_000);
    let call = on.granted(900, 0).await;
    let place = asking(200, 0);
    assert_eq!(on.reserve(&place).await, Reserved::At(ms(1_000)));
    // There were 100 beside what the place is for; the provider has 50.
    on.observe(call, said(None, Some(50))).await;
    on.advance(1_000);
    assert_eq!(on.reserve(&again(&place)).await, Reserved::At(ms(500)));
    assert_eq!(on.forecast().await.calls, 0, "its time has not come");
    on.advance(500);
    assert_eq!(on.reserve(&again(&place)).await, Reserved::Granted);
    assert_eq!(on.ask(10, 0).await, Reserved::At(ms(100)));
}

fn ends_in(millis: u64) -> Said {
    let tokens = LimitFact { limit: None, remaining: None, resets_in: Some(ms(millis)) };
    Said::Answered(LimitFacts { tokens, ..LimitFacts::default() })
}

/// Then what ended before counts no more; else it counts for a minute.
pub async fn when_a_window_begins_is_learned_from_headers_that_agree(
    open: &impl AsyncFn(LimitPolicy) -> Subject,
) {
    let on = open(window(6_000)).await;
    on.advance(61_000);
    let call = on.granted(4_000, 0).await;
    for ends in [20_000, 17_000, 14_000] {
        on.observe(call, ends_in(ends)).await;
        on.advance(3_000);
    }
    let used = async |tokens| {
        let call = on.granted(tokens, 0).await;
        on.settle(call, Used::Exactly(Amounts::call(tokens, 0))).await;
    };
    used(2_000).await;
    let next = asking(900, 0);
    assert_eq!(on.reserve(&next).await, Reserved::At(ms(11_000)), "when the window ends");
    on.settle(call, Used::Exactly(Amounts::call(1_000, 0))).await;
    on.advance(11_000);
    let next = again(&next);
    assert_eq!(on.reserve(&next).await, Reserved::Granted);
    on.settle(next.call, Used::Exactly(next.amounts)).await;
    on.advance(30_000);
    // Another moment than was known: now nothing is.
    let call = on.granted(10, 0).await;
    on.observe(call, ends_in(45_000)).await;
    used(890).await;
    on.advance(1_000);
    assert!(matches!(on.ask(5_500, 0).await, Reserved::At(wait) if wait > ms(58_000)));
}
