//! Reads of documents.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension, Row, params};
use uuid::Uuid;

use super::Fault;
use super::schema::DELETED;
use super::write::{Extra, crc};
use crate::model::{CanonicalText, CollectionName, Document, DocumentId, TenantId, UploadId};
use crate::ports::{DocumentLookup, NewDocument, Page, Writer};

pub(super) fn upload(db: &Connection, tenant: &TenantId, id: UploadId) -> Result<Option<Bytes>, Fault> {
    let row = db
        .prepare_cached("SELECT bytes, crc FROM uploads WHERE tenant = ?1 AND id = ?2")?
        .query_row(params![tenant.as_str(), id.uuid().as_bytes()], |row| {
            Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, u32>(1)?))
        })
        .optional()?;
    match row {
        Some((bytes, sum)) if crc(&[&bytes]) == sum => Ok(Some(bytes.into())),
        Some(_) => Err(Fault::Damaged(format!("upload {id}"))),
        None => Ok(None),
    }
}

pub(super) fn collections(db: &Connection, tenant: &TenantId) -> Result<Vec<(CollectionName, u64)>, Fault> {
    let mut query = db.prepare_cached(
        "SELECT c.name, (SELECT COUNT(*) FROM names n WHERE n.tenant = c.tenant AND n.collection = c.name
         AND n.current IS NOT NULL) FROM collections c WHERE c.tenant = ?1 AND c.deleted = 0 ORDER BY c.name",
    )?;
    let mut rows = query.query([tenant.as_str()])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        let name: String = row.get(0)?;
        let name = name.parse().map_err(|_| Fault::Damaged(format!("collection name {name:?}")))?;
        all.push((name, row.get(1)?));
    }
    Ok(all)
}

pub(super) fn list(
    db: &Connection,
    tenant: &TenantId,
    collection: &CollectionName,
    limit: usize,
    after: Option<&str>,
) -> Result<Option<Page<Document>>, Fault> {
    let exists = db
        .prepare_cached("SELECT 1 FROM collections WHERE tenant = ?1 AND name = ?2 AND deleted = 0")?
        .exists([tenant.as_str(), collection.as_str()])?;
    if !exists {
        return Ok(None);
    }
    // Nothing comes before the empty name, and no name is empty.
    let mut query = db.prepare_cached(
        "SELECT d.id, d.meta FROM names n JOIN documents d ON d.tenant = n.tenant AND d.id = n.current
         WHERE n.tenant = ?1 AND n.collection = ?2 AND n.name > ?3 ORDER BY n.name LIMIT ?4",
    )?;
    let more = limit.saturating_add(1).min(i64::MAX as usize);
    let mut rows =
        query.query(params![tenant.as_str(), collection.as_str(), after.unwrap_or_default(), more as i64])?;
    let mut data = Vec::new();
    while let Some(row) = rows.next()? {
        data.push(document(row, 0, 1)?);
    }
    let next = if limit < data.len() {
        data.truncate(limit);
        data.last().map(|last| last.name.clone())
    } else {
        None
    };
    Ok(Some(Page { data, next }))
}

pub(super) fn get(
    db: &Connection,
    tenant: &TenantId,
    collection: &CollectionName,
    id: DocumentId,
) -> Result<DocumentLookup<Document>, Fault> {
    let mut query = db.prepare_cached(
        "SELECT id, meta, state FROM documents WHERE tenant = ?1 AND id = ?2 AND collection = ?3",
    )?;
    let mut rows = query.query(params![tenant.as_str(), id.uuid().as_bytes(), collection.as_str()])?;
    match rows.next()? {
        None => Ok(DocumentLookup::Unknown),
        Some(row) if row.get::<_, u8>(2)? == DELETED => Ok(DocumentLookup::Deleted),
        Some(row) => Ok(DocumentLookup::Found(document(row, 0, 1)?)),
    }
}

