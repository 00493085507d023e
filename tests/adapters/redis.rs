//! The Redis store on a real server, and on a real cluster.

mod answers;
mod cluster;
mod credentials;
mod failover;
mod faults;
mod limiter;
mod presence;
mod retention;
mod server;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use millhand_common::adapters::redis::{RedisOptions, RedisStore, StoreClock};
use millhand_common::conformance::keys;
use millhand_common::conformance::store::random::{self, Driven};
use millhand_common::conformance::store::{self, Subject};
use millhand_tests::servers::Redis;
use tokio::sync::OnceCell;

/// One server serves all clauses: each has a prefix, and so a store, of its own.
async fn shared() -> &'static Redis {
    static SERVER: OnceCell<Redis> = OnceCell::const_new();
    SERVER.get_or_init(Redis::start).await
}

/// Options of a store that nobody else has, with a clock that stands still.
fn alone() -> RedisOptions {
    static MADE: AtomicU64 = AtomicU64::new(0);
    RedisOptions {
        prefix: format!("test-{}", MADE.fetch_add(1, Ordering::Relaxed)),
        clock: StoreClock::manual(),
        shares: Some(store::shares()),
        ..RedisOptions::default()
    }
}

fn subject(store: Arc<RedisStore>, clock: StoreClock) -> Subject {
    Subject::new(store, move |duration: Duration| {
        clock.advance(duration);
        Box::pin(std::future::ready(()))
    })
}

async fn open() -> Subject {
    let options = alone();
    let clock = options.clock.clone();
    subject(RedisStore::open(&shared().await.url(), options).await.unwrap(), clock)
}

millhand_common::store_conformance!(open);

#[tokio::test(flavor = "multi_thread")]
async fn keys_are_kept_listed_and_revoked() {
    let (server, options) = (Redis::start().await, alone());
    let one = RedisStore::open(&server.url(), options.clone()).await.unwrap();
    let other = RedisStore::open(&server.url(), options).await.unwrap();
    keys::keys_are_kept_listed_and_revoked(one, other).await;
}

#[test]
fn the_store_does_what_the_model_says() {
    // A process may come back at any time; leases of others are no business of it.
    random::the_store_does_what_the_model_says(24, || {
        Box::pin(async {
            let options = alone();
            let clock = options.clock.clone();
            let store = RedisStore::open(&shared().await.url(), options.clone()).await.unwrap();
            let its_clock = clock.clone();
            Driven {
                subject: subject(store, clock.clone()),
                now: Box::new(move || its_clock.manual_now().unwrap()),
                reopen: Box::new(move || {
                    let options = options.clone();
                    Box::pin(async move {
                        let clock = options.clock.clone();
                        subject(RedisStore::open(&shared().await.url(), options).await.unwrap(), clock)
                    })
                }),
                reopening_voids_leases: false,
            }
        })
    });
}
