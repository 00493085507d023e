//! Whatever is asked of an adapter, it answers as the core does.

use std::sync::atomic::Ordering;
use std::time::Duration;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use uuid::Uuid;

use super::Subject;
use crate::limiter::Pool;
use crate::ports::{Amounts, Asking, LimitFact, LimitFacts, LimitPolicy, QuotaMode, Said, Used};

const CASES: u32 = 48;
const STEPS: usize = 60;

#[derive(Clone, Debug)]
enum Step {
    Wait(u64),
    Back(u64),
    /// Which step of which job, and how large.
    Reserve(u8, u64, u64),
    /// Of the calls so far, by recency.
    Settle(u8, Used),
    Extend(u8),
    Observe(u8, Said),
    /// What is left of a window; one begins with each minute of the clock.
    Tell(u8, u64),
    Forecast,
    Offer(u32),
}

fn step() -> impl Strategy<Value = Step> {
    let used = prop_oneof![
        Just(Used::Nothing),
        Just(Used::Refused),
        Just(Used::Unknown),
        (0u64..2_000, 0u64..2_000).prop_map(|(input, output)| Used::Exactly(Amounts::call(input, output))),
    ];
    let wait = prop_oneof![0u64..400, 0u64..8_000, 30_000u64..70_000];
    prop_oneof![
        4 => wait.prop_map(Step::Wait),
        1 => (0u64..2_000).prop_map(Step::Back),
        8 => (0u8..6, 0u64..900, 0u64..900).prop_map(|(of, input, output)| Step::Reserve(of, input, output)),
        5 => (0u8..5, used).prop_map(|(of, used)| Step::Settle(of, used)),
        1 => (0u8..5).prop_map(Step::Extend),
        1 => (0u8..5, said()).prop_map(|(of, said)| Step::Observe(of, said)),
        2 => (0u8..5, 0u64..9_000).prop_map(|(of, left)| Step::Tell(of, left)),
        2 => Just(Step::Forecast),
        2 => (1u32..4).prop_map(Step::Offer),
    ]
}

fn said() -> impl Strategy<Value = Said> {
    let fact = || {
        let limit = prop::option::of(prop_oneof![Just(3_000u64), Just(9_000)]);
        let rest = (prop::option::of(0u64..9_000), prop::option::of(0u64..60_000));
        (limit, rest).prop_map(|(limit, (remaining, reset))| LimitFact {
            limit,
            remaining,
            resets_in: reset.map(Duration::from_millis),
        })
    };
    let wait = prop::option::of((0u64..5_000).prop_map(Duration::from_millis));
    (fact(), fact(), prop::option::weighted(0.3, wait)).prop_map(|(requests, tokens, limited)| {
        let facts = LimitFacts { requests, tokens, ..LimitFacts::default() };
        match limited {
            Some(wait) => Said::Limited { wait, facts },
            None => Said::Answered(facts),
        }
    })
}

fn policy() -> impl Strategy<Value = LimitPolicy> {
    let limit = |most: u64| prop::option::of(most / 4..most);
    let limits = (limit(200), limit(9_000), limit(9_000), limit(12_000));
    let mode = prop_oneof![Just(QuotaMode::Bucket), Just(QuotaMode::Window)];
    (limits, prop::option::of(1u32..4), mode, prop_oneof![Just(1u32), Just(20), Just(60)]).prop_map(
        |((requests, input, output, tokens), concurrency, mode, burst_seconds)| LimitPolicy {
            per_minute: [requests, input, output, tokens],
            concurrency,
            mode,
            burst_seconds,
        },
    )
}

/// Both are told the same, and answer the same.
///
/// # Panics
/// When they do not.
pub fn the_limiter_does_what_the_core_says(open: &impl AsyncFn(LimitPolicy) -> Subject) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    let mut runner = TestRunner::new(Config { cases: CASES, failure_persistence: None, ..Config::default() });
    let steps = prop::collection::vec(step(), 1..STEPS);
    let run = |(policy, steps): (LimitPolicy, Vec<Step>)| {
        runtime.block_on(follow(open(policy.clone()), policy, steps))
    };
    runner.run(&(policy(), steps), run).unwrap_or_else(|err| panic!("{err}"));
}

async fn follow(
    on: impl Future<Output = Subject>,
    policy: LimitPolicy,
    steps: Vec<Step>,
) -> Result<(), TestCaseError> {
    let on = on.await;
    let now = || on.clock.load(Ordering::SeqCst);
    let mut core = Pool::new(policy, now());
    let mut calls: Vec<Uuid> = vec![Uuid::nil()];
    let recent = |calls: &[Uuid], of: u8| calls[calls.len().saturating_sub(1 + usize::from(of))];
    for (at, step) in steps.into_iter().enumerate() {
        match step {
            Step::Wait(millis) => on.advance(millis),
            Step::Back(millis) => on.step_back(millis),
            Step::Reserve(of, input, output) => {
                let ticket = Uuid::from_u128(u128::from(of) + 1);
                let call = Uuid::from_u128(1_000 + at as u128);
                let asking = Asking { call, ticket, amounts: Amounts::call(input, output) };
                calls.push(call);
                prop_assert_eq!(on.reserve(&asking).await, core.reserve(now(), &asking), "at step {}", at);
            }
            Step::Settle(of, used) => {
                on.settle(recent(&calls, of), used).await;
                core.settle(now(), recent(&calls, of), used);
            }
            Step::Extend(of) => {
                on.extend(recent(&calls, of)).await;
                core.extend(now(), recent(&calls, of));
            }
            Step::Observe(of, said) => {
                on.observe(recent(&calls, of), said).await;
                core.observe(now(), recent(&calls, of), &said);
            }
            Step::Tell(of, left) => {
                let resets_in = Some(Duration::from_millis(60_000 - now() % 60_000));
                let tokens = LimitFact { limit: None, remaining: Some(left), resets_in };
                let said = Said::Answered(LimitFacts { tokens, ..LimitFacts::default() });
                on.observe(recent(&calls, of), said).await;
                core.observe(now(), recent(&calls, of), &said);
            }
            Step::Offer(most) => {
                prop_assert_eq!(on.offer(most).await, core.offer(now(), most), "at step {}", at);
            }
            Step::Forecast => {
                prop_assert_eq!(on.forecast().await, core.forecast(now()), "at step {}", at);
                prop_assert_eq!(on.quota().await, core.quota(now()), "at step {}", at);
                prop_assert_eq!(on.levels().await, core.levels(now()), "at step {}", at);
            }
        }
    }
    Ok(())
}
