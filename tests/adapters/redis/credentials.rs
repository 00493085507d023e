//! Passwords, rights and TLS.

use std::time::Duration;

use millhand_common::adapters::redis::{AnswerOptions, OpenError, RedisAnswers, RedisOptions, RedisStore};
use millhand_common::conformance::store::{chat, completed, new_tenant};
use millhand_common::model::WorkerId;
use millhand_common::ports::{AnswerCache, AnswerKey, Asked, Closed, JobStore, StoreError};
use millhand_tests::servers::Redis;
use uuid::Uuid;

use super::faults::follow_through;
use super::{alone, subject};

const PASSWORD: &str = "p@ss/canary-5d1e";

/// A server with a user who may do what the product needs and nothing else.
async fn with_user() -> Redis {
    let server = Redis::start_with_tls().await;
    let rights = "+@all -@dangerous +info +config|get";
    let made = server.says(&format!("ACL SETUSER mill on >{PASSWORD} ~test-* &test-* {rights}")).unwrap();
    assert!(made.starts_with("+OK"), "{made}");
    server
}

async fn refused(url: &str) -> OpenError {
    let err = RedisStore::open(url, alone()).await.err().expect("it is refused");
    assert!(!format!("{err} {err:?}").contains("canary"), "{err}");
    err
}

fn login(err: OpenError) -> String {
    assert!(matches!(err, OpenError::Login { .. }), "{err}");
    err.to_string()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_over_tls_with_a_password_does_all_of_a_job_and_shows_it_live() {
    let server = with_user().await;
    let user = "mill:p%40ss%2Fcanary-5d1e";
    let url = format!("{}?cacertfile={}", server.tls_url_of(user), server.authority());
    let options = RedisOptions { prefix: "test-tls".to_owned(), ..alone() };
    let clock = options.clock.clone();
    let store = RedisStore::open(&url, options).await.unwrap();
    let on = subject(store.clone(), clock);
    let job = on.accept(chat(&new_tenant(), "q")).await;
    let reading = follow_through(store.clone(), job.clone());
    let writing = async {
        let run = on.claim(&job, WorkerId::new()).await;
        on.append(&run.lease, 3, &["over", " TLS"]).await;
        assert_eq!(on.finish(&run, completed("over TLS")).await, Closed::Ok);
        store.sweep().await.unwrap();
        store.ready().await.unwrap();
    };
    let ((events, errors), ()) = futures::join!(reading, writing);
    assert_eq!((events.len(), errors), (5, 0));
    assert_eq!(on.log(&job).await, events);
    keep_an_answer(&url).await;
    let clients = server.says("CLIENT LIST TYPE pubsub").unwrap();
    assert!(clients.contains("user=mill"), "{clients}");
}

/// The cache looks at the server's memory, which takes a right of its own.
async fn keep_an_answer(url: &str) {
    let options = AnswerOptions { prefix: "test-tls".to_owned(), ..AnswerOptions::default() };
    let cache = RedisAnswers::open(url, options).await.unwrap();
    let (key, flight, minute) = (AnswerKey::new(new_tenant(), &"q"), Uuid::now_v7(), Duration::from_secs(60));
    assert_eq!(cache.ask(&key, flight, minute).await.unwrap(), Asked::Lead);
    assert!(cache.renew(&key, flight, minute).await.unwrap());
    assert!(cache.land(&key, flight, "answer", minute).await.unwrap());
    cache.abandon(&key, flight).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_password_is_told_without_saying_it() {
    let server = with_user().await;
    let plain = server.url();
    let with = |user: &str| plain.replace("redis://", &format!("redis://{user}@"));
    for user in ["mill:canary-no", "nobody:canary-no", ":canary-no"] {
        let said = login(refused(&with(user)).await);
        assert!(said.contains("127.0.0.1") && said.contains("refuses the user or password"), "{said}");
    }
    // Who may not read the settings may not be trusted with them.
    server.says(&format!("ACL SETUSER weak on >{PASSWORD} ~* &* +@all -info")).unwrap();
    let said = login(refused(&with("weak:p%40ss%2Fcanary-5d1e")).await);
    assert!(said.contains("may not do all"), "{said}");
    server.says("CONFIG SET requirepass canary-yes").unwrap();
    let said = login(refused(&plain).await);
    assert!(said.contains("wants a password"), "{said}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_nobody_trusted_signed_is_refused() {
    let (server, other) = (with_user().await, Redis::start_with_tls().await);
    let url = server.tls_url_of("mill:p%40ss%2Fcanary-5d1e");
    for url in [url.clone(), format!("{url}?cacertfile={}", other.authority())] {
        let err = refused(&url).await;
        assert!(matches!(err, OpenError::Store(StoreError::Unreachable(_))), "{err}");
        assert!(err.to_string().contains("certificate"), "{err}");
    }
    // TLS is never given up quietly.
    let spoken = format!("rediss://127.0.0.1:{}", server.port());
    assert!(matches!(refused(&spoken).await, OpenError::Store(StoreError::Unreachable(_))));
}
