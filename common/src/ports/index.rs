//! Finds passages.

use std::collections::BTreeMap;

use async_trait::async_trait;

use crate::model::{CollectionName, DocumentId, Filter, Passage, Scalar, Span, TenantId};

use super::{Write, Writer};

/// Search over passages. Every future may be dropped; a write happened whole or not at all.
#[async_trait]
pub trait Index: Send + Sync {
    /// Replaces all passages of each document's name, unless a newer (version, epoch) is stored for
    /// it. Searchable when it returns. One answer per document, in order.
    async fn upsert(
        &self,
        tenant: &TenantId,
        documents: Vec<IndexDocument>,
    ) -> Result<Vec<Write>, IndexError>;

    /// Removes the passages of a name and leaves a tombstone of `writer`. Not found any more when it
    /// returns.
    async fn delete(
        &self,
        tenant: &TenantId,
        collection: &CollectionName,
        name: &str,
        writer: Writer,
    ) -> Result<Write, IndexError>;

    /// Removes everything in the collection written before `writer`, and leaves a tombstone.
    async fn delete_collection(
        &self,
        tenant: &TenantId,
        collection: &CollectionName,
        writer: Writer,
    ) -> Result<(), IndexError>;

    /// The best passages, best first; tenant, collections and filter are part of the query itself.
    async fn search(&self, tenant: &TenantId, query: &SearchQuery) -> Result<Vec<Passage>, IndexError>;

    /// Whether the index can be searched now.
    async fn ready(&self) -> Result<(), IndexError>;
}

/// What to find.
#[derive(Clone, Debug, Default)]
pub struct SearchQuery {
    /// The question and other wordings of it, most trusted first. A passage's lexical score is its
    /// best over the wordings.
    pub texts: Vec<String>,
    /// The question as the configured embedder sees it.
    pub vector: Option<Vec<f32>>,
    /// Any of these; none finds nothing.
    pub collections: Vec<CollectionName>,
    pub filter: Filter,
    pub limit: usize,
}

#[derive(Clone, Debug)]
pub struct IndexDocument {
    pub collection: CollectionName,
    pub id: DocumentId,
    pub name: String,
    pub title: String,
    pub source: Option<String>,
    pub metadata: BTreeMap<String, Scalar>,
    pub writer: Writer,
    /// In order; the n-th is passage n of the document.
    pub passages: Vec<IndexPassage>,
}

#[derive(Clone, Debug)]
pub struct IndexPassage {
    pub span: Span,
    pub text: String,
    pub headings: Vec<String>,
    /// Present for all passages or for none.
    pub vector: Option<Vec<f32>>,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum IndexError {
    #[error("index storage is full")]
    Full,
    #[error("index is unreachable: {0}")]
    Unreachable(String),
    #[error("index is damaged: {0}")]
    Damaged(String),
    /// Dimensions do not fit those stored.
    #[error("vectors have {got} dimensions, the index holds {expected}")]
    Dimensions { got: usize, expected: usize },
}
