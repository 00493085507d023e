//! When the tables are made, when the index is built anew, and who may use it meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use async_trait::async_trait;
use millhand_common::adapters::pgvector::{Database, DatabaseError, PgvectorOptions};
use millhand_common::conformance::documents::some_document;
use millhand_common::conformance::index::{FakeEmbedder, ask, by, collection, document, some_tenant};
use millhand_common::model::{CollectionName, Passage, TenantId};
use millhand_common::ports::{
    Documents, Embedder, Index, IndexError, ModelError, Reading, SearchQuery, Write,
};
use millhand_common::search::Opened;
use millhand_tests::servers::Postgres;
use sqlx::{Connection, PgConnection};

use super::{built, database, options};

#[tokio::test(flavor = "multi_thread")]
async fn the_tables_are_made_once_and_a_newer_database_is_refused() {
    let server = Postgres::shared().await;
    let url = server.new_database().await;
    let database = Database::connect(&url).await.unwrap();
    assert!(matches!(database.check().await, Err(DatabaseError::NotMigrated)));
    let four = futures::future::join_all((0..4).map(|_| database.migrate())).await;
    for steps in four {
        steps.unwrap();
    }
    database.check().await.unwrap();
    assert_eq!(database.migrate().await.unwrap(), [""; 0]);
    let mut direct = PgConnection::connect(&url).await.unwrap();
    sqlx::query(
        "INSERT INTO millhand.migrations (version, description, success, checksum, execution_time)
         VALUES (99, 'of tomorrow', true, '\\x00', 0)",
    )
    .execute(&mut direct)
    .await
    .unwrap();
    assert!(matches!(database.check().await, Err(DatabaseError::Newer { found: 99, .. })));
    assert!(matches!(database.migrate().await, Err(DatabaseError::Newer { found: 99, .. })));
}

/// Documents of one tenant, and a question that finds all their passages.
struct House {
    tenant: TenantId,
    all: CollectionName,
}

impl House {
    async fn with_documents(database: &Database, count: usize) -> Self {
        let house = Self { tenant: some_tenant(), all: collection("all") };
        for n in 0..count {
            let text = format!("mill number{n} by the sea\n\nthe pond of mill number{n}");
            let new = some_document(&house.all, &format!("d{n}"), &text, by(1, 0));
            database.documents().put(&house.tenant, new).await.unwrap();
        }
        house
    }

