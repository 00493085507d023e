//! What a store does while its server is demoted, loads its data, or is replaced by a replica.

use std::time::{Duration, Instant};

use millhand_common::adapters::redis::RedisStore;
use millhand_common::conformance::store::{chat, new_tenant, request};
use millhand_common::model::WorkerId;
use millhand_common::ports::{Accepted, JobReader, JobStore, Lookup};
use millhand_tests::servers::Redis;
use millhand_tests::wait_for;

use super::faults::{follow_through, write_through};
use super::{alone, subject};

fn says_ok(server: &Redis, command: &str) {
    let said = server.says(command).unwrap();
    assert!(said.starts_with("+OK"), "{command}: {said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_wait_for_a_server_that_is_a_replica_for_a_while() {
    let server = Redis::start().await;
    let options = alone();
    let clock = options.clock.clone();
    let store = RedisStore::open(&server.url(), options).await.unwrap();
    let on = subject(store.clone(), clock);
    let job = on.accept(chat(&new_tenant(), "q")).await;
    let run = on.claim(&job, WorkerId::new()).await;
    let reading = follow_through(store.clone(), job.clone());
    let writing = write_through(&store, &run.lease, 6, async |batch| {
        if batch == 2 {
            says_ok(&server, "REPLICAOF 127.0.0.1 1");
        }
    });
    let back = async {
        let demoted = async || server.says("INFO replication").unwrap().contains("role:slave").then_some(());
        wait_for("the server to be a replica", demoted).await;
        let started = Instant::now();
        // Less than the patience of one operation.
        tokio::time::sleep(Duration::from_secs(2)).await;
        says_ok(&server, "REPLICAOF NO ONE");
        started
    };
    let ((events, _), (), demoted) = futures::join!(reading, writing, back);
    assert!(demoted.elapsed() >= Duration::from_secs(2), "the rest was written after it");
    assert_eq!(on.log(&job).await, events);
    assert_eq!(events.len(), 2 + 12 + 1, "each once: {events:?}");
    let refusals = server.says("INFO errorstats").unwrap();
    assert!(refusals.contains("errorstat_READONLY"), "it did refuse: {refusals}");
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_wait_for_a_server_that_loads_its_data() {
    let server = Redis::start().await;
    let store = RedisStore::open(&server.url(), alone()).await.unwrap();
    let tenant = new_tenant();
    store.accept(request(chat(&tenant, "q"))).await.unwrap();
    says_ok(&server, "DEBUG POPULATE 2000");
    // Microseconds for each key, and often enough a look at who asks.
    says_ok(&server, "CONFIG SET key-load-delay 500 loading-process-events-interval-bytes 1024");
    let reloading = {
        let port = server.port();
        tokio::task::spawn_blocking(move || Redis::ask(port, "DEBUG RELOAD"))
    };
    let loading = async || {
        let said = server.says("GET x")?;
        said.contains("LOADING").then_some(())
    };
    wait_for("the server to load", loading).await;
    let accepted = store.accept(request(chat(&tenant, "q"))).await;
    assert!(matches!(accepted, Ok(Accepted::Created(_))), "{accepted:?}");
    assert!(reloading.await.unwrap().is_some_and(|said| said.starts_with("+OK")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replica_without_lag_that_is_promoted_goes_on_with_everything() {
    let (mut master, replica) = futures::join!(Redis::start(), Redis::start());
    says_ok(&replica, &format!("REPLICAOF 127.0.0.1 {}", master.port()));
    let options = alone();
    let clock = options.clock.clone();
    // In this order: the replica answers first, and must not be taken for the master.
    let store = RedisStore::open(&format!("{},{}", replica.url(), master.url()), options).await.unwrap();
    let on = subject(store.clone(), clock);
    let tenant = new_tenant();
    let job = on.accept(chat(&tenant, "q")).await;
    let run = on.claim(&job, WorkerId::new()).await;
    let mut kept = Vec::new();
    for _ in 0..50 {
        kept.push(on.accept(chat(&tenant, "q")).await.spec.id);
    }
    let reading = follow_through(store.clone(), job.clone());
    let writing = write_through(&store, &run.lease, 40, async |batch| {
        if batch == 20 {
            let confirmed = master.says("INFO replication").unwrap();
            let offset = |info: &str, name: &str| {
                let line = info.lines().find_map(|line| line.strip_prefix(name).map(str::to_owned));
                line.and_then(|line| line.trim().parse::<u64>().ok())
            };
            let confirmed = offset(&confirmed, "master_repl_offset:").unwrap();
            let level = async || {
                let info = replica.says("INFO replication")?;
                (confirmed <= offset(&info, "slave_repl_offset:")?).then_some(())
            };
            wait_for("the replica to have everything", level).await;
            master.kill9();
            says_ok(&replica, "REPLICAOF NO ONE");
        }
    });
    let ((events, _), ()) = futures::join!(reading, writing);
    assert_eq!(events.len(), 2 + 80 + 1);
    assert_eq!(on.log(&job).await, events);
    for job in kept {
        let found = JobReader::get(&*store, &tenant, job).await.unwrap();
        assert!(matches!(found, Lookup::Found(_)), "{found:?}");
    }
    store.ready().await.unwrap();
    let written = replica.says("DBSIZE").unwrap();
    assert!(!written.starts_with(":0"), "{written}");
}
