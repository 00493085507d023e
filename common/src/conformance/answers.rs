//! What every adapter of [`AnswerCache`] must do.
//!
//! An adapter's test calls [`answers_conformance!`](crate::answers_conformance) with a function that returns a
//! cache; others may use the same one meanwhile. Time is real: what ends by itself is waited for.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use uuid::Uuid;

use crate::model::TenantId;
use crate::ports::{AnswerCache, AnswerKey, Asked};

/// Longer than any test takes.
const LONG: Duration = Duration::from_secs(600);
/// Long enough to be seen while it lasts, on a busy machine too.
const SHORT: Duration = Duration::from_millis(400);

type Cache = Arc<dyn AnswerCache>;

/// A call that nobody asked for before, of this tenant.
fn call(tenant: &str) -> AnswerKey {
    AnswerKey::new(tenant.parse::<TenantId>().expect("a name"), &Uuid::now_v7())
}

async fn ask(cache: &Cache, key: &AnswerKey, lease: Duration) -> (Uuid, Asked) {
    let flight = Uuid::now_v7();
    (flight, cache.ask(key, flight, lease).await.expect("ask"))
}

/// One who has the lead.
async fn leader(cache: &Cache, key: &AnswerKey, lease: Duration) -> Uuid {
    let (flight, asked) = ask(cache, key, lease).await;
    assert_eq!(asked, Asked::Lead);
    flight
}

async fn land(cache: &Cache, key: &AnswerKey, flight: Uuid, answer: &str, keep: Duration) -> bool {
    cache.land(key, flight, answer, keep).await.expect("land")
}

