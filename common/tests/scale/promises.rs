//! What is promised of the scaler, as stories.

use std::time::Duration;

use millhand_common::ports::Dimension;
use millhand_common::scale::{Limit, Observed, Quota, SETTLE, Scaler, Situation, Totals, decide};

use crate::outcome::Outcome;
use crate::rules::{Millhand, Name, Rule, Seen};
use crate::scenario::{self, Scenario, settings};
use crate::world::run;

/// More than the one that the page shows.
const SEEDS: std::ops::Range<u64> = 2..8;

fn ours(scenario: &Scenario, seed: u64) -> Outcome {
    run(scenario, seed, Name::Millhand.rule().as_mut())
}

/// Ours, and KEDA's rule in the better of its two settings.
fn both(scenario: &Scenario) -> impl Iterator<Item = (Outcome, Outcome)> {
    SEEDS.map(move |seed| (ours(scenario, seed), run(scenario, seed, Name::KedaAll.rule().as_mut())))
}

fn seconds(seconds: u64) -> Duration {
    Duration::from_secs(seconds)
}

#[test]
fn steady_load_reverses_at_most_once_in_five_minutes() {
    for scenario in scenario::all().into_iter().filter(|scenario| !scenario.steady.is_empty()) {
        for seed in SEEDS {
            let flaps = ours(&scenario, seed).most_flaps(&scenario.steady);
            assert!(flaps <= 1, "{}, seed {seed}: {flaps} reversals", scenario.name);
        }
    }
}

#[test]
fn a_steady_load_waits_for_nothing_with_fewer_workers() {
    for (ours, keda) in both(&scenario::steady()) {
        assert!(ours.wait(0.95) < 1.0, "p95 {:.1} s", ours.wait(0.95));
        assert!(ours.worker_hours() < keda.worker_hours());
        assert!(ours.reversals.len() <= keda.reversals.len());
    }
}

#[test]
fn a_burst_waits_for_less_with_fewer_worker_hours() {
    for (ours, keda) in both(&scenario::burst()) {
        assert!(ours.wait(0.95) < keda.wait(0.95) * 0.7);
        assert!(ours.worker_hours() < keda.worker_hours() * 0.6);
    }
}

#[test]
fn a_day_s_longest_wait_is_one_start_up() {
    let scenario = scenario::day();
    let (ours, keda) = both(&scenario).next().unwrap();
    assert!(ours.wait(1.0) < settings().start_up.as_secs_f64() + 5.0, "{:.1} s", ours.wait(1.0));
    assert!(ours.wait(1.0) < keda.wait(1.0));
    // It takes more workers for that, but not many.
    assert!(ours.worker_hours() < keda.worker_hours() * 1.2);
}

#[test]
fn a_slow_drift_is_followed_without_a_wait() {
    for (ours, keda) in both(&scenario::drift()) {
        assert!(ours.wait(0.95) < 1.0, "p95 {:.1} s", ours.wait(0.95));
        assert!(ours.reversals.len() <= keda.reversals.len());
        assert!(ours.worker_hours() < keda.worker_hours() * 1.1);
    }
}

#[test]
fn a_stuck_dependency_adds_no_workers() {
    let scenario = scenario::stuck();
    for (ours, keda) in both(&scenario) {
        // After three service times, which are noticed within a minute.
        assert_eq!(ours.workers_at(1199), ours.workers_at(960));
        assert!(ours.workers_at(1199) < settings().max / 2);
        assert_eq!(keda.workers_at(1199), settings().max);
        assert!(ours.worker_hours() < keda.worker_hours() * 0.75);
        // The price: what has gathered waits for workers when it moves again.
        assert!(ours.wait(0.95) < keda.wait(0.95) * 1.3);
    }
    let mut rule = Millhand::new();
    run(&scenario, 1, &mut rule);
    assert!(rule.reasons.iter().any(|(_, _, reason)| reason.as_str() == "stalled"), "{:?}", rule.reasons);
}

#[test]
fn a_halved_limit_takes_workers_away_and_costs_no_time() {
    let scenario = scenario::quota();
    for (ours, keda) in both(&scenario) {
        // Four calls/s of 9.4 s, and a third more, are 49 slots.
        let most = (960..1800).map(|second| ours.workers_at(second)).max().unwrap();
        assert!(most <= 4, "{most} workers");
        assert!(keda.workers_at(1799) > 12);
        assert!(ours.worker_hours() < keda.worker_hours() / 2.0);
        assert!(ours.wait(0.95) < keda.wait(0.95) * 1.1);
    }
    let mut rule = Millhand::new();
    run(&scenario, 1, &mut rule);
    let during = |at: &Duration| (seconds(900)..seconds(1800)).contains(at);
    let why = rule.reasons.iter().find(|(at, _, reason)| during(at) && reason.as_str() == "quota");
    assert!(why.is_some_and(|(.., why)| why.to_string().contains("% of tokens/min; more would wait")));
}

