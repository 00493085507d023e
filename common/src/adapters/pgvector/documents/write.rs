//! Writes of documents, each one transaction.

use serde::{Deserialize, Serialize};
use sqlx::{PgConnection, PgPool};
use uuid::Uuid;

use super::{CURRENT, DELETED, REPLACED, crc, read};
use crate::model::{
    CollectionName, Document, DocumentId, Heading, OriginPart, PassageSpan, TenantId, Timestamp, UploadId,
};
use crate::ports::{DocumentLookup, DocumentsError, NewDocument, Write, Writer};

type Result<T> = std::result::Result<T, DocumentsError>;

/// What is kept of a canonical text beside the text itself.
#[derive(Serialize, Deserialize)]
pub(super) struct Extra {
    pub(super) title: String,
    pub(super) headings: Vec<Heading>,
    pub(super) origins: Vec<OriginPart>,
    pub(super) warnings: Vec<String>,
    pub(super) passages: Vec<PassageSpan>,
}

pub(super) async fn put_upload(db: &PgPool, tenant: &TenantId, id: UploadId, bytes: &[u8]) -> Result<()> {
    sqlx::query(
        "INSERT INTO millhand.uploads (tenant, id, at, crc, bytes) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (tenant, id) DO UPDATE SET at = $3, crc = $4, bytes = $5",
    )
    .bind(tenant.as_str())
    .bind(id.uuid())
    .bind(Timestamp::now().as_millis() as i64)
    .bind(crc(&[bytes]))
    .bind(bytes)
    .execute(db)
    .await?;
    Ok(())
}

pub(super) async fn drop_upload(db: &PgPool, tenant: &TenantId, id: UploadId) -> Result<()> {
    sqlx::query("DELETE FROM millhand.uploads WHERE tenant = $1 AND id = $2")
        .bind(tenant.as_str())
        .bind(id.uuid())
        .execute(db)
        .await?;
    Ok(())
}

pub(super) async fn drop_uploads_before(db: &PgPool, before: Timestamp) -> Result<u64> {
    let dropped = sqlx::query("DELETE FROM millhand.uploads WHERE at < $1")
        .bind(before.as_millis() as i64)
        .execute(db)
        .await?;
    Ok(dropped.rows_affected())
}

/// True when there was no such collection, or a deleted one.
pub(super) async fn create_collection(db: &PgPool, tenant: &TenantId, name: &CollectionName) -> Result<bool> {
    let made = sqlx::query(
        "INSERT INTO millhand.collections AS c (tenant, name) VALUES ($1, $2)
         ON CONFLICT (tenant, name) DO UPDATE SET deleted = false WHERE c.deleted",
    )
    .bind(tenant.as_str())
    .bind(name.as_str())
    .execute(db)
    .await?;
    Ok(made.rows_affected() == 1)
}

pub(super) async fn delete_collection(
    db: &PgPool,
    tenant: &TenantId,
    name: &CollectionName,
    version: u64,
) -> Result<bool> {
    let mut tx = db.begin().await?;
    let Some((_, false)) = lock_collection(&mut tx, tenant, name).await? else { return Ok(false) };
    let (tenant, name, version) = (tenant.as_str(), name.as_str(), version as i64);
    // What a newer job has already written is not part of what this deletes.
    sqlx::query(
        "UPDATE millhand.documents
         SET state = $4, replaced = NULL, meta = NULL, text = NULL, passages = NULL
         WHERE tenant = $1 AND collection = $2 AND state < $4 AND NOT EXISTS
         (SELECT FROM millhand.names n WHERE n.tenant = $1 AND n.collection = $2 AND n.version >= $3
          AND n.current = documents.id)",
    )
    .bind(tenant)
    .bind(name)
    .bind(version)
    .bind(DELETED)
    .execute(&mut *tx)
    .await?;
    // The collection's own version takes over as the fence of these names.
    sqlx::query("DELETE FROM millhand.names WHERE tenant = $1 AND collection = $2 AND version < $3")
        .bind(tenant)
        .bind(name)
        .bind(version)
        .execute(&mut *tx)
        .await?;
    sqlx::query(
        "UPDATE millhand.collections SET version = greatest(version, $3), deleted = NOT EXISTS
         (SELECT FROM millhand.names n WHERE n.tenant = $1 AND n.collection = $2 AND n.current IS NOT NULL)
         WHERE tenant = $1 AND name = $2",
    )
    .bind(tenant)
    .bind(name)
    .bind(version)
    .execute(&mut *tx)
    .await?;
    tx.commit().await?;
    Ok(true)
}