/// Asks until the answer is this one; how long it took.
async fn until(cache: &Cache, key: &AnswerKey, expected: Asked) -> (Uuid, Duration) {
    let started = Instant::now();
    loop {
        let (flight, asked) = ask(cache, key, LONG).await;
        if asked == expected {
            return (flight, started.elapsed());
        }
        assert!(started.elapsed() < Duration::from_secs(20), "{asked:?} for ever");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

pub async fn the_first_leads_the_others_follow_and_get_its_answer(open: impl AsyncFn() -> Cache) {
    let (cache, key) = (open().await, call("a"));
    let flight = leader(&cache, &key, LONG).await;
    for _ in 0..3 {
        assert_eq!(ask(&cache, &key, LONG).await.1, Asked::Follow);
    }
    let answer = "水磨坊 \"[[b7k2]]\"\u{0}\n";
    assert!(land(&cache, &key, flight, answer, LONG).await);
    for _ in 0..3 {
        assert_eq!(ask(&cache, &key, LONG).await.1, Asked::Kept(answer.to_owned()));
    }
    assert!(!land(&cache, &key, flight, "another", LONG).await, "its lead has ended");
    assert_eq!(ask(&cache, &key, LONG).await.1, Asked::Kept(answer.to_owned()));
}

pub async fn asking_again_for_one_s_own_flight_is_asking_once(open: impl AsyncFn() -> Cache) {
    let (cache, key) = (open().await, call("a"));
    let flight = leader(&cache, &key, LONG).await;
    assert_eq!(cache.ask(&key, flight, LONG).await.expect("ask"), Asked::Lead);
    assert_eq!(ask(&cache, &key, LONG).await.1, Asked::Follow);
}

pub async fn of_many_at_once_one_leads(open: impl AsyncFn() -> Cache) {
    const MANY: u32 = 24;
    let (cache, key) = (open().await, call("a"));
    let leads = AtomicU32::new(0);
    let asking = (0..MANY).map(|_| async {
        if ask(&cache, &key, LONG).await.1 == Asked::Lead {
            leads.fetch_add(1, Ordering::SeqCst);
        }
    });
    futures::future::join_all(asking).await;
    assert_eq!(leads.into_inner(), 1);
}

pub async fn an_abandoned_lead_is_the_next_one_s(open: impl AsyncFn() -> Cache) {
    let (cache, key) = (open().await, call("a"));
    let first = leader(&cache, &key, LONG).await;
    cache.abandon(&key, Uuid::now_v7()).await.expect("abandon");
    assert_eq!(ask(&cache, &key, LONG).await.1, Asked::Follow, "only the leader can give it up");
    cache.abandon(&key, first).await.expect("abandon");
    let second = leader(&cache, &key, LONG).await;
    cache.abandon(&key, first).await.expect("abandon");
    assert_eq!(ask(&cache, &key, LONG).await.1, Asked::Follow, "giving up twice is once");
    assert!(land(&cache, &key, second, "x", LONG).await);
}

pub async fn a_dead_leader_is_replaced_when_its_lease_has_ended_and_writes_nothing_after(
    open: impl AsyncFn() -> Cache,
) {
    let (cache, key) = (open().await, call("a"));
    let asked = Instant::now();
    let dead = leader(&cache, &key, SHORT).await;
    let (next, _) = until(&cache, &key, Asked::Lead).await;
    assert!(asked.elapsed() >= SHORT, "{:?}", asked.elapsed());
    assert!(!cache.renew(&key, dead, LONG).await.expect("renew"));
    assert!(!land(&cache, &key, dead, "late", LONG).await);
    cache.abandon(&key, dead).await.expect("abandon");
    assert_eq!(ask(&cache, &key, LONG).await.1, Asked::Follow);
    assert!(land(&cache, &key, next, "answer", LONG).await);
    assert_eq!(ask(&cache, &key, LONG).await.1, Asked::Kept("answer".to_owned()));
}

pub async fn a_lead_that_is_renewed_goes_on(open: impl AsyncFn() -> Cache) {
    let (cache, key) = (open().await, call("a"));
    let flight = leader(&cache, &key, SHORT).await;
    assert!(cache.renew(&key, flight, LONG).await.expect("renew"));
    let renewed = Instant::now();
    while renewed.elapsed() < SHORT * 2 {
        assert_eq!(ask(&cache, &key, LONG).await.1, Asked::Follow);
        tokio::time::sleep(SHORT / 8).await;
    }
    assert!(land(&cache, &key, flight, "x", LONG).await);
}

pub async fn an_answer_is_kept_no_longer_than_it_was_said(open: impl AsyncFn() -> Cache) {
    let (cache, key) = (open().await, call("a"));
    let flight = leader(&cache, &key, LONG).await;
    let landing = Instant::now();
    assert!(land(&cache, &key, flight, "x", SHORT).await);
    until(&cache, &key, Asked::Lead).await;
    assert!(landing.elapsed() >= SHORT, "{:?}", landing.elapsed());
}

pub async fn one_tenant_s_answers_and_flights_are_not_another_s(open: impl AsyncFn() -> Cache) {
    let cache = open().await;
    let question = Uuid::now_v7();
    let key = |tenant: &str| AnswerKey::new(tenant.parse::<TenantId>().expect("a name"), &question);
    let (ours, theirs) = (key("a"), key("b"));
    let flight = leader(&cache, &ours, LONG).await;
    let other = leader(&cache, &theirs, LONG).await;
    assert!(!land(&cache, &theirs, flight, "ours", LONG).await, "a flight is of one tenant");
    assert!(land(&cache, &ours, flight, "ours", LONG).await);
    assert_eq!(ask(&cache, &theirs, LONG).await.1, Asked::Follow);
    assert!(land(&cache, &theirs, other, "theirs", LONG).await);
    assert_eq!(ask(&cache, &ours, LONG).await.1, Asked::Kept("ours".to_owned()));
    assert_eq!(ask(&cache, &theirs, LONG).await.1, Asked::Kept("theirs".to_owned()));
}

/// Makes one test of each clause: `answers_conformance!(open)`, where `open` is an async function that
/// returns a cache.
#[macro_export]
macro_rules! answers_conformance {
    ($open:path) => {
        $crate::answers_conformance! { @ $open,
            the_first_leads_the_others_follow_and_get_its_answer,
            asking_again_for_one_s_own_flight_is_asking_once,
            of_many_at_once_one_leads,
            an_abandoned_lead_is_the_next_one_s,
            a_dead_leader_is_replaced_when_its_lease_has_ended_and_writes_nothing_after,
            a_lead_that_is_renewed_goes_on,
            an_answer_is_kept_no_longer_than_it_was_said,
            one_tenant_s_answers_and_flights_are_not_another_s,
        }
    };
    (@ $open:path, $($clause:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $clause() {
                $crate::conformance::answers::$clause($open).await;
            }
        )*
    };
}
