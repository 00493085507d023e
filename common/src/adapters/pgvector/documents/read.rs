//! Reads of documents.

use bytes::Bytes;
use sqlx::postgres::{PgExecutor, PgRow};
use sqlx::{PgPool, Row};
use uuid::Uuid;

use super::write::Extra;
use super::{DELETED, crc};
use crate::model::{CanonicalText, CollectionName, Document, DocumentId, TenantId, UploadId};
use crate::ports::{DocumentLookup, DocumentsError, NewDocument, Page, Writer};

type Result<T> = std::result::Result<T, DocumentsError>;

pub(super) async fn upload(db: &PgPool, tenant: &TenantId, id: UploadId) -> Result<Option<Bytes>> {
    let row: Option<(Vec<u8>, i64)> =
        sqlx::query_as("SELECT bytes, crc FROM millhand.uploads WHERE tenant = $1 AND id = $2")
            .bind(tenant.as_str())
            .bind(id.uuid())
            .fetch_optional(db)
            .await?;
    match row {
        Some((bytes, sum)) if crc(&[&bytes]) == sum => Ok(Some(bytes.into())),
        Some(_) => Err(DocumentsError::Damaged(format!("upload {id}"))),
        None => Ok(None),
    }
}

pub(super) async fn collections(db: &PgPool, tenant: &TenantId) -> Result<Vec<(CollectionName, u64)>> {
    let rows: Vec<(String, i64)> = sqlx::query_as(
        "SELECT c.name, (SELECT count(*) FROM millhand.names n WHERE n.tenant = c.tenant
         AND n.collection = c.name AND n.current IS NOT NULL)
         FROM millhand.collections c WHERE c.tenant = $1 AND NOT c.deleted ORDER BY c.name",
    )
    .bind(tenant.as_str())
    .fetch_all(db)
    .await?;
    let collection = |(name, count): (String, i64)| match name.parse() {
        Ok(parsed) => Ok((parsed, count as u64)),
        Err(_) => Err(DocumentsError::Damaged(format!("collection name {name:?}"))),
    };
    rows.into_iter().map(collection).collect()
}

pub(super) async fn list(
    db: &PgPool,
    tenant: &TenantId,
    collection: &CollectionName,
    limit: usize,
    after: Option<&str>,
) -> Result<Option<Page<Document>>> {
    let exists: Option<i32> = sqlx::query_scalar(
        "SELECT 1 FROM millhand.collections WHERE tenant = $1 AND name = $2 AND NOT deleted",
    )
    .bind(tenant.as_str())
    .bind(collection.as_str())
    .fetch_optional(db)
    .await?;
    if exists.is_none() {
        return Ok(None);
    }
    // Nothing comes before the empty name, and no name is empty.
    let rows = sqlx::query(
        "SELECT d.id, d.meta FROM millhand.names n
         JOIN millhand.documents d ON d.tenant = n.tenant AND d.id = n.current
         WHERE n.tenant = $1 AND n.collection = $2 AND n.name > $3 ORDER BY n.name LIMIT $4",
    )
    .bind(tenant.as_str())
    .bind(collection.as_str())
    .bind(after.unwrap_or_default().as_bytes())
    .bind(i64::try_from(limit.saturating_add(1)).unwrap_or(i64::MAX))
    .fetch_all(db)
    .await?;
    let mut data = rows.iter().map(document).collect::<Result<Vec<_>>>()?;
    let next = if limit < data.len() {
        data.truncate(limit);
        data.last().map(|last| last.name.clone())
    } else {
        None
    };
    Ok(Some(Page { data, next }))
}

pub(super) async fn get(
    db: impl PgExecutor<'_>,
    tenant: &TenantId,
    collection: &CollectionName,
    id: DocumentId,
) -> Result<DocumentLookup<Document>> {
    let row = sqlx::query(
        "SELECT id, meta, state FROM millhand.documents WHERE tenant = $1 AND id = $2 AND collection = $3",
    )
    .bind(tenant.as_str())
    .bind(id.uuid())
    .bind(collection.as_str())
    .fetch_optional(db)
    .await?;
    match row {
        None => Ok(DocumentLookup::Unknown),
        Some(row) if row.try_get::<i16, _>("state")? == DELETED => Ok(DocumentLookup::Deleted),
        Some(row) => Ok(DocumentLookup::Found(document(&row)?)),
    }
}