pub(super) async fn put(db: &PgPool, tenant: &TenantId, new: &NewDocument) -> Result<Write> {
    let NewDocument { document, canonical, passages, writer } = new;
    let extra = Extra {
        title: canonical.title.clone(),
        headings: canonical.headings.clone(),
        origins: canonical.origins.clone(),
        warnings: canonical.warnings.clone(),
        passages: passages.clone(),
    };
    let extra = serde_json::to_vec(&extra).expect("plain data with text keys is always JSON");
    let meta = serde_json::to_vec(document).expect("plain data with text keys is always JSON");
    let (text, id) = (canonical.text.as_bytes(), document.id.uuid());

    let mut tx = db.begin().await?;
    sqlx::query("INSERT INTO millhand.collections (tenant, name) VALUES ($1, $2) ON CONFLICT DO NOTHING")
        .bind(tenant.as_str())
        .bind(document.collection.as_str())
        .execute(&mut *tx)
        .await?;
    let collection = lock_collection(&mut tx, tenant, &document.collection).await?;
    let stored = fence(&mut tx, tenant, document).await?;
    if collection.is_some_and(|(deleted_at, _)| writer.version < deleted_at)
        || stored.is_some_and(|(newest, _)| *writer < newest)
    {
        // Dropped, the transaction is undone.
        return Ok(Write::Stale);
    }
    sqlx::query(
        "UPDATE millhand.collections SET deleted = false WHERE tenant = $1 AND name = $2 AND deleted",
    )
    .bind(tenant.as_str())
    .bind(document.collection.as_str())
    .execute(&mut *tx)
    .await?;
    if let Some((_, Some(before))) = stored
        && before != id
    {
        sqlx::query(
            "UPDATE millhand.documents SET state = $3, replaced = nextval('millhand.replacements')
             WHERE tenant = $1 AND id = $2",
        )
        .bind(tenant.as_str())
        .bind(before)
        .bind(REPLACED)
        .execute(&mut *tx)
        .await?;
    }
    sqlx::query(
        "INSERT INTO millhand.documents (tenant, id, collection, state, meta, text, passages, crc)
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (tenant, id) DO UPDATE SET
         collection = $3, state = $4, replaced = NULL, meta = $5, text = $6, passages = $7, crc = $8",
    )
    .bind(tenant.as_str())
    .bind(id)
    .bind(document.collection.as_str())
    .bind(CURRENT)
    .bind(&meta)
    .bind(text)
    .bind(&extra)
    .bind(crc(&[text, &extra]))
    .execute(&mut *tx)
    .await?;
    set_fence(&mut tx, tenant, document, *writer, Some(id)).await?;
    tx.commit().await?;
    Ok(Write::Written)
}

pub(super) async fn delete(
    db: &PgPool,
    tenant: &TenantId,
    collection: &CollectionName,
    id: DocumentId,
    version: u64,
) -> Result<DocumentLookup<Document>> {
    let mut tx = db.begin().await?;
    lock_collection(&mut tx, tenant, collection).await?;
    let found = read::get(&mut *tx, tenant, collection, id).await?;
    if let DocumentLookup::Found(document) = &found {
        let by = Writer { version, epoch: 0 };
        let (newest, current) = fence(&mut tx, tenant, document).await?.unwrap_or((by, None));
        // A replaced version goes without a trace in the name it no longer has.
        if current == Some(id.uuid()) {
            set_fence(&mut tx, tenant, document, newest.max(by), None).await?;
        }
        erase(&mut tx, tenant, id, CURRENT..=REPLACED).await?;
        tx.commit().await?;
    }
    Ok(found)
}

pub(super) async fn forget(db: &PgPool, tenant: &TenantId, id: DocumentId) -> Result<()> {
    erase(&mut *db.acquire().await?, tenant, id, REPLACED..=REPLACED).await
}

/// Drops everything of a document in one of these states but its id.
async fn erase(
    db: &mut PgConnection,
    tenant: &TenantId,
    id: DocumentId,
    states: std::ops::RangeInclusive<i16>,
) -> Result<()> {
    sqlx::query(
        "UPDATE millhand.documents
         SET state = $3, replaced = NULL, meta = NULL, text = NULL, passages = NULL
         WHERE tenant = $1 AND id = $2 AND state BETWEEN $4 AND $5",
    )
    .bind(tenant.as_str())
    .bind(id.uuid())
    .bind(DELETED)
    .bind(*states.start())
    .bind(*states.end())
    .execute(db)
    .await?;
    Ok(())
}

/// Keeps other writers out of the collection; answers its newest deletion, and whether it is deleted.
async fn lock_collection(
    tx: &mut PgConnection,
    tenant: &TenantId,
    name: &CollectionName,
) -> Result<Option<(u64, bool)>> {
    let row: Option<(i64, bool)> = sqlx::query_as(
        "SELECT version, deleted FROM millhand.collections WHERE tenant = $1 AND name = $2 FOR UPDATE",
    )
    .bind(tenant.as_str())
    .bind(name.as_str())
    .fetch_optional(tx)
    .await?;
    Ok(row.map(|(version, deleted)| (version as u64, deleted)))
}

/// The newest writer of a document's name, and its current version.
async fn fence(
    tx: &mut PgConnection,
    tenant: &TenantId,
    document: &Document,
) -> Result<Option<(Writer, Option<Uuid>)>> {
    let row: Option<(i64, i64, Option<Uuid>)> = sqlx::query_as(
        "SELECT version, epoch, current FROM millhand.names WHERE tenant = $1 AND collection = $2 AND name = $3",
    )
    .bind(tenant.as_str())
    .bind(document.collection.as_str())
    .bind(document.name.as_bytes())
    .fetch_optional(tx)
    .await?;
    Ok(row
        .map(|(version, epoch, current)| (Writer { version: version as u64, epoch: epoch as u64 }, current)))
}

async fn set_fence(
    tx: &mut PgConnection,
    tenant: &TenantId,
    document: &Document,
    writer: Writer,
    current: Option<Uuid>,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO millhand.names (tenant, collection, name, version, epoch, current)
         VALUES ($1, $2, $3, $4, $5, $6)
         ON CONFLICT (tenant, collection, name) DO UPDATE SET version = $4, epoch = $5, current = $6",
    )
    .bind(tenant.as_str())
    .bind(document.collection.as_str())
    .bind(document.name.as_bytes())
    .bind(writer.version as i64)
    .bind(writer.epoch as i64)
    .bind(current)
    .execute(tx)
    .await?;
    Ok(())
}
