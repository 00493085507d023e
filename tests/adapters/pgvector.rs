//! Documents and index in PostgreSQL are held to the suites of their ports, and to what only a database
//! of many processes can be asked.

mod alike;
mod build;
mod credentials;
mod scale;

use std::sync::Arc;

use millhand_common::adapters::pgvector::{Database, PgvectorIndex, PgvectorOptions};
use millhand_common::conformance::index::FakeEmbedder;
use millhand_common::ports::{Documents, Index};
use millhand_tests::servers::Postgres;

/// A new database, set up, and the server it is on.
async fn database() -> (Database, Arc<Postgres>) {
    let server = Postgres::shared().await;
    let database = Database::connect(&server.new_database().await).await.unwrap();
    database.migrate().await.unwrap();
    (database, server)
}

fn options() -> PgvectorOptions {
    PgvectorOptions { embedder: Some(Arc::new(FakeEmbedder)), ..PgvectorOptions::default() }
}

/// An empty index that can be used.
async fn built(database: &Database, options: PgvectorOptions) -> PgvectorIndex {
    let (index, _) = database.index(options).await.unwrap();
    index.rebuild_from(&database.documents()).await.unwrap();
    index
}

mod documents {
    use super::{Arc, Database, Documents, Postgres, database};

    async fn open() -> (Arc<dyn Documents>, (Database, Arc<Postgres>)) {
        let (database, server) = database().await;
        (Arc::new(database.documents()), (database, server))
    }

    millhand_common::documents_conformance!(open);
}

mod index {
    use super::{Arc, Database, Index, Postgres, built, database, options};

    async fn open() -> (Arc<dyn Index>, (Database, Arc<Postgres>)) {
        let (database, server) = database().await;
        let index = built(&database, options()).await;
        (Arc::new(index), (database, server))
    }

    millhand_common::index_conformance!(open);
}

/// The same clauses for vectors when they are found by the graph: with so few of them it finds all.
mod index_by_graph {
    use super::{Arc, Database, Index, PgvectorOptions, Postgres, built, database, options};

    async fn open() -> (Arc<dyn Index>, (Database, Arc<Postgres>)) {
        let (database, server) = database().await;
        let index = built(&database, PgvectorOptions { exact_up_to: 0, ..options() }).await;
        (Arc::new(index), (database, server))
    }

    millhand_common::index_conformance! { @ open,
        vectors: meaning_finds_what_shares_no_word,
        vectors: words_and_meaning_are_put_together,
        vectors: documents_without_vectors_are_found_by_words,
        vectors: the_nearest_are_those_of_a_naive_scan,
        vectors: vectors_obey_tenants_collections_and_filters,
        vectors: replaced_and_deleted_vectors_are_not_found,
        vectors: a_vector_without_direction_does_no_harm,
    }
}
