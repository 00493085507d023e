//! How the death of a worker is noticed.

use std::sync::Arc;
use std::time::Duration;

use millhand_common::adapters::redis::RedisStore;
use millhand_common::conformance::store::{chat, new_tenant};
use millhand_common::model::WorkerId;
use millhand_common::ports::{JobStore, Lease, WorkerInfo, WorkerSignal};
use millhand_tests::servers::Redis;
use millhand_tests::wait_for;

use super::{alone, subject};

fn info(id: WorkerId) -> WorkerInfo {
    WorkerInfo { id, slots: 1, running: 1, draining: false, own_index: false, host: String::new() }
}

/// Waits until the server has so many subscribers of the worker's channel.
async fn subscribed(server: &Redis, prefix: &str, worker: WorkerId, wanted: bool) {
    let ask = format!("PUBSUB SHARDNUMSUB {prefix}:{{workers}}:lives:{worker}");
    wait_for("the worker's channel", async || {
        (server.says(&ask).unwrap().contains(":1") == wanted).then_some(())
    })
    .await;
}

/// The clock stands still: its word that it lives never grows old.
#[tokio::test(flavor = "multi_thread")]
async fn a_worker_whose_connection_is_gone_is_challenged_at_once_and_once() {
    let server = Redis::start().await;
    let options = alone();
    let (clock, prefix) = (options.clock.clone(), options.prefix.clone());
    let doomed = RedisStore::open(&server.url(), options.clone()).await.unwrap();
    let watcher = RedisStore::open(&server.url(), options).await.unwrap();
    let on = subject(Arc::clone(&watcher), clock.clone());
    let (worker, other) = (WorkerId::new(), WorkerId::new());
    let job = on.accept(chat(&new_tenant(), "q")).await;
    subject(Arc::clone(&doomed), clock.clone()).claim(&job, worker).await;
    doomed.present(&info(worker)).await.unwrap();
    subscribed(&server, &prefix, worker, true).await;
    let swept = watcher.sweep().await.unwrap();
    assert_eq!((swept.workers, swept.challenged), (1, 0), "it lives, and whoever sweeps knows");

    drop(doomed);
    subscribed(&server, &prefix, worker, false).await;
    assert_eq!(watcher.sweep().await.unwrap().challenged, 1);
    assert_eq!(watcher.sweep().await.unwrap().challenged, 0, "a second challenge would say nothing new");
    assert_eq!(watcher.workers().await.unwrap().len(), 1, "its word is still good");
    assert!(!on.is_due(job.spec.id, other).await, "it may still answer");
    clock.advance(Lease::CHALLENGE + Duration::from_millis(1));
    assert_eq!(on.claim_when_due(job.spec.id, other).await.job.deaths, 1);
}

/// A live worker makes its connection again, and is asked to renew whatever it holds.
#[tokio::test(flavor = "multi_thread")]
async fn a_live_worker_that_lost_its_connection_comes_back_and_renews() {
    let server = Redis::start().await;
    let options = alone();
    let (clock, prefix) = (options.clock.clone(), options.prefix.clone());
    let store = RedisStore::open(&server.url(), options).await.unwrap();
    let on = subject(Arc::clone(&store), clock);
    let worker = WorkerId::new();
    let job = on.accept(chat(&new_tenant(), "q")).await;
    let run = on.claim(&job, worker).await;
    subscribed(&server, &prefix, worker, true).await;
    server.says("CLIENT KILL TYPE pubsub").unwrap();
    assert_eq!(store.signal(worker).await, WorkerSignal::Challenge(run.lease));
    subscribed(&server, &prefix, worker, true).await;
}
