//! What providers tell.

use super::{Subject, asking, ms, tokens};
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
    // The second showed it: since then only what a prompt was counted too much comes back.
    on.granted(100, 2_900).await;
    assert_eq!(on.ask(100, 0).await, Reserved::At(ms(1_000)));
}
