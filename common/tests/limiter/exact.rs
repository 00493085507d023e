//! P11, and how much of the quota is used, against a provider that counts exactly.

use millhand_common::ports::{LimitPolicy, QuotaMode};
use proptest::prelude::*;

use crate::provider::Manner;
use crate::simulation::{Plan, run};

fn plan(policy: LimitPolicy) -> Plan {
    Plan {
        policy,
        phase: 17_321,
        full: true,
        seed: 7,
        seconds: 600,
        workers: 1,
        slots: 64,
        input: 200,
        large: 8,
        bound_percent: 125,
        max_output: 500,
        written_percent: 40,
        longest_ms: 3_000,
        dying_percent: 0,
        load_percent: 150,
        manner: Manner::Silent,
    }
}

fn tokens(per_minute: u64, mode: QuotaMode, burst_seconds: u32) -> LimitPolicy {
    LimitPolicy { per_minute: [None, None, None, Some(per_minute)], mode, burst_seconds, concurrency: None }
}

/// The share of its tokens a minute that the provider charged.
fn used(plan: &Plan, charged: [u64; 4]) -> f64 {
    let limit = plan.policy.per_minute[3].unwrap() as f64;
    charged[3] as f64 / (limit * plan.seconds as f64 / 60.0)
}

#[test]
fn the_whole_of_a_bucket_is_used_without_one_refusal_and_large_calls_wait_as_small_ones() {
    let plan = plan(tokens(60_000, QuotaMode::Bucket, 60));
    let (provider, outcome) = run(&plan);
    let used = used(&plan, provider.charged);
    let parked = outcome.parked_ms as f64 / outcome.slot_ms as f64;
    println!("bucket: used {used:.3}, parked {parked:.4}, {outcome:?}");
    assert_eq!((provider.refused, provider.is_overdrawn()), (0, false));
    assert!(used >= 0.98, "{used}");
    assert!(outcome.large_wait_ms <= 1.2 * outcome.small_wait_ms, "{outcome:?}");
    assert!(parked < 0.02, "{outcome:?}");
}

/// Each of them sees all the room there is.
#[test]
fn eight_workers_use_as_much_and_their_slots_do_not_wait() {
    // A window of unknown phase has room for all that is reserved, in this minute and in the next.
    for (mode, burst_seconds, manner, least) in [
        (QuotaMode::Bucket, 5, Manner::Silent, 0.98),
        (QuotaMode::Window, 1, Manner::Silent, 0.95),
        (QuotaMode::Window, 1, Manner::Telling, 0.98),
    ] {
        let mut plan = plan(tokens(600_000, mode, burst_seconds));
        (plan.workers, plan.slots, plan.seconds) = (8, 256, 300);
        (plan.input, plan.large, plan.bound_percent, plan.longest_ms) = (104, 20, 205, 1_500);
        (plan.max_output, plan.written_percent, plan.manner) = (100, 35, manner);
        let (provider, outcome) = run(&plan);
        let used = used(&plan, provider.charged);
        let parked = outcome.parked_ms as f64 / outcome.slot_ms as f64;
        println!("eight, {mode:?}, {manner:?}: used {used:.3}, parked {parked:.4}, {outcome:?}");
        assert_eq!((provider.refused, provider.is_overdrawn()), (0, false));
        assert!(used >= least, "{used}");
        assert!(parked < 0.005, "{parked} {outcome:?}");
        assert!(outcome.large_wait_ms <= 1.2 * outcome.small_wait_ms, "{outcome:?}");
    }
}

#[test]
fn a_window_of_unknown_phase_is_used_up_to_the_time_that_calls_take() {
    let mut plan = plan(tokens(600_000, QuotaMode::Window, 1));
    // What is under way may be charged in this window or the next: it counts in both.
    (plan.longest_ms, plan.seconds) = (1_000, 300);
    let (provider, outcome) = run(&plan);
    let used = used(&plan, provider.charged);
    println!("window: used {used:.3}, {outcome:?}");
    assert_eq!((provider.refused, provider.is_overdrawn()), (0, false));
    assert!(used >= 0.96, "{used}");
}

/// Nothing of a window is lost at its end but what calls reserve too much.
#[test]
fn a_window_whose_beginning_is_told_is_used_up() {
    let mut plan = plan(tokens(600_000, QuotaMode::Window, 1));
    (plan.longest_ms, plan.seconds, plan.manner) = (2_000, 300, Manner::Telling);
    let (provider, outcome) = run(&plan);
    let used = used(&plan, provider.charged);
    println!("window, told: used {used:.3}, {outcome:?}");
    assert_eq!((provider.refused, provider.is_overdrawn()), (0, false));
    assert!(used >= 0.98, "{used}");
}

