//! Search in SQL: an inverted index with BM25, vectors beside it, and the fusion of every index.
//!
//! The statistics of a score are those of the collections asked, so that what one tenant adds changes
//! nothing for another. The index holds nothing that the documents do not: when it was made by another
//! analyser or for another embedder it is neither read nor written until it is built anew.

mod meaning;
mod phrases;
mod postings;
mod rebuild;
mod search;
mod state;
mod words;
mod write;

use std::sync::Arc;

use async_trait::async_trait;
use sqlx::PgPool;

use super::{Failure, within};
use crate::model::{CollectionName, Passage, TenantId};
use crate::ports::{Embedder, Index, IndexDocument, IndexError, SearchQuery, Write, Writer};
use crate::search::{Key, Opened, prepare};
use state::Found;

/// How an index is opened.
#[derive(Clone)]
pub struct PgvectorOptions {
    /// The configured model; vectors of another are never mixed with its own.
    pub embedder: Option<Arc<dyn Embedder>>,
    /// Up to so many vectors that a search may see are all compared; of more, the nearest are found by
    /// an HNSW graph, which may miss some. A filter that leaves few of many is where graphs miss most.
    pub exact_up_to: u32,
}

impl Default for PgvectorOptions {
    fn default() -> Self {
        Self { embedder: None, exact_up_to: 20_000 }
    }
}

/// Search over passages in PostgreSQL, for many processes.
pub struct PgvectorIndex {
    pool: PgPool,
    options: PgvectorOptions,
}

/// A passage, as the tables name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct At {
    document: i64,
    ordinal: i32,
}

impl PgvectorIndex {
    pub(super) async fn open(pool: PgPool, options: PgvectorOptions) -> Result<(Self, Opened), IndexError> {
        let index = Self { pool, options };
        let opened = match within(state::find(&index.pool, index.embedder_name())).await? {
            Found::Same(state) if state.complete => Opened::Ready,
            Found::Same(_) => Opened::NeedsRebuild("it was not built to its end".to_owned()),
            Found::Other(reason) => Opened::NeedsRebuild(reason),
        };
        Ok((index, opened))
    }

    fn embedder_name(&self) -> Option<&str> {
        self.options.embedder.as_deref().map(Embedder::name)
    }
}

#[async_trait]
impl Index for PgvectorIndex {
    async fn upsert(
        &self,
        tenant: &TenantId,
        documents: Vec<IndexDocument>,
    ) -> Result<Vec<Write>, IndexError> {
        let tenant = tenant.clone();
        let analyse = move || {
            let prepared = documents.into_iter().map(|document| prepare(&tenant, document));
            prepared.map(postings::Document::from).collect::<Vec<_>>()
        };
        let analysed = tokio::task::spawn_blocking(analyse).await;
        let documents = analysed.map_err(|err| IndexError::Unreachable(err.to_string()))?;
        within(self.write(documents)).await
    }

    async fn delete(
        &self,
        tenant: &TenantId,
        collection: &CollectionName,
        name: &str,
        writer: Writer,
    ) -> Result<Write, IndexError> {
        let nothing = postings::Document {
            scope: Key::scope(tenant, collection),
            name: Key::name(tenant, collection, name),
            writer,
            filters: Vec::new(),
            passages: Vec::new(),
        };
        let answers = within(self.write(vec![nothing])).await?;
        Ok(answers[0])
    }

    async fn delete_collection(
        &self,
        tenant: &TenantId,
        collection: &CollectionName,
        writer: Writer,
    ) -> Result<(), IndexError> {
        within(self.delete_scope(Key::scope(tenant, collection), writer)).await
    }

    async fn search(&self, tenant: &TenantId, query: &SearchQuery) -> Result<Vec<Passage>, IndexError> {
        if query.collections.is_empty() || query.limit == 0 {
            return Ok(Vec::new());
        }
        within(self.find(tenant, query)).await
    }

    async fn ready(&self) -> Result<(), IndexError> {
        match within(state::find(&self.pool, self.embedder_name())).await? {
            Found::Same(state) if state.complete => Ok(()),
            Found::Same(_) => Err(IndexError::Unreachable("it is being built anew".to_owned())),
            Found::Other(reason) => Err(IndexError::Unreachable(reason)),
        }
    }
}

impl From<sqlx::Error> for IndexError {
    fn from(err: sqlx::Error) -> Self {
        Failure::from(err).into()
    }
}
