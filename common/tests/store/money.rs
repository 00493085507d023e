//! What the disk keeps of money.

use millhand_common::adapters::embedded::Clock;
use millhand_common::conformance::store::{chat, delta, new_tenant, request};
use millhand_common::model::{CallStarted, CallUsed, Certainty, EventBody, WorkerId};
use millhand_common::ports::{Budget, Claim, Claimed, Held, Hold, JobReader, JobStore, Lease, UsageBy};
use millhand_common::prices::Price;
use uuid::Uuid;

use crate::{Opened, open_at};

fn call(held_nano_usd: u64) -> CallStarted {
    CallStarted {
        call: Uuid::now_v7(),
        model: "m".to_owned(),
        input_tokens: 10,
        max_output_tokens: Some(100),
        output_per_thousand: 1000,
        unmeasured: false,
        pace: 0,
        price: Price { input: 1_000_000, output: 2_000_000 },
        prices: "of today".to_owned(),
        held_nano_usd,
    }
}

#[tokio::test]
async fn a_restart_keeps_what_is_spent_and_what_open_calls_hold() {
    let dir = tempfile::tempdir().unwrap();
    let clock = Clock::manual();
    let tenant = new_tenant();
    let Opened { store, .. } = open_at(dir.path(), clock.clone());
    let mut leases: Vec<Lease> = Vec::new();
    for _ in 0..3 {
        let spec = chat(&tenant, "q");
        let id = spec.id;
        store.accept(request(spec)).await.unwrap();
        let claimed = store.claim(&tenant, id, Claim::new(WorkerId::new())).await.unwrap();
        let Claimed::Run(run) = claimed else { panic!("it is free") };
        leases.push(run.lease);
    }
    let hold = Hold { nano_usd: 300, per_job: Some(500), per_day: Some(1000) };
    for lease in &leases {
        assert_eq!(store.hold(lease, hold).await.unwrap(), Held::Ok);
    }
    // One call has ended, one is under way, one was never begun.
    let used = CallUsed { nano_usd: 250, ..call(300).used(10, 5, Certainty::Exact) };
    let events = vec![EventBody::ModelCalled(call(300)), EventBody::UsageUpdated(used)];
    store.append(&leases[0], 3, events).await.unwrap();
    store.append(&leases[1], 3, vec![EventBody::ModelCalled(call(300)), delta("four")]).await.unwrap();
    drop(store);

    let Opened { store, .. } = open_at(dir.path(), clock);
    let spending = store.spending(&tenant).await.unwrap();
    assert_eq!((spending.spent, spending.held), (250, 300));
    let claim = store.claim(&tenant, leases[1].job, Claim::new(WorkerId::new())).await.unwrap();
    let Claimed::Run(run) = claim else { panic!("its owner is gone") };
    let spending = store.spending(&tenant).await.unwrap();
    assert_eq!((spending.spent, spending.held), (550, 0), "it may have been paid");
    let rows = store.usage(Some(&tenant), UsageBy::Model).await.unwrap();
    assert_eq!((rows[0].calls, rows[0].output_tokens, rows[0].nano_usd), (2, 7, 250 + 14));
    assert_eq!(store.hold(&run.lease, hold).await.unwrap(), Held::OverJob { spent: 300 });
}

#[tokio::test]
async fn tokens_that_an_earlier_version_counted_are_kept() {
    let dir = tempfile::tempdir().unwrap();
    drop(open_at(dir.path(), Clock::manual()));
    let db = rusqlite::Connection::open(dir.path().join("jobs.db")).unwrap();
    db.execute_batch(
        "CREATE TABLE usage (
             day TEXT NOT NULL, tenant TEXT NOT NULL, model TEXT NOT NULL, calls INTEGER NOT NULL,
             input_tokens INTEGER NOT NULL, output_tokens INTEGER NOT NULL, cost_usd REAL NOT NULL,
             PRIMARY KEY (day, tenant, model)
         ) WITHOUT ROWID;
         INSERT INTO usage VALUES ('2026-01-01', 'default', 'm', 2, 30, 4, 0.0);",
    )
    .unwrap();
    drop(db);
    for _ in 0..2 {
        let Opened { store, .. } = open_at(dir.path(), Clock::manual());
        let rows = store.usage(None, UsageBy::Day).await.unwrap();
        let [row] = &rows[..] else { panic!("{rows:?}") };
        assert_eq!(
            (row.key.as_str(), row.calls, row.input_tokens, row.output_tokens),
            ("2026-01-01", 2, 30, 4)
        );
    }
}