#[test]
fn workers_that_die_cost_what_they_held_and_nothing_else() {
    let mut plan = plan(tokens(60_000, QuotaMode::Bucket, 60));
    plan.policy.concurrency = Some(40);
    plan.dying_percent = 3;
    plan.seconds = 900;
    let (provider, outcome) = run(&plan);
    let used = used(&plan, provider.charged);
    println!("dying: used {used:.3}, {outcome:?}");
    assert_eq!((provider.refused, provider.is_overdrawn()), (0, false));
    assert!(provider.most_running <= 40);
    assert!(used >= 0.93, "{used}");
}

#[test]
fn a_provider_that_charges_at_arrival_is_used_up_with_few_refusals() {
    let mut plan = plan(tokens(60_000, QuotaMode::Bucket, 10));
    plan.manner = Manner::Arrival;
    for (burst_seconds, full, seed) in
        [(10, false, 7), (10, true, 8), (20, true, 9), (20, false, 10), (60, true, 11)]
    {
        (plan.policy.burst_seconds, plan.full, plan.seed) = (burst_seconds, full, seed);
        let (provider, outcome) = run(&plan);
        let used = used(&plan, provider.charged);
        println!("at arrival: used {used:.3}, {} refused, {outcome:?}", provider.refused);
        // It is found out by its first headers, or by its first refusals.
        assert!(provider.refused <= 3, "{} {outcome:?}", provider.refused);
        assert!(used >= 0.9, "{used}");
    }
}

/// As Azure does.
#[test]
fn hidden_slices_of_a_minute_cost_few_refusals_and_little_use() {
    for mode in [QuotaMode::Bucket, QuotaMode::Window] {
        let mut plan = plan(tokens(600_000, mode, 1));
        (plan.manner, plan.longest_ms) = (Manner::Slices, 1_000);
        // The pace comes back by a hundredth a minute, so what was learned is found again.
        for (seconds, most) in [(120, 3), (600, 6)] {
            plan.seconds = seconds;
            let (provider, outcome) = run(&plan);
            let used = used(&plan, provider.charged);
            println!("slices, {seconds} s: used {used:.3}, {} refused, {outcome:?}", provider.refused);
            assert!(provider.refused <= most, "{} {outcome:?}", provider.refused);
            assert!(used >= 0.92, "{used}");
        }
    }
}

#[test]
fn a_bucket_of_one_second_is_never_overdrawn_either() {
    let mut plan = plan(tokens(600_000, QuotaMode::Bucket, 1));
    (plan.longest_ms, plan.max_output, plan.seconds) = (300, 200, 120);
    let (provider, outcome) = run(&plan);
    let used = used(&plan, provider.charged);
    let parked = outcome.parked_ms as f64 / outcome.slot_ms as f64;
    println!("one second: used {used:.3}, parked {parked:.4}, {outcome:?}");
    assert_eq!((provider.refused, provider.is_overdrawn()), (0, false));
    assert!(used >= 0.9 && parked < 0.05, "{used} {outcome:?}");
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 40, failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn whenever_a_call_is_charged_no_limit_is_overdrawn(
        limits in (prop::option::of(100u64..400), prop::option::of(20_000u64..60_000),
            prop::option::of(20_000u64..60_000), prop::option::of(30_000u64..90_000)),
        concurrency in prop::option::of(2u32..30),
        is_window in any::<bool>(),
        burst_seconds in prop_oneof![Just(10u32), Just(30), Just(60)],
        (phase, full, seed) in (0u64..60_000, any::<bool>(), 1u64..1_000_000),
        (written_percent, longest_ms) in (5u64..100, 100u64..15_000),
        dying_percent in prop_oneof![Just(0u64), Just(10)],
        manner in prop_oneof![Just(Manner::Silent), Just(Manner::Telling)],
        workers in prop_oneof![Just(1usize), Just(8)],
    ) {
        let mode = if is_window { QuotaMode::Window } else { QuotaMode::Bucket };
        let (requests, input, output, both) = limits;
        let policy = LimitPolicy { per_minute: [requests, input, output, both], concurrency, mode, burst_seconds };
        let plan = Plan {
            policy, phase, full: full || is_window, seed, seconds: 150, workers, slots: 40, input: 150, large: 8,
            bound_percent: 125, max_output: 400,
            written_percent, longest_ms, dying_percent, load_percent: 150, manner,
        };
        let (provider, outcome) = run(&plan);
        prop_assert_eq!((provider.refused, provider.is_overdrawn()), (0, false), "{:?} {:?}", provider.lowest, outcome);
        prop_assert!(outcome.calls > 0);
    }
}