#[test]
fn processor_time_tells_nothing_of_jobs_that_wait_for_a_model() {
    let scenario = scenario::steady();
    let usual = run(&scenario, 2, Name::CpuUsual.rule().as_mut());
    assert_eq!(usual.peak, 1);
    assert!(usual.wait(0.95) > 600.0);
    // Tuned to what a full worker uses it follows, with more workers.
    let tuned = run(&scenario, 2, Name::CpuTuned.rule().as_mut());
    assert!(ours(&scenario, 2).worker_hours() < tuned.worker_hours());
}

#[test]
fn an_empty_queue_brings_back_min_within_a_minute() {
    let scenario = scenario::burst();
    for seed in SEEDS {
        let outcome = ours(&scenario, seed);
        let (since, (at, workers)) = (outcome.idle_since.unwrap(), *outcome.changes.last().unwrap());
        assert_eq!(workers, settings().min);
        assert!(at <= since + 60_000, "{} s", (at - since) / 1000);
    }
}

/// Rounds of ten seconds, and a scaler that starts anew after half an hour.
struct Shaky(Millhand);

impl Rule for Shaky {
    fn every_ms(&self) -> u64 {
        10_000
    }

    fn decide(&mut self, seen: &Seen) -> u32 {
        if seen.now == seconds(1800) {
            self.0 = Millhand::new();
        }
        self.0.decide(seen)
    }
}

#[test]
fn rare_rounds_and_a_new_start_change_little() {
    let scenario = scenario::steady();
    for seed in SEEDS {
        let outcome = run(&scenario, seed, &mut Shaky(Millhand::new()));
        assert!(outcome.most_flaps(&scenario.steady) <= 1);
        assert!(outcome.wait(0.95) < 1.0, "p95 {:.1} s", outcome.wait(0.95));
        let least = (1800..3600).map(|second| outcome.workers_at(second)).min().unwrap();
        assert!(least >= 6, "{least} workers for 94 busy slots");
    }
}

#[test]
fn work_that_comes_due_wakes_a_worker_before_its_time() {
    let mut scaler = Scaler::new(settings());
    let nothing = Observed::default();
    assert_eq!(scaler.decide(seconds(1), &nothing).workers, 0);
    let soon = Observed { due_soon: 1, ..nothing };
    assert_eq!(scaler.decide(seconds(2), &soon).workers, 1);
}

#[test]
fn the_last_worker_stays_for_a_while() {
    let mut scaler = Scaler::new(settings());
    let job =
        Observed { ready: 1, totals: Totals { arrived: 1, ..Totals::default() }, ..Observed::default() };
    assert_eq!(scaler.decide(seconds(1), &job).workers, 1);
    let idle = Observed { workers: 1, ready: 0, ..job };
    let last = (2..).find(|second| scaler.decide(seconds(*second), &idle).workers == 0).unwrap();
    assert_eq!(seconds(last), seconds(1) + SETTLE + seconds(1));
}

#[test]
fn reasons_are_plain_words() {
    let limit = Limit::PerMinute(Dimension::Tokens);
    let busy = Situation {
        workers: 3,
        backlog: 120,
        running: 47,
        oldest_ready: seconds(12),
        arrivals_per_second: 6.2,
        service_seconds: 9.1,
        calls_per_job: 1.0,
        quota: None,
        stalled_for: None,
        most_needed: 0,
    };
    let idle = Situation { backlog: 0, running: 0, ..busy.clone() };
    let quota = |calls_per_second| Some(Quota { limit, calls_per_second, used: 0.98 });
    let few = Situation { backlog: 0, running: 2, arrivals_per_second: 0.1, ..busy.clone() };
    let situations = [
        busy.clone(),
        Situation { quota: quota(5.0), ..busy.clone() },
        Situation { quota: quota(5.0), workers: 1, ..busy.clone() },
        Situation { stalled_for: Some(seconds(42)), ..busy.clone() },
        Situation { oldest_ready: seconds(75), ..busy.clone() },
        Situation { backlog: 2000, ..busy.clone() },
        idle.clone(),
        Situation { running: 20, arrivals_per_second: 0.0, ..idle.clone() },
        Situation { most_needed: 3, ..few.clone() },
        few,
    ];
    let said = situations.iter().map(|now| {
        let decision = decide(&settings(), now);
        format!("{} → {}: {}", now.workers, decision.workers, decision.reason)
    });
    insta::assert_snapshot!(said.collect::<Vec<_>>().join("\n"), @r"
    3 → 7: load: 6.2 jobs/s of 9.1 s keep 56.4 slots busy, 120 jobs wait; 101 slots needed
    3 → 3: quota binds: 3 workers already use 98 % of tokens/min; more would wait
    1 → 3: quota binds: 3 workers can use all tokens/min, of which 98 % are used now; more would wait
    3 → 3: stalled: none of 47 running jobs has ended for 42 s; more would be stuck too
    3 → 10: late: the oldest job has waited 75 s, more than 50 s; more workers than its numbers ask for
    3 → 24: max: 42 workers wanted, 24 allowed
    3 → 0: idle: no job is ready, running or due soon
    3 → 2: running: 20 jobs still run
    3 → 3: settling: 1 worker would do, if still so for 45 s
    3 → 1: load: 0.1 jobs/s of 9.1 s keep 0.9 slots busy, 0 jobs wait; 5 slots needed
    ");
}
