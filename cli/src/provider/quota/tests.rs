//! Properties in virtual time, against the plain reading of each rule.

use proptest::prelude::*;

use super::*;

const SECOND: u64 = 1_000_000;
const MINUTE: u64 = 60 * SECOND;

fn rules(mode: Mode) -> Rules {
    Rules {
        mode,
        charge: None,
        burst_seconds: 60,
        requests_per_minute: None,
        tokens_per_minute: None,
        input_tokens_per_minute: None,
        output_tokens_per_minute: None,
        concurrency: None,
    }
}

fn modes() -> impl Strategy<Value = Mode> {
    prop_oneof![Just(Mode::Bucket), Just(Mode::Window), Just(Mode::Slices), Just(Mode::Arrival)]
}

fn some_rules() -> impl Strategy<Value = Rules> {
    let limit = || prop::option::of(0..2000_u64);
    let charge = prop::option::of(prop_oneof![Just(Charge::Actual), Just(Charge::Arrival)]);
    let limits = (limit(), limit(), limit(), limit());
    (modes(), charge, 1..90_u64, limits, prop::option::of(1..5_u32)).prop_map(
        |(mode, charge, burst_seconds, (requests, tokens, input, output), concurrency)| Rules {
            charge,
            burst_seconds,
            requests_per_minute: requests,
            tokens_per_minute: tokens,
            input_tokens_per_minute: input,
            output_tokens_per_minute: output,
            concurrency,
            ..rules(mode)
        },
    )
}

/// What happens next: time passes, a call asks, one writes, one ends.
#[derive(Clone, Debug)]
enum Move {
    Pass(u64),
    Ask(Ask),
    Write(u64),
    End,
}

fn moves() -> impl Strategy<Value = Vec<Move>> {
    let one = prop_oneof![
        3 => (0..20 * SECOND).prop_map(Move::Pass),
        5 => (0..400_u64, 0..400_u64).prop_map(|(input, max_output)| Move::Ask(Ask { input, max_output })),
        2 => (1..50_u64).prop_map(Move::Write),
        2 => Just(Move::End),
    ];
    prop::collection::vec(one, 1..120)
}

/// Every charge of a run: when, and how many units of each dimension; whether at arrival.
struct Run {
    quota: Quota,
    now: u64,
    charges: Vec<(u64, [u64; 4], bool)>,
}

fn run(rules: Rules, phase: u64, moves: &[Move]) -> Run {
    let mut run = Run { quota: Quota::new(rules, phase), now: 0, charges: Vec::new() };
    for step in moves {
        match step {
            Move::Pass(micros) => run.now += micros,
            Move::Ask(ask) => {
                if run.quota.admit(run.now, *ask).is_ok() {
                    let units = run.quota.at_arrival(*ask);
                    run.charges.push((run.now, units, true));
                }
            }
            Move::Write(tokens) if run.quota.running() > 0 => {
                run.quota.wrote(run.now, *tokens);
                if rules.charge() == Charge::Actual {
                    run.charges.push((run.now, [0, *tokens, 0, *tokens], false));
                }
            }
            Move::End if run.quota.running() > 0 => run.quota.ended(),
            Move::Write(_) | Move::End => {}
        }
    }
    run
}

