//! What only a store on disk can be asked: to survive its process, to stay bounded, to be copied.

use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use millhand_common::adapters::embedded::{Clock, EmbeddedStore, StoreOptions};
use millhand_common::conformance::keys;
use millhand_common::conformance::store::{chat, completed, delta, new_tenant, request};
use millhand_common::follow::Follower;
use millhand_common::model::{JobId, Lane, Status, TenantId, WaitReason, WorkerId};
use millhand_common::ports::{
    Accept, Accepted, Appended, By, Claim, Claimed, Closed, Conversations, Expected, JobReader, JobStore,
    Keys, Lookup, Run,
};

use crate::{Opened, open_at, open_with};

#[tokio::test]
async fn keys_are_kept_listed_and_revoked() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { store, .. } = open_at(dir.path(), Clock::manual());
    keys::keys_are_kept_listed_and_revoked(store.clone(), store.clone()).await;
    let before = store.keys().await.unwrap();
    drop(store);
    assert_eq!(open_at(dir.path(), Clock::manual()).store.keys().await.unwrap(), before);
}

#[tokio::test]
async fn a_store_closed_and_opened_again_is_the_same() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::manual();
    let tenant = new_tenant();
    let Opened { store, .. } = open_at(dir.path(), clock.clone());
    let Accepted::Created(done) = store.accept(request(chat(&tenant, "问"))).await.unwrap() else {
        panic!()
    };
    let run = claim(&store, &tenant, done.spec.id).await;
    store.append(&run.lease, 3, vec![delta("答"), delta("案")]).await.unwrap();
    finish(&store, &run, 5, "答案").await;
    let before = (
        JobReader::get(&*store, &tenant, done.spec.id).await.unwrap(),
        log(&store, &tenant, done.spec.id).await,
        Conversations::history(&*store, &tenant, done.spec.conversation_id.unwrap(), 10).await.unwrap(),
        store.depth(Duration::ZERO).await.unwrap(),
    );
    drop(store);
    let Opened { store, .. } = open_at(dir.path(), clock);
    let after = (
        JobReader::get(&*store, &tenant, done.spec.id).await.unwrap(),
        log(&store, &tenant, done.spec.id).await,
        Conversations::history(&*store, &tenant, done.spec.conversation_id.unwrap(), 10).await.unwrap(),
        store.depth(Duration::ZERO).await.unwrap(),
    );
    assert_eq!(after, before);
    assert_eq!(after.3[0].totals.ended, 1);
}

#[tokio::test]
async fn a_job_lives_through_a_reopened_store_and_its_reader_misses_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let Opened { store, .. } = open_with(dir.path(), StoreOptions::default());
    let tenant = TenantId::default();
    let accept = request(chat(&tenant, "谁建了磨坊?"));
    let id = accept.spec.id;
    let conversation = accept.spec.conversation_id.unwrap();
    assert!(matches!(store.accept(accept.clone()).await.unwrap(), Accepted::Created(_)));
    assert!(matches!(store.accept(accept).await.unwrap(), Accepted::Existing(_)));
    let worker = WorkerId::new();
    let Claimed::Run(first) = store.claim(&tenant, id, Claim::new(worker)).await.unwrap() else {
        panic!("a queued job is claimed")
    };
    assert!(matches!(store.claim(&tenant, id, Claim::new(worker)).await.unwrap(), Claimed::Busy));
    drop(store);

    let Opened { store, .. } = open_with(dir.path(), StoreOptions::default());
    store.due().await;
    let run = store.claim_due(Lane::Interactive, Claim::new(worker)).await.unwrap().unwrap();
    assert_eq!((run.job.attempt, run.job.deaths), (2, 1));
    let written = vec![delta("答案")];
    let seq = run.job.last_seq + 1;
    assert_eq!(store.append(&first.lease, seq, written.clone()).await.unwrap(), Appended::Fenced);
    let reader: Arc<dyn JobReader> = store.clone();
    let mut follower = Follower::new(reader, tenant.clone(), id, 0);
    for seq in 1..=3 {
        assert_eq!(follower.next().await.unwrap().unwrap().seq, seq);
    }
    assert_eq!(store.append(&run.lease, seq, written.clone()).await.unwrap(), Appended::Ok);
    assert_eq!(store.append(&run.lease, seq, written).await.unwrap(), Appended::Duplicate);
    assert_eq!(follower.next().await.unwrap().unwrap().kind, "output_text.delta");
    let by = By::Owner { epoch: run.lease.epoch, first_seq: seq + 1, tail: Vec::new() };
    assert_eq!(store.close(&tenant, id, by, completed("答案")).await.unwrap(), Closed::Ok);
    assert_eq!(follower.next().await.unwrap().unwrap().kind, "job.completed");
    assert!(follower.next().await.unwrap().is_none());
    let Lookup::Found(job) = JobReader::get(&*store, &tenant, id).await.unwrap() else {
        panic!("the job is kept")
    };
    assert_eq!((job.status, job.last_seq), (Status::Completed, 5));
    let history = store.history(&tenant, conversation, 10).await.unwrap();
    assert_eq!(history.len(), 2);
    assert!(JobStore::delete(&*store, &tenant, id).await.unwrap());
    assert_eq!(JobReader::get(&*store, &tenant, id).await.unwrap(), Lookup::Gone);
}

