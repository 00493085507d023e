//! The answer cache on a real server: over several processes, on a full one, and without one.

use std::sync::Arc;
use std::time::{Duration, Instant};

use millhand_common::adapters::redis::{AnswerOptions, RedisAnswers};
use millhand_common::ports::{AnswerCache, AnswerKey, Asked, StoreError};
use millhand_tests::servers::{Redis, RedisCluster};
use rustix::process::Signal;
use uuid::Uuid;

use super::shared;

const LONG: Duration = Duration::from_secs(600);

async fn on(url: &str) -> RedisAnswers {
    let options = AnswerOptions { prefix: "test-answers".to_owned(), ..AnswerOptions::default() };
    RedisAnswers::open(url, options).await.unwrap()
}

async fn open() -> Arc<dyn AnswerCache> {
    Arc::new(on(&shared().await.url()).await)
}

millhand_common::answers_conformance!(open);

fn call() -> AnswerKey {
    AnswerKey::new("a".parse().unwrap(), &Uuid::now_v7())
}

#[tokio::test(flavor = "multi_thread")]
async fn processes_share_answers_and_leads_on_a_cluster_too() {
    let cluster = RedisCluster::start().await;
    for url in [shared().await.url(), cluster.url()] {
        let (one, two) = (on(&url).await, on(&url).await);
        // Enough to meet every node.
        for _ in 0..12 {
            let (key, flight) = (call(), Uuid::now_v7());
            assert_eq!(one.ask(&key, flight, LONG).await.unwrap(), Asked::Lead);
            assert_eq!(two.ask(&key, Uuid::now_v7(), LONG).await.unwrap(), Asked::Follow);
            assert!(one.renew(&key, flight, LONG).await.unwrap());
            assert!(one.land(&key, flight, "水", LONG).await.unwrap());
            let kept = two.ask(&key, Uuid::now_v7(), LONG).await.unwrap();
            assert_eq!(kept, Asked::Kept("水".to_owned()));
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_half_full_keeps_answers_for_those_who_wait_and_a_full_one_none() {
    let server = Redis::start().await;
    let cache = on(&server.url()).await;
    let (key, flight) = (call(), Uuid::now_v7());
    assert_eq!(cache.ask(&key, flight, LONG).await.unwrap(), Asked::Lead);
    assert!(server.says("CONFIG SET maxmemory 3mb").unwrap().starts_with("+OK"));
    server.says("SETRANGE filler 900000 x").unwrap();
    assert!(cache.land(&key, flight, "x", LONG).await.unwrap());
    let keys = server.says("KEYS test-answers:*").unwrap();
    let kept = keys.lines().find(|line| line.ends_with(":kept")).unwrap();
    let ttl = server.says(&format!("PTTL {kept}")).unwrap();
    let ttl: u64 = ttl.trim_start_matches(':').split_whitespace().next().unwrap().parse().unwrap();
    assert!((1..=5_000).contains(&ttl), "{ttl}");
    assert!(matches!(cache.ask(&key, Uuid::now_v7(), LONG).await.unwrap(), Asked::Kept(_)));

    assert!(server.says("CONFIG SET maxmemory 1mb").unwrap().starts_with("+OK"));
    let refused = cache.ask(&call(), Uuid::now_v7(), LONG).await;
    assert!(matches!(refused, Err(StoreError::Full)), "{refused:?}");
    cache.abandon(&key, flight).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_is_away_says_so_in_time() {
    let server = Redis::start().await;
    let cache = on(&server.url()).await;
    server.process().signal(Signal::STOP);
    let asked = Instant::now();
    let away = cache.ask(&call(), Uuid::now_v7(), LONG).await;
    assert!(matches!(away, Err(StoreError::Unreachable(_))), "{away:?}");
    assert!(asked.elapsed() < Duration::from_secs(3), "{:?}", asked.elapsed());
    server.process().signal(Signal::CONT);
}
