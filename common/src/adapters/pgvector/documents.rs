//! Documents as rows. Each write is one transaction that locks its collection's row first.

mod read;
mod write;

use async_trait::async_trait;
use bytes::Bytes;
use sqlx::PgPool;

use super::{Failure, within};
use crate::model::{CollectionName, Document, DocumentId, TenantId, Timestamp, UploadId};
use crate::ports::{DocumentLookup, Documents, DocumentsError, NewDocument, Page, Write};

/// Documents in PostgreSQL.
#[derive(Clone, Debug)]
pub struct PostgresDocuments {
    pool: PgPool,
}

impl PostgresDocuments {
    pub(super) fn new(pool: PgPool) -> Self {
        Self { pool }
    }
}

/// `documents.state`.
const CURRENT: i16 = 0;
/// A newer version of the name is stored; the text is kept for those who cite it.
const REPLACED: i16 = 1;
/// The id is remembered, so that a reader hears "deleted" and not "unknown".
const DELETED: i16 = 2;

impl From<sqlx::Error> for DocumentsError {
    fn from(err: sqlx::Error) -> Self {
        Failure::from(err).into()
    }
}

fn crc(parts: &[&[u8]]) -> i64 {
    let mut hasher = crc32fast::Hasher::new();
    parts.iter().for_each(|part| hasher.update(part));
    i64::from(hasher.finalize())
}

#[async_trait]
impl Documents for PostgresDocuments {
    async fn put_upload(&self, tenant: &TenantId, id: UploadId, bytes: Bytes) -> Result<(), DocumentsError> {
        within(write::put_upload(&self.pool, tenant, id, &bytes)).await
    }

    async fn upload(&self, tenant: &TenantId, id: UploadId) -> Result<Option<Bytes>, DocumentsError> {
        within(read::upload(&self.pool, tenant, id)).await
    }

    async fn drop_upload(&self, tenant: &TenantId, id: UploadId) -> Result<(), DocumentsError> {
        within(write::drop_upload(&self.pool, tenant, id)).await
    }

    async fn drop_uploads_before(&self, before: Timestamp) -> Result<u64, DocumentsError> {
        within(write::drop_uploads_before(&self.pool, before)).await
    }

    async fn create_collection(
        &self,
        tenant: &TenantId,
        name: &CollectionName,
    ) -> Result<bool, DocumentsError> {
        within(write::create_collection(&self.pool, tenant, name)).await
    }

    async fn collections(&self, tenant: &TenantId) -> Result<Vec<(CollectionName, u64)>, DocumentsError> {
        within(read::collections(&self.pool, tenant)).await
    }

    async fn delete_collection(
        &self,
        tenant: &TenantId,
        name: &CollectionName,
        version: u64,
    ) -> Result<bool, DocumentsError> {
        within(write::delete_collection(&self.pool, tenant, name, version)).await
    }

    async fn put(&self, tenant: &TenantId, document: NewDocument) -> Result<Write, DocumentsError> {
        within(write::put(&self.pool, tenant, &document)).await
    }

    async fn list(
        &self,
        tenant: &TenantId,
        collection: &CollectionName,
        limit: usize,
        after: Option<&str>,
    ) -> Result<Option<Page<Document>>, DocumentsError> {
        within(read::list(&self.pool, tenant, collection, limit, after)).await
    }

    async fn get(
        &self,
        tenant: &TenantId,
        collection: &CollectionName,
        id: DocumentId,
    ) -> Result<DocumentLookup<Document>, DocumentsError> {
        within(read::get(&self.pool, tenant, collection, id)).await
    }

    async fn text(
        &self,
        tenant: &TenantId,
        collection: &CollectionName,
        id: DocumentId,
    ) -> Result<DocumentLookup<String>, DocumentsError> {
        within(read::text(&self.pool, tenant, collection, id)).await
    }

    async fn delete(
        &self,
        tenant: &TenantId,
        collection: &CollectionName,
        id: DocumentId,
        version: u64,
    ) -> Result<DocumentLookup<Document>, DocumentsError> {
        within(write::delete(&self.pool, tenant, collection, id, version)).await
    }

    async fn replaced(&self, limit: usize) -> Result<Vec<(TenantId, DocumentId)>, DocumentsError> {
        within(read::replaced(&self.pool, limit)).await
    }

    async fn forget(&self, tenant: &TenantId, id: DocumentId) -> Result<(), DocumentsError> {
        within(write::forget(&self.pool, tenant, id)).await
    }

    async fn export(
        &self,
        after: Option<DocumentId>,
        limit: usize,
    ) -> Result<Vec<(TenantId, NewDocument)>, DocumentsError> {
        within(read::export(&self.pool, after, limit)).await
    }

    async fn ready(&self) -> Result<(), DocumentsError> {
        within(read::ready(&self.pool)).await
    }
}