    async fn found(&self, index: &dyn Index) -> Result<Vec<Passage>, IndexError> {
        let query = SearchQuery {
            vector: Some(FakeEmbedder::vector("mill number3 by the sea")),
            limit: 100,
            ..ask("mill pond", &self.all)
        };
        index.search(&self.tenant, &query).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_is_built_from_the_documents_by_one_of_many() {
    let (database, _server) = database().await;
    let house = House::with_documents(&database, 40).await;
    let (index, opened) = database.index(options()).await.unwrap();
    assert!(matches!(opened, Opened::NeedsRebuild(_)));
    assert!(index.ready().await.is_err());
    let refused = index.upsert(&house.tenant, vec![document(&house.all, "x", &["mill"], by(1, 0))]).await;
    assert!(matches!(refused, Err(IndexError::Unreachable(_))), "{refused:?}");
    let (other, _) = database.index(options()).await.unwrap();
    let documents = database.documents();
    let (one, two) = tokio::join!(index.rebuild_from(&documents), other.rebuild_from(&documents));
    let mut counts = [one.unwrap(), two.unwrap()];
    counts.sort_unstable();
    assert_eq!(counts, [0, 40]);
    assert_eq!(house.found(&index).await.unwrap().len(), 80);
    assert_eq!(house.found(&other).await.unwrap(), house.found(&index).await.unwrap());
    assert_eq!(database.index(options()).await.unwrap().1, Opened::Ready);
}

/// As [`FakeEmbedder`], by another name.
struct Renamed;

#[async_trait]
impl Embedder for Renamed {
    fn name(&self) -> &str {
        "another-model"
    }

    async fn embed(&self, texts: &[String], deadline: Instant) -> Result<Reading<Vec<Vec<f32>>>, ModelError> {
        FakeEmbedder.embed(texts, deadline).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_embedder_or_analyser_is_noticed_and_never_mixed() {
    let server = Postgres::shared().await;
    let url = server.new_database().await;
    let database = Database::connect(&url).await.unwrap();
    database.migrate().await.unwrap();
    let house = House::with_documents(&database, 6).await;
    let old = built(&database, options()).await;
    let before = house.found(&old).await.unwrap();

    let renamed = PgvectorOptions { embedder: Some(Arc::new(Renamed)), ..options() };
    let (new, opened) = database.index(renamed.clone()).await.unwrap();
    assert!(matches!(&opened, Opened::NeedsRebuild(why) if why.contains("another-model")), "{opened:?}");
    assert_eq!(house.found(&old).await.unwrap(), before, "who fits goes on until it is built anew");
    assert_eq!(new.rebuild_from(&database.documents()).await.unwrap(), 6);
    assert_eq!(house.found(&new).await.unwrap(), before);
    assert!(matches!(house.found(&old).await, Err(IndexError::Unreachable(_))));
    let late = old.delete(&house.tenant, &house.all, "d0", by(9, 0)).await;
    assert!(matches!(late, Err(IndexError::Unreachable(_))), "{late:?}");
    assert!(old.ready().await.is_err());

    let mut direct = PgConnection::connect(&url).await.unwrap();
    for (change, reason) in [
        ("UPDATE millhand.index_state SET analyser = analyser + 1", "analyser"),
        ("UPDATE millhand.index_state SET format = format + 1", "format"),
        ("UPDATE millhand.index_state SET complete = false", "not built to its end"),
    ] {
        sqlx::query(change).execute(&mut direct).await.unwrap();
        let (index, opened) = database.index(renamed.clone()).await.unwrap();
        assert!(matches!(&opened, Opened::NeedsRebuild(why) if why.contains(reason)), "{opened:?}");
        assert!(index.ready().await.is_err());
        index.rebuild_from(&database.documents()).await.unwrap();
        index.ready().await.unwrap();
        assert_eq!(house.found(&index).await.unwrap(), before);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn fences_outlive_a_build() {
    let (database, _server) = database().await;
    let house = House::with_documents(&database, 3).await;
    let index = built(&database, options()).await;
    index.delete(&house.tenant, &house.all, "gone", by(7, 0)).await.unwrap();
    index.delete_collection(&house.tenant, &collection("other"), by(8, 0)).await.unwrap();
    let renamed = PgvectorOptions { embedder: Some(Arc::new(Renamed)), ..options() };
    let index = built(&database, renamed).await;
    let late = vec![
        document(&house.all, "gone", &["mill"], by(6, 3)),
        document(&collection("other"), "x", &["mill"], by(7, 3)),
        document(&house.all, "d1", &["mill of today"], by(2, 0)),
    ];
    let answers = index.upsert(&house.tenant, late).await.unwrap();
    assert_eq!(answers, [Write::Stale, Write::Stale, Write::Written]);
    assert_eq!(house.found(&index).await.unwrap().len(), 5);
}

/// A write that was answered is there after the server crashed, and one cut short is not in part.
#[tokio::test(flavor = "multi_thread")]
async fn a_crash_takes_nothing_back_and_leaves_nothing_half() {
    let mut server = Postgres::start().await;
    let url = server.new_database().await;
    let database = Database::connect(&url).await.unwrap();
    database.migrate().await.unwrap();
    let index = Arc::new(built(&database, options()).await);
    let (tenant, all) = (some_tenant(), collection("all"));
    let paragraphs: Vec<String> = (0..40).map(|n| format!("mill paragraph {n}")).collect();
    let paragraphs: Vec<&str> = paragraphs.iter().map(String::as_str).collect();
    let (mut written, mut failed) = (Vec::new(), 0);
    let (first, wait) = tokio::sync::oneshot::channel();
    let (mut first, crashed) = (Some(first), AtomicBool::new(false));
    let writing = async {
        for n in 0u64.. {
            let new = document(&all, &format!("d{n}"), &paragraphs, by(1, 0));
            match index.upsert(&tenant, vec![new]).await {
                Ok(_) => written.push(format!("d{n}")),
                Err(_) => failed += 1,
            }
            if n == 5 {
                first.take().unwrap().send(()).unwrap();
            }
            if 0 < failed || crashed.load(Ordering::Acquire) {
                break;
            }
        }
    };
    let crashing = async {
        wait.await.unwrap();
        server.crash().await;
        crashed.store(true, Ordering::Release);
    };
    tokio::join!(writing, crashing);
    let database = Database::connect(&url).await.unwrap();
    let (index, opened) = database.index(options()).await.unwrap();
    assert_eq!(opened, Opened::Ready);
    let query = SearchQuery { limit: 100_000, ..ask("mill", &all) };
    let found = index.search(&tenant, &query).await.unwrap();
    let mut counts: BTreeMap<String, usize> = BTreeMap::new();
    for passage in found {
        *counts.entry(passage.document).or_default() += 1;
    }
    for name in &written {
        assert_eq!(counts.get(name), Some(&40), "{name} was answered");
    }
    assert!(counts.values().all(|count| *count == 40), "{counts:?}");
    // What was cut short may be there whole: its answer was lost, not the write.
    assert!(counts.len() <= written.len() + failed, "{counts:?}");
}