pub(super) async fn text(
    db: &PgPool,
    tenant: &TenantId,
    collection: &CollectionName,
    id: DocumentId,
) -> Result<DocumentLookup<String>> {
    let row = sqlx::query(
        "SELECT id, state, text, passages, crc FROM millhand.documents
         WHERE tenant = $1 AND id = $2 AND collection = $3",
    )
    .bind(tenant.as_str())
    .bind(id.uuid())
    .bind(collection.as_str())
    .fetch_optional(db)
    .await?;
    match row {
        None => Ok(DocumentLookup::Unknown),
        Some(row) if row.try_get::<i16, _>("state")? == DELETED => Ok(DocumentLookup::Deleted),
        Some(row) => Ok(DocumentLookup::Found(checked(&row)?.0)),
    }
}

pub(super) async fn replaced(db: &PgPool, limit: usize) -> Result<Vec<(TenantId, DocumentId)>> {
    let rows =
        sqlx::query("SELECT tenant, id FROM millhand.documents WHERE state = 1 ORDER BY replaced LIMIT $1")
            .bind(i64::try_from(limit).unwrap_or(i64::MAX))
            .fetch_all(db)
            .await?;
    rows.iter().map(|row| Ok((tenant_of(row)?, id_of(row)?))).collect()
}

/// A damaged document is left out and logged: it must not stand in the way of all others.
pub(super) async fn export(
    db: &PgPool,
    mut after: Option<DocumentId>,
    limit: usize,
) -> Result<Vec<(TenantId, NewDocument)>> {
    let mut all = Vec::new();
    while all.len() < limit {
        let wanted = limit - all.len();
        let rows = sqlx::query(
            "SELECT d.tenant, d.id, d.meta, d.text, d.passages, d.crc, n.version, n.epoch
             FROM millhand.documents d
             JOIN millhand.names n ON n.tenant = d.tenant AND n.collection = d.collection AND n.current = d.id
             WHERE d.state = 0 AND d.id > $1 ORDER BY d.id LIMIT $2",
        )
        .bind(after.map_or(Uuid::nil(), DocumentId::uuid))
        .bind(i64::try_from(wanted).unwrap_or(i64::MAX))
        .fetch_all(db)
        .await?;
        for row in &rows {
            after = Some(id_of(row)?);
            match exported(row) {
                Ok(document) => all.push(document),
                Err(DocumentsError::Damaged(what)) => {
                    tracing::error!(what, "a stored document is damaged: left out");
                }
                Err(err) => return Err(err),
            }
        }
        if rows.len() < wanted {
            break;
        }
    }
    Ok(all)
}

pub(super) async fn ready(db: &PgPool) -> Result<()> {
    // A standby answers reads and takes no writes.
    let standby: bool = sqlx::query_scalar("SELECT pg_is_in_recovery()").fetch_one(db).await?;
    if standby {
        return Err(DocumentsError::Unreachable("the server takes no writes: it is a standby".to_owned()));
    }
    sqlx::query("SELECT FROM millhand.documents LIMIT 1").fetch_optional(db).await?;
    Ok(())
}

fn exported(row: &PgRow) -> Result<(TenantId, NewDocument)> {
    let document = document(row)?;
    let (text, extra) = checked(row)?;
    let writer = Writer {
        version: row.try_get::<i64, _>("version")? as u64,
        epoch: row.try_get::<i64, _>("epoch")? as u64,
    };
    let Extra { title, headings, origins, warnings, passages } = extra;
    let canonical = CanonicalText { text, title, headings, origins, warnings };
    Ok((tenant_of(row)?, NewDocument { document, canonical, passages, writer }))
}

/// The text, and what else is known of it.
fn checked(row: &PgRow) -> Result<(String, Extra)> {
    let id = id_of(row)?;
    let text: Vec<u8> = row.try_get("text")?;
    let extra: &[u8] = row.try_get("passages")?;
    if crc(&[&text, extra]) != row.try_get::<i64, _>("crc")? {
        return Err(DocumentsError::Damaged(format!("text of {id}")));
    }
    let damaged = || DocumentsError::Damaged(format!("text of {id}"));
    let extra = serde_json::from_slice(extra).map_err(|_| damaged())?;
    Ok((String::from_utf8(text).map_err(|_| damaged())?, extra))
}

fn document(row: &PgRow) -> Result<Document> {
    let meta: &[u8] = row.try_get("meta")?;
    match serde_json::from_slice(meta) {
        Ok(document) => Ok(document),
        Err(_) => Err(DocumentsError::Damaged(format!("record of {}", id_of(row)?))),
    }
}

fn id_of(row: &PgRow) -> Result<DocumentId> {
    Ok(DocumentId::from_uuid(row.try_get("id")?))
}

fn tenant_of(row: &PgRow) -> Result<TenantId> {
    let tenant: String = row.try_get("tenant")?;
    tenant.parse().map_err(|_| DocumentsError::Damaged(format!("tenant name {tenant:?}")))
}