proptest! {
    /// Between any two admissions, what was let in fits the bucket and its refill.
    #[test]
    fn a_bucket_lets_in_its_burst_and_its_rate_over_every_interval(
        moves in moves(), per_minute in 1..2000_u64, burst_seconds in 1..90_u64,
    ) {
        let rules = Rules { tokens_per_minute: Some(per_minute), burst_seconds, ..rules(Mode::Arrival) };
        let run = run(rules, 0, &moves);
        for (first, (from, ..)) in run.charges.iter().enumerate() {
            let mut sum = 0_u128;
            for (to, units, _) in &run.charges[first..] {
                sum += u128::from(units[1]);
                // In parts of a unit: nothing is rounded. A bucket holds one unit at least.
                let held = (u128::from(per_minute) * u128::from(burst_seconds * SECOND)).max(u128::from(MINUTE));
                let most = held + u128::from(per_minute) * u128::from(to - from);
                prop_assert!(sum * u128::from(MINUTE) <= most, "{sum} in {} us", to - from);
            }
        }
    }

    /// In no window is more let in than it holds, in no minute of slices more than the limit.
    #[test]
    fn a_window_lets_in_no_more_than_its_limit(
        moves in moves(), per_minute in 6..2000_u64, phase in 0..MINUTE, slices in any::<bool>(),
    ) {
        let mode = if slices { Mode::Slices } else { Mode::Window };
        let rules = Rules { tokens_per_minute: Some(per_minute), charge: Some(Charge::Arrival), ..rules(mode) };
        let run = run(rules, phase, &moves);
        let (width, most) = if slices { (10 * SECOND, per_minute / 6) } else { (MINUTE, per_minute) };
        for (width, most) in [(width, most), (MINUTE, per_minute)] {
            let mut sums = std::collections::HashMap::new();
            for (at, units, _) in &run.charges {
                *sums.entry((at + phase) / width).or_insert(0_u64) += units[1];
            }
            prop_assert!(sums.values().all(|sum| *sum <= most), "{sums:?}");
        }
    }

    /// All or nothing: a refusal leaves everything as it was.
    #[test]
    fn a_refusal_costs_nothing(rules in some_rules(), phase in 0..MINUTE, moves in moves(), input in 0..3000_u64) {
        let Run { mut quota, now, .. } = run(rules, phase, &moves);
        quota.advance(now);
        let before = quota.clone();
        if quota.admit(now, Ask { input, max_output: 100 }).is_err() {
            prop_assert_eq!(quota, before);
        }
    }

    /// The wait that a refusal names is long enough and, in buckets, not a microsecond too long.
    #[test]
    fn the_named_wait_is_exact(rules in some_rules(), phase in 0..MINUTE, moves in moves(), input in 0..1000_u64) {
        let rules = Rules { concurrency: None, ..rules };
        let Run { mut quota, now, .. } = run(rules, phase, &moves);
        let ask = Ask { input, max_output: 10 };
        if let Err(Refusal::Later { wait, .. }) = quota.admit(now, ask) {
            let wait = u64::try_from(wait.as_micros()).unwrap();
            prop_assert!(wait > 0);
            let mut early = quota.clone();
            prop_assert!(early.admit(now + wait - 1, ask).is_err(), "a microsecond earlier");
            // A window in debt is full in the next one, a bucket is exactly full enough.
            prop_assert!(quota.admit(now + wait, ask).is_ok(), "after {wait} us");
        }
    }

    /// `Never` is for what no empty provider lets in, and for nothing else.
    #[test]
    fn never_means_never(rules in some_rules(), phase in 0..MINUTE, moves in moves(), input in 0..4000_u64) {
        let rules = Rules { concurrency: None, ..rules };
        let Run { mut quota, now, .. } = run(rules, phase, &moves);
        let ask = Ask { input, max_output: 10 };
        let never = matches!(quota.admit(now, ask), Err(Refusal::Never { .. }));
        prop_assert_eq!(never, Quota::new(rules, phase).admit(0, ask).is_err());
    }

    /// The ledger's sums are the sums of what was charged, and calls at a time keep their limit.
    #[test]
    fn charges_are_counted_once(rules in some_rules(), phase in 0..MINUTE, moves in moves()) {
        let Run { mut quota, now, charges } = run(rules, phase, &moves);
        prop_assert!(rules.concurrency.is_none_or(|most| quota.running() <= most));
        for counted in quota.counted(now) {
            let at = Dimension::ALL.iter().position(|one| *one == counted.dimension).unwrap();
            prop_assert_eq!(counted.charged, charges.iter().map(|(_, units, _)| units[at]).sum::<u64>());
            // Nothing that is charged at arrival alone can be over its limit.
            if rules.charge() == Charge::Arrival || counted.dimension == Dimension::Requests {
                prop_assert_eq!(counted.overdrawn, 0);
            }
        }
    }

    /// A changed limit is no fresh quota: changed and changed back, as much is left as before.
    #[test]
    fn changing_limits_gives_nothing_back(rules in some_rules(), phase in 0..MINUTE, moves in moves(), factor in 1..5_u64) {
        let Run { mut quota, now, .. } = run(rules, phase, &moves);
        let before = quota.counted(now);
        let tokens_per_minute = rules.tokens_per_minute.map(|limit| limit * factor);
        let wider = Rules { tokens_per_minute, ..rules };
        quota.change(now, wider);
        quota.change(now, rules);
        prop_assert_eq!(before, quota.counted(now));
    }

    /// A clock that steps back refills nothing.
    #[test]
    fn time_never_goes_back(rules in some_rules(), phase in 0..MINUTE, moves in moves(), back in 0..MINUTE) {
        let Run { mut quota, now, .. } = run(rules, phase, &moves);
        let before = quota.counted(now);
        prop_assert_eq!(before, quota.counted(now.saturating_sub(back)));
    }
}

#[test]
fn what_is_written_can_overdraw_and_is_paid_back_first() {
    let mut quota = Quota::new(Rules { output_tokens_per_minute: Some(60), ..rules(Mode::Bucket) }, 0);
    let ask = Ask { input: 5, max_output: 500 };
    quota.admit(0, ask).unwrap();
    quota.wrote(0, 90);
    let Err(Refusal::Later { left, wait, .. }) = quota.admit(0, ask) else { panic!("let in") };
    assert_eq!((left, wait), (-30, Duration::from_secs(31)));
    assert_eq!(quota.counted(0)[0].overdrawn, 30);
}

#[test]
fn headers_tell_of_the_minute_while_slices_decide() {
    let mut quota = Quota::new(Rules { requests_per_minute: Some(60), ..rules(Mode::Slices) }, 0);
    let ask = Ask { input: 1, max_output: 1 };
    for _ in 0..10 {
        quota.admit(0, ask).unwrap();
    }
    assert!(
        matches!(quota.admit(0, ask), Err(Refusal::Later { wait, .. }) if wait == Duration::from_secs(10))
    );
    let shown = quota.shown(0)[0];
    assert_eq!((shown.limit, shown.left, shown.reset), (60, 50, Duration::from_secs(60)));
}

#[test]
fn a_halved_limit_keeps_what_was_used() {
    let full = Rules { tokens_per_minute: Some(1000), ..rules(Mode::Arrival) };
    let mut quota = Quota::new(full, 0);
    quota.admit(0, Ask { input: 200, max_output: 100 }).unwrap();
    quota.change(0, Rules { tokens_per_minute: Some(500), ..full });
    assert_eq!(quota.counted(0)[0].left, 200);
}
