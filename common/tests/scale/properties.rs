//! What holds of every decision.

use std::time::Duration;

use millhand_common::ports::Dimension;
use millhand_common::scale::{Limit, Quota, Reason, SHRINK, Settings, Situation, decide};
use proptest::prelude::*;

fn some_settings() -> impl Strategy<Value = Settings> {
    (0..5u32, 0..40u32, 1..80u32, 0..60u64, 1..120u64).prop_map(|(min, more, slots, start_up, drain)| {
        Settings {
            start_up: Duration::from_secs(start_up),
            drain_target: Duration::from_secs(drain),
            ..Settings::new(min, min + more, slots)
        }
    })
}

fn some_situation() -> impl Strategy<Value = Situation> {
    let work = (0..50u32, 0..2000u64, 0..2000u64, 0..600u64);
    let measures = (0.0..50.0f64, 0.1..120.0f64, 0.0..5.0f64);
    let held = (proptest::option::of((0.0..100.0f64, 0.0..1.0f64)), proptest::bool::weighted(0.2), 0..50u32);
    (work, measures, held).prop_map(|(work, measures, (quota, is_stalled, most_needed))| Situation {
        workers: work.0,
        backlog: work.1,
        running: work.2,
        oldest_ready: Duration::from_secs(work.3),
        arrivals_per_second: measures.0,
        service_seconds: measures.1,
        calls_per_job: measures.2,
        quota: quota.map(|(calls_per_second, used)| Quota {
            limit: Limit::PerMinute(Dimension::Requests),
            calls_per_second,
            used,
        }),
        stalled_for: is_stalled.then_some(Duration::from_secs(60)),
        most_needed,
    })
}

/// Workers that the quota keeps busy.
fn quota_cap(settings: &Settings, now: &Situation, margin: f64) -> Option<u32> {
    let calls = now.quota.filter(|_| now.calls_per_job > 0.0)?.calls_per_second;
    let slots = calls / now.calls_per_job * now.service_seconds * margin;
    Some(((slots / f64::from(settings.slots)).ceil() as u32).max(1))
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    #[test]
    fn it_stays_within_min_and_max(settings in some_settings(), now in some_situation()) {
        let decision = decide(&settings, &now);
        prop_assert!((settings.min..=settings.max).contains(&decision.workers), "{decision:?}");
        prop_assert!((settings.min..=settings.max).contains(&decision.needed), "{decision:?}");
    }

    #[test]
    fn it_never_adds_workers_beyond_the_quota(settings in some_settings(), now in some_situation()) {
        let decision = decide(&settings, &now);
        let Some(cap) = quota_cap(&settings, &now, 1.0) else { return Ok(()) };
        prop_assert!(decision.workers <= now.workers.max(cap).max(settings.min), "{decision:?}, {cap} at most");
    }

    #[test]
    fn it_keeps_none_beyond_the_quota_for_long(settings in some_settings(), now in some_situation()) {
        let now = Situation { most_needed: 0, running: 0, stalled_for: None, ..now };
        let decision = decide(&settings, &now);
        let Some(cap) = quota_cap(&settings, &now, SHRINK.quota) else { return Ok(()) };
        prop_assert!(decision.workers <= cap.max(settings.min), "{decision:?}, {cap} at most");
    }

    #[test]
    fn more_work_never_makes_it_fewer(
        settings in some_settings(), now in some_situation(), ready in 0..500u64, age in 0..500u64, rate in 0.0..10.0f64,
    ) {
        let more = Situation {
            backlog: now.backlog + ready,
            oldest_ready: now.oldest_ready + Duration::from_secs(age),
            arrivals_per_second: now.arrivals_per_second + rate,
            ..now.clone()
        };
        prop_assert!(decide(&settings, &now).workers <= decide(&settings, &more).workers);
    }

    #[test]
    fn more_quota_never_makes_it_fewer(settings in some_settings(), now in some_situation(), calls in 0.0..50.0f64) {
        let quota = now.quota.map(|quota| Quota { calls_per_second: quota.calls_per_second + calls, ..quota });
        let more = Situation { quota, ..now.clone() };
        let none = Situation { quota: None, ..now.clone() };
        prop_assert!(decide(&settings, &now).workers <= decide(&settings, &more).workers);
        prop_assert!(decide(&settings, &more).workers <= decide(&settings, &none).workers);
    }

    #[test]
    fn a_stall_adds_none(settings in some_settings(), now in some_situation()) {
        let workers = now.workers.max(1);
        let now = Situation { workers, stalled_for: Some(Duration::from_secs(60)), ..now };
        prop_assert!(decide(&settings, &now).workers <= workers.max(settings.min));
    }

    #[test]
    fn what_runs_keeps_its_slots(settings in some_settings(), now in some_situation()) {
        let decision = decide(&settings, &now);
        let slots = u64::from(decision.workers) * u64::from(settings.slots);
        let had = u64::from(now.workers.min(settings.max)) * u64::from(settings.slots);
        prop_assert!(slots >= now.running.min(had), "{decision:?}");
    }

    #[test]
    fn what_it_decided_is_what_it_decides_again(settings in some_settings(), now in some_situation()) {
        let first = decide(&settings, &now);
        let again = decide(&settings, &Situation { workers: first.workers, ..now });
        prop_assert_eq!(first.workers, again.workers);
    }

    #[test]
    fn work_wakes_the_first_worker(settings in some_settings(), now in some_situation(), ready in 1..5u64) {
        let settings = Settings { max: settings.max.max(1), ..settings };
        let now = Situation { workers: 0, backlog: ready, ..now };
        prop_assert!(decide(&settings, &now).workers >= 1);
    }

    #[test]
    fn a_number_that_is_not_the_load_s_has_another_reason(settings in some_settings(), now in some_situation()) {
        let decision = decide(&settings, &now);
        if let Reason::Load { slots, .. } = decision.reason
            && decision.workers > now.workers
        {
            let workers = (slots / f64::from(settings.slots)).ceil() as u32;
            prop_assert_eq!(decision.workers, workers.max(1));
        }
    }
}
