//! Which servers are taken, and what a full one does.

use std::sync::Arc;

use millhand_common::adapters::redis::{OpenError, RedisOptions, RedisStore};
use millhand_common::conformance::store::{chat, completed, delta, new_tenant, request};
use millhand_common::model::{Share, Shares, WorkerId};
use millhand_common::ports::{Accept, Accepted, Appended, By, Claim, Claimed, Closed, JobStore, StoreError};
use millhand_tests::servers::Redis;
use millhand_tests::wait_for;

use super::{alone, shared};

async fn refusal(url: &str) -> String {
    match RedisStore::open(url, alone()).await {
        Err(err @ OpenError::Unsafe { .. }) => err.to_string(),
        Err(err) => panic!("refused for another reason: {err}"),
        Ok(_) => panic!("taken"),
    }
}

#[tokio::test]
async fn a_server_that_can_lose_what_it_confirms_is_refused_with_what_to_set() {
    let server = Redis::start().await;
    RedisStore::open(&server.url(), alone()).await.unwrap();
    for (weaker, needed) in [
        ("appendfsync everysec", "set `appendfsync always` (it is everysec)"),
        ("maxmemory-policy allkeys-lru", "set `maxmemory-policy noeviction` (it is allkeys-lru)"),
        ("appendonly no", "set `appendonly yes` (it is no)"),
    ] {
        assert!(server.says(&format!("CONFIG SET {weaker}")).unwrap().starts_with("+OK"));
        let said = refusal(&server.url()).await;
        assert!(said.contains(needed), "{said}");
        let (key, value) = needed.split('`').nth(1).unwrap().split_once(' ').unwrap();
        assert!(server.says(&format!("CONFIG SET {key} {value}")).unwrap().starts_with("+OK"));
    }
    RedisStore::open(&server.url(), alone()).await.unwrap();
    server.says("CONFIG SET appendfsync no").unwrap();
    let options = RedisOptions { allow_unsafe: true, ..alone() };
    RedisStore::open(&server.url(), options).await.unwrap();
}

#[tokio::test]
async fn data_of_another_format_is_refused() {
    let server = shared().await;
    let options = alone();
    server.says(&format!("SET {}:{{s0}}:format 99", options.prefix)).unwrap();
    let refused = RedisStore::open(&server.url(), options).await.err().unwrap().to_string();
    assert!(refused.contains("format 99"), "{refused}");
}

#[tokio::test]
async fn a_wrong_address_is_told_apart_from_a_server_that_is_away() {
    let wrong = RedisStore::open("nats://localhost", alone()).await.err().unwrap();
    assert!(matches!(wrong, OpenError::Url(_)), "{wrong}");
    let away = format!("redis://127.0.0.1:{}", millhand_tests::servers::free_port());
    let away = RedisStore::open(&away, alone()).await.err().unwrap();
    assert!(matches!(away, OpenError::Store(StoreError::Unreachable(_))), "{away}");
}

/// Changes to data, as the server counts them.
fn changes(server: &Redis) -> String {
    let info = server.says("INFO persistence").unwrap();
    info.lines().find(|line| line.starts_with("rdb_changes_since_last_save:")).unwrap().to_owned()
}

#[tokio::test]
async fn shares_are_written_when_they_are_others_than_before() {
    let (server, options) = (Redis::start().await, alone());
    let open = async |shares: &Shares| {
        let options = RedisOptions { shares: Some(shares.clone()), ..options.clone() };
        RedisStore::open(&server.url(), options).await.unwrap()
    };
    let kept = || server.says(&format!("HGETALL {}:{{s63}}:shares", options.prefix)).unwrap();
    let share = |weight| Share { weight, ..Share::default() };
    let mut shares = Shares { others: share(1), tenants: [("acme".parse().unwrap(), share(7))].into() };
    open(&shares).await;
    assert!(kept().contains("acme") && kept().contains("7 "), "{}", kept());
    let before = changes(&server);
    open(&shares).await;
    assert_eq!(changes(&server), before, "a process that starts like the others writes nothing");
    shares.others.weight = 5;
    open(&shares).await;
    assert!(kept().contains("acme") && kept().contains("5 "), "{}", kept());
    shares.tenants.clear();
    open(&shares).await;
    assert!(!kept().contains("acme") && kept().contains("5 "), "{}", kept());
}

/// Bytes used, as the server counts them.
fn used(server: &Redis) -> u64 {
    let info = server.says("INFO memory").unwrap();
    let line = info.lines().find_map(|line| line.strip_prefix("used_memory:")).unwrap();
    line.trim().parse().unwrap()
}

fn limit(server: &Redis, bytes: u64) {
    assert!(server.says(&format!("CONFIG SET maxmemory {bytes}")).unwrap().starts_with("+OK"));
}

#[tokio::test]
async fn a_full_server_takes_no_new_work_and_finishes_what_it_has() {
    let server = Redis::start().await;
    let store = RedisStore::open(&server.url(), alone()).await.unwrap();
    let tenant = new_tenant();
    let accept = async |store: &Arc<RedisStore>| store.accept(request(chat(&tenant, "q"))).await;
    let keyed = || Accept { idempotency: Some(("k".to_owned(), [1; 32])), ..request(chat(&tenant, "q")) };
    store.accept(keyed()).await.unwrap();
    let Ok(Accepted::Created(job)) = accept(&store).await else { panic!("there is room") };

    // Nearly full, then over full.
    for (percent, what) in [(110, "at 85 %"), (50, "beyond the limit")] {
        limit(&server, used(&server) * percent / 100);
        wait_for(what, async || matches!(accept(&store).await, Err(StoreError::Full)).then_some(())).await;
    }
    limit(&server, used(&server) * 110 / 100);
    let again = store.accept(keyed()).await.unwrap();
    assert!(matches!(again, Accepted::Existing(_)), "it was accepted when there was room: {again:?}");
    limit(&server, used(&server) / 2);
    let claimed = store.claim(&tenant, job.spec.id, Claim::new(WorkerId::new())).await.unwrap();
    let Claimed::Run(run) = claimed else { panic!("{claimed:?}") };
    let appended = store.append(&run.lease, 3, vec![delta("an answer")]).await.unwrap();
    assert_eq!(appended, Appended::Ok);
    let by = By::Owner { epoch: run.lease.epoch, first_seq: 4, tail: Vec::new() };
    let closed = store.close(&tenant, job.spec.id, by, completed("an answer")).await.unwrap();
    assert_eq!(closed, Closed::Ok);
    store.sweep().await.unwrap();

    limit(&server, 0);
    wait_for("room", async || matches!(accept(&store).await, Ok(Accepted::Created(_))).then_some(())).await;
}