#[tokio::test]
async fn a_restart_voids_every_lease_and_runs_what_was_queued_at_once() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::manual();
    let tenant = new_tenant();
    let Opened { store, .. } = open_at(dir.path(), clock.clone());
    let mut ids = Vec::new();
    for _ in 0..4 {
        let spec = chat(&tenant, "q");
        ids.push(spec.id);
        store.accept(request(spec)).await.unwrap();
    }
    let old = claim(&store, &tenant, ids[0]).await;
    drop(store);
    let Opened { store, .. } = open_at(dir.path(), clock);
    let mut claimed = Vec::new();
    while let Some(run) = store.claim_due(Default::default(), Claim::new(WorkerId::new())).await.unwrap() {
        claimed.push(run.job.spec.id);
    }
    assert_eq!(claimed, ids);
    let closed = store
        .close(
            &tenant,
            ids[0],
            By::Owner { epoch: old.lease.epoch, first_seq: 3, tail: Vec::new() },
            completed("zombie"),
        )
        .await
        .unwrap();
    assert_eq!(closed, Closed::Fenced);
}

#[tokio::test]
async fn a_released_job_keeps_its_time_over_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::manual();
    let tenant = new_tenant();
    let Opened { store, .. } = open_at(dir.path(), clock.clone());
    let spec = chat(&tenant, "q");
    let id = spec.id;
    store.accept(request(spec)).await.unwrap();
    let run = claim(&store, &tenant, id).await;
    let at = clock.now() + Duration::from_secs(20);
    store.release(&run.lease, Some(at), WaitReason::Quota).await.unwrap();
    drop(store);
    let Opened { store, .. } = open_at(dir.path(), clock.clone());
    let early = store.claim_due(Default::default(), Claim::new(WorkerId::new())).await.unwrap();
    assert!(early.is_none(), "Retry-After is a floor");
    clock.advance(Duration::from_secs(21));
    let run = store.claim_due(Default::default(), Claim::new(WorkerId::new())).await.unwrap().unwrap();
    assert_eq!(run.job.spec.id, id);
}

#[tokio::test]
async fn an_expected_start_keeps_no_job_from_starting_after_a_restart() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::manual();
    let tenant = new_tenant();
    let Opened { store, .. } = open_at(dir.path(), clock.clone());
    let expected = Expected { position: Some(7), start_at: Some(clock.now() + Duration::from_secs(60)) };
    let spec = chat(&tenant, "q");
    let id = spec.id;
    store.accept(Accept { expected, ..request(spec) }).await.unwrap();
    drop(store);
    let Opened { store, .. } = open_at(dir.path(), clock);
    let run = store.claim_due(Default::default(), Claim::new(WorkerId::new())).await.unwrap().unwrap();
    let arrived = store.depth(Duration::ZERO).await.unwrap()[0].totals.arrived;
    assert_eq!((run.job.spec.id, arrived), (id, 1), "it came once");
}

#[tokio::test]
async fn a_backup_taken_under_load_opens_and_holds_what_was_there() {
    let dir = tempfile::tempdir().unwrap();
    let tenant = new_tenant();
    let Opened { store, .. } = open_at(&dir.path().join("data"), Clock::system());
    let mut ids = Vec::new();
    for n in 0..50 {
        ids.push(answered(&store, &tenant, &format!("第{n}问")).await);
    }
    let target = dir.path().join("copy");
    millhand_common::adapters::embedded::prepare_backup(&target).unwrap();
    let copying = tokio::task::spawn_blocking({
        let (store, target) = (store.clone(), target.clone());
        move || {
            store.backup_to(&target.join("jobs.db")).unwrap();
            millhand_common::adapters::embedded::finish_backup(&target).unwrap();
        }
    });
    for _ in 0..50 {
        answered(&store, &tenant, "meanwhile").await;
    }
    copying.await.unwrap();
    let Opened { store: copy, .. } = open_at(&target, Clock::system());
    for id in ids {
        assert_eq!(
            JobReader::get(&*copy, &tenant, id).await.unwrap(),
            JobReader::get(&*store, &tenant, id).await.unwrap()
        );
        assert_eq!(log(&copy, &tenant, id).await, log(&store, &tenant, id).await);
    }
}

