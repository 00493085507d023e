//! What is kept for how long, and that nothing stays behind.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use millhand_common::adapters::redis::{RedisOptions, RedisStore};
use millhand_common::conformance::store::{chat, completed, delta, new_tenant, request};
use millhand_common::model::{JobError, JobId, Lane, TenantId, Terminal, WaitReason, WorkerId};
use millhand_common::ports::{
    Accept, Accepted, Appended, Conversations, JobReader, JobStore, LogPage, Lookup, WorkerInfo,
};

use super::{alone, shared, subject};

const DAY: Duration = Duration::from_secs(24 * 3600);

async fn log(store: &RedisStore, tenant: &TenantId, job: JobId) -> LogPage {
    match store.log(tenant, job, 0, 100).await.unwrap() {
        Lookup::Found(page) => page,
        other => panic!("{other:?}"),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn logs_go_after_a_day_and_jobs_after_a_week_but_no_live_log_is_touched() {
    let options = alone();
    let clock = options.clock.clone();
    let store = RedisStore::open(&shared().await.url(), options).await.unwrap();
    let on = subject(Arc::clone(&store), clock.clone());
    let tenant = new_tenant();
    let keyed = |spec| Accept { idempotency: Some(("k".to_owned(), [1; 32])), ..request(spec) };
    let Accepted::Created(done) = store.accept(keyed(chat(&tenant, "q"))).await.unwrap() else { panic!() };
    let run = on.claim(&done, WorkerId::new()).await;
    on.finish(&run, completed("a")).await;
    let mut long = chat(&tenant, "a long one");
    long.deadline = DAY * 30;
    let live = on.accept(long).await;
    let worker = WorkerId::new();
    let run = on.claim(&live, worker).await;
    assert_eq!(on.append(&run.lease, 3, &["still writing"]).await, Appended::Ok);

    clock.advance(DAY - Duration::from_secs(1));
    assert_eq!(store.sweep().await.unwrap().logs_removed, 0);
    assert_eq!(log(&store, &tenant, done.spec.id).await.events.len(), 3);
    clock.advance(Duration::from_secs(2));
    assert_eq!(store.sweep().await.unwrap().logs_removed, 1);
    let page = log(&store, &tenant, done.spec.id).await;
    assert_eq!((page.events.len(), page.last_seq, page.trimmed_to, page.sealed), (0, 3, 3, true));
    let Lookup::Found(job) = JobReader::get(&*store, &tenant, done.spec.id).await.unwrap() else { panic!() };
    assert!(job.output.is_some(), "the record stays");
    let again = store.accept(keyed(chat(&tenant, "q"))).await.unwrap();
    assert!(matches!(again, Accepted::Existing(_)), "the key lives as long as its job: {again:?}");

    clock.advance(DAY * 6 + Duration::from_secs(1));
    assert_eq!(store.sweep().await.unwrap().jobs_removed, 1);
    assert_eq!(JobReader::get(&*store, &tenant, done.spec.id).await.unwrap(), Lookup::Gone);
    let conversation = done.spec.conversation_id.unwrap();
    assert_eq!(Conversations::get(&*store, &tenant, conversation).await.unwrap(), Lookup::Gone);
    let again = store.accept(keyed(chat(&tenant, "q"))).await.unwrap();
    assert!(matches!(again, Accepted::Created(_)), "the key went with its job: {again:?}");
    let page = log(&store, &tenant, live.spec.id).await;
    assert_eq!((page.events.len(), page.trimmed_to, page.sealed), (3, 0, false));
}

/// Keys of this store by kind: `<prefix>:{s7}:job:…` is a `job`.
fn kinds(keys: &str, prefix: &str) -> BTreeMap<String, usize> {
    let mut kinds = BTreeMap::new();
    for key in keys.lines().filter(|line| line.starts_with(&format!("{prefix}:"))) {
        let kind = key.split(':').nth(2).unwrap_or(key).trim().to_owned();
        *kinds.entry(kind).or_default() += 1;
    }
    kinds
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_whose_jobs_have_gone_holds_nothing_of_them() {
    let options = RedisOptions { keep_jobs: DAY, keep_events: DAY / 2, ..alone() };
    let (clock, prefix) = (options.clock.clone(), options.prefix.clone());
    let server = shared().await;
    let store = RedisStore::open(&server.url(), options).await.unwrap();
    let on = subject(Arc::clone(&store), clock.clone());
    let worker = WorkerId::new();
    let info = WorkerInfo {
        id: worker,
        slots: 1,
        running: 0,
        draining: false,
        own_index: false,
        host: String::new(),
    };
    for round in 0..24 {
        store.present(&info).await.unwrap();
        let tenant = new_tenant();
        let turns = on.accept_turns(&tenant, 3).await;
        let mut spec = chat(&tenant, "batch");
        spec.lane = Lane::Batch;
        on.accept(spec).await;
        let run = on.claim(&turns[0], worker).await;
        store.append(&run.lease, 3, vec![delta("text")]).await.unwrap();
        match round % 6 {
            0 => drop(on.finish(&run, completed("text")).await),
            1 => drop(on.finish(&run, Terminal::failed(JobError::new("x", "y", false))).await),
            2 => drop(store.release(&run.lease, None, WaitReason::Retry).await.unwrap()),
            3 => drop(store.cancel(&tenant, turns[0].spec.id).await.unwrap()),
            4 => store.challenge(&tenant, turns[0].spec.id).await.unwrap(),
            _ => {}
        }
    }
    assert!(kinds(&server.says("KEYS *").unwrap(), &prefix).len() > 20, "it was in use");
    // Every job ends by its deadline, then goes, then the memory of its id goes.
    for _ in 0..8 {
        clock.advance(DAY);
        store.sweep().await.unwrap();
    }
    let left = kinds(&server.says("KEYS *").unwrap(), &prefix);
    // Of a fixed size, whatever has come and gone.
    let may_stay = ["version", "usage", "format", "budget", "shares", "totals"];
    assert!(left.keys().all(|kind| may_stay.contains(&kind.as_str())), "left behind: {left:?}");
}
