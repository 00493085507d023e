//! Originals until they are ingested, canonical texts, and lists. Never in a queue message.

use async_trait::async_trait;
use bytes::Bytes;

use crate::model::{
    CanonicalText, CollectionName, Document, DocumentId, PassageSpan, TenantId, Timestamp, UploadId,
};

use super::Page;

/// Keeps documents. Every future may be dropped; a write happened whole or not at all.
#[async_trait]
pub trait Documents: Send + Sync {
    /// Durable when it returns.
    async fn put_upload(&self, tenant: &TenantId, id: UploadId, bytes: Bytes) -> Result<(), DocumentsError>;
    async fn upload(&self, tenant: &TenantId, id: UploadId) -> Result<Option<Bytes>, DocumentsError>;
    /// No error when there is none.
    async fn drop_upload(&self, tenant: &TenantId, id: UploadId) -> Result<(), DocumentsError>;
    /// Uploads stored before `before`, of all tenants: orphans once their jobs are gone.
    async fn drop_uploads_before(&self, before: Timestamp) -> Result<u64, DocumentsError>;

    /// True when this call made it.
    async fn create_collection(
        &self,
        tenant: &TenantId,
        name: &CollectionName,
    ) -> Result<bool, DocumentsError>;
    /// All of the tenant's, by name, with their number of documents.
    async fn collections(&self, tenant: &TenantId) -> Result<Vec<(CollectionName, u64)>, DocumentsError>;
    /// Deletes it with its documents; false when there is none.
    async fn delete_collection(
        &self,
        tenant: &TenantId,
        name: &CollectionName,
        version: u64,
    ) -> Result<bool, DocumentsError>;

    /// Makes this version the current one of its name, unless a newer (version, epoch) is stored.
    /// Creates the collection. The replaced version is no longer listed; its text stays until
    /// [`Self::forget`].
    async fn put(&self, tenant: &TenantId, document: NewDocument) -> Result<Write, DocumentsError>;

    /// Current documents by name; `after` is exclusive.
    async fn list(
        &self,
        tenant: &TenantId,
        collection: &CollectionName,
        limit: usize,
        after: Option<&str>,
    ) -> Result<Option<Page<Document>>, DocumentsError>;

    async fn get(
        &self,
        tenant: &TenantId,
        collection: &CollectionName,
        id: DocumentId,
    ) -> Result<DocumentLookup<Document>, DocumentsError>;

    /// The canonical text of a current or replaced version.
    async fn text(
        &self,
        tenant: &TenantId,
        collection: &CollectionName,
        id: DocumentId,
    ) -> Result<DocumentLookup<String>, DocumentsError>;

    /// Deletes a document and its text, and leaves a tombstone of `version` for its name, so that an
    /// older write cannot bring it back. Answers the document when it was there.
    async fn delete(
        &self,
        tenant: &TenantId,
        collection: &CollectionName,
        id: DocumentId,
        version: u64,
    ) -> Result<DocumentLookup<Document>, DocumentsError>;

    /// Replaced versions, oldest first: candidates for [`Self::forget`].
    async fn replaced(&self, limit: usize) -> Result<Vec<(TenantId, DocumentId)>, DocumentsError>;
    /// Drops the text of a replaced version.
    async fn forget(&self, tenant: &TenantId, id: DocumentId) -> Result<(), DocumentsError>;

    /// Every current document with what an index needs, in a stable order, after `after`: to build an
    /// index anew.
    async fn export(
        &self,
        after: Option<DocumentId>,
        limit: usize,
    ) -> Result<Vec<(TenantId, NewDocument)>, DocumentsError>;

    /// Whether documents can be read and written now.
    async fn ready(&self) -> Result<(), DocumentsError>;
}

/// Fences a document write: what an older writer sends is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Writer {
    /// [`crate::model::Job::version`] or a stamp of the store.
    pub version: u64,
    /// Epoch of the job's claim; 0 outside a job.
    pub epoch: u64,
}

/// A document with all that is kept of it.
#[derive(Clone, Debug, PartialEq)]
pub struct NewDocument {
    pub document: Document,
    pub canonical: CanonicalText,
    pub passages: Vec<PassageSpan>,
    pub writer: Writer,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Write {
    Written,
    /// A newer version or epoch is stored: nothing was changed.
    Stale,
}

#[derive(Clone, Debug, PartialEq)]
pub enum DocumentLookup<T> {
    Found(T),
    Deleted,
    Unknown,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum DocumentsError {
    #[error("document storage is full")]
    Full,
    #[error("document storage is unreachable: {0}")]
    Unreachable(String),
    #[error("a stored document is damaged: {0}")]
    Damaged(String),
}