pub(super) fn text(
    db: &Connection,
    tenant: &TenantId,
    collection: &CollectionName,
    id: DocumentId,
) -> Result<DocumentLookup<String>, Fault> {
    let mut query = db.prepare_cached(
        "SELECT state, text, passages, crc FROM documents WHERE tenant = ?1 AND id = ?2 AND collection = ?3",
    )?;
    let mut rows = query.query(params![tenant.as_str(), id.uuid().as_bytes(), collection.as_str()])?;
    match rows.next()? {
        None => Ok(DocumentLookup::Unknown),
        Some(row) if row.get::<_, u8>(0)? == DELETED => Ok(DocumentLookup::Deleted),
        Some(row) => {
            let (text, _) = checked(id, row, 1)?;
            Ok(DocumentLookup::Found(text))
        }
    }
}

pub(super) fn replaced(db: &Connection, limit: usize) -> Result<Vec<(TenantId, DocumentId)>, Fault> {
    let mut query =
        db.prepare_cached("SELECT tenant, id FROM documents WHERE state = 1 ORDER BY replaced LIMIT ?1")?;
    let mut rows = query.query([limit as i64])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        all.push((tenant_of(row, 0)?, id_of(row, 1)?));
    }
    Ok(all)
}

/// A damaged document is left out and logged: it must not stand in the way of all others.
pub(super) fn export(
    db: &Connection,
    after: Option<DocumentId>,
    limit: usize,
) -> Result<Vec<(TenantId, NewDocument)>, Fault> {
    let mut query = db.prepare_cached(
        "SELECT tenant, id, meta, text, passages, crc FROM documents WHERE state = 0 AND id > ?1 ORDER BY id",
    )?;
    let after = after.map(|id| id.uuid().as_bytes().to_vec()).unwrap_or_default();
    let mut rows = query.query([after])?;
    let mut all = Vec::new();
    while all.len() < limit
        && let Some(row) = rows.next()?
    {
        match exported(db, row) {
            Ok(document) => all.push(document),
            Err(Fault::Damaged(what)) => tracing::error!(what, "a stored document is damaged: left out"),
            Err(fault) => return Err(fault),
        }
    }
    Ok(all)
}

fn exported(db: &Connection, row: &Row<'_>) -> Result<(TenantId, NewDocument), Fault> {
    let (tenant, id) = (tenant_of(row, 0)?, id_of(row, 1)?);
    let document = document(row, 1, 2)?;
    let (text, extra) = checked(id, row, 3)?;
    let mut fence = db.prepare_cached(
        "SELECT version, epoch FROM names WHERE tenant = ?1 AND collection = ?2 AND name = ?3",
    )?;
    let writer = fence.query_row([tenant.as_str(), document.collection.as_str(), &document.name], |row| {
        Ok(Writer { version: row.get::<_, i64>(0)? as u64, epoch: row.get::<_, i64>(1)? as u64 })
    })?;
    let Extra { title, headings, origins, warnings, passages } = extra;
    let canonical = CanonicalText { text, title, headings, origins, warnings };
    Ok((tenant, NewDocument { document, canonical, passages, writer }))
}

/// The text, and what else is known of it, from three neighbouring columns: text, passages, crc.
fn checked(id: DocumentId, row: &Row<'_>, at: usize) -> Result<(String, Extra), Fault> {
    let damaged = || Fault::Damaged(format!("text of document {id}"));
    let text: Vec<u8> = row.get(at)?;
    let extra: Vec<u8> = row.get(at + 1)?;
    if crc(&[&text, &extra]) != row.get::<_, u32>(at + 2)? {
        return Err(damaged());
    }
    let text = String::from_utf8(text).map_err(|_| damaged())?;
    let extra = serde_json::from_slice(&extra).map_err(|_| damaged())?;
    Ok((text, extra))
}

pub(super) fn document(row: &Row<'_>, id: usize, meta: usize) -> Result<Document, Fault> {
    let id = id_of(row, id)?;
    let meta: String = row.get(meta)?;
    serde_json::from_str(&meta).map_err(|_| Fault::Damaged(format!("record of document {id}")))
}

fn id_of(row: &Row<'_>, at: usize) -> Result<DocumentId, Fault> {
    let bytes: [u8; 16] = row.get(at)?;
    Ok(DocumentId::from_uuid(Uuid::from_bytes(bytes)))
}

fn tenant_of(row: &Row<'_>, at: usize) -> Result<TenantId, Fault> {
    let tenant: String = row.get(at)?;
    tenant.parse().map_err(|_| Fault::Damaged(format!("tenant name {tenant:?}")))
}