/// 100,000 jobs pass through; the folder stays as large as what is kept of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn retention_bounds_the_disk_over_100_000_jobs() {
    const JOBS: usize = 100_000;
    const AT_ONCE: usize = 250;
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::manual();
    let options = StoreOptions {
        clock: clock.clone(),
        keep_events: Duration::from_secs(40),
        keep_jobs: Duration::from_secs(80),
        ..StoreOptions::default()
    };
    let Opened { store, .. } = open_with(dir.path(), options);
    let tenant = new_tenant();
    let mut removed = None;
    let (mut settled, mut largest) = (0, 0);
    for round in 0..JOBS / AT_ONCE {
        let some = (0..AT_ONCE).map(|_| answered(&store, &tenant, "a question of some length 一个问题"));
        futures::future::join_all(some).await;
        if round == JOBS / AT_ONCE - 100 {
            removed = Some(answered(&store, &tenant, "removed before the end 被删除").await);
        }
        clock.advance(Duration::from_secs(2));
        // A sweep takes away a bounded number of jobs, as the process does each second.
        for _ in 0..3 {
            store.sweep().await.unwrap();
        }
        let bytes = size(dir.path());
        largest = largest.max(bytes);
        // By then jobs, logs and the memory of what is gone have come to their age: what comes goes.
        if round == 220 {
            settled = bytes;
        }
    }
    println!("data folder: {settled} bytes after 55,000 jobs, {largest} at most over {JOBS}");
    assert!(largest < settled * 5 / 4, "{largest} bytes where {settled} are needed");
    let lookup = JobReader::get(&*store, &tenant, removed.unwrap()).await.unwrap();
    assert_eq!(lookup, Lookup::Gone, "what is removed is said to be gone");
}

async fn claim(store: &EmbeddedStore, tenant: &TenantId, id: JobId) -> Run {
    match store.claim(tenant, id, Claim::new(WorkerId::new())).await.unwrap() {
        Claimed::Run(run) => *run,
        other => panic!("{other:?}"),
    }
}

async fn finish(store: &EmbeddedStore, run: &Run, first_seq: u64, text: &str) {
    let by = By::Owner { epoch: run.lease.epoch, first_seq, tail: Vec::new() };
    let closed = store.close(&run.lease.tenant, run.lease.job, by, completed(text)).await.unwrap();
    assert_eq!(closed, Closed::Ok);
}

/// A job from accept to its end.
async fn answered(store: &EmbeddedStore, tenant: &TenantId, question: &str) -> JobId {
    let spec = chat(tenant, question);
    let id = spec.id;
    store.accept(request(spec)).await.unwrap();
    let run = claim(store, tenant, id).await;
    let by = By::Owner { epoch: run.lease.epoch, first_seq: 3, tail: vec![delta("an answer 一个回答")] };
    store.close(tenant, id, by, completed("an answer 一个回答")).await.unwrap();
    assert_eq!(run.job.status, Status::InProgress);
    id
}

async fn log(store: &EmbeddedStore, tenant: &TenantId, id: JobId) -> Vec<String> {
    match store.log(tenant, id, 0, 100_000).await.unwrap() {
        Lookup::Found(page) => page.events.iter().map(|event| event.to_json()).collect(),
        other => panic!("{other:?}"),
    }
}

/// Bytes of the database; its write-ahead log has a bound of its own.
fn size(folder: &Path) -> u64 {
    fs::metadata(folder.join("jobs.db")).unwrap().len()
}

#[tokio::test]
async fn a_folder_of_an_earlier_version_loses_the_indexes_that_one_took_the_place_of() {
    let dir = tempfile::tempdir().unwrap();
    drop(open_at(dir.path(), Clock::manual()));
    let db = rusqlite::Connection::open(dir.path().join("jobs.db")).unwrap();
    db.execute_batch(
        "DROP INDEX jobs_by_end;
         CREATE INDEX jobs_live ON jobs (version) WHERE finished_at IS NULL;
         CREATE INDEX jobs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL;
         CREATE INDEX logs_finished ON jobs (finished_at) WHERE finished_at IS NOT NULL AND trimmed = 0;",
    )
    .unwrap();
    drop(open_at(dir.path(), Clock::manual()));
    let mut found = db
        .prepare("SELECT name FROM sqlite_schema WHERE name IN ('jobs_by_end', 'jobs_live', 'jobs_finished', 'logs_finished')")
        .unwrap();
    let found: Vec<String> = found.query_map([], |row| row.get(0)).unwrap().map(Result::unwrap).collect();
    assert_eq!(found, ["jobs_by_end"]);
}
