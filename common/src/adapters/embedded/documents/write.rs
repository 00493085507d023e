//! Writes of documents, each one transaction.

use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};
use serde::{Deserialize, Serialize};

use super::schema::{CURRENT, DELETED, REPLACED};
use super::{Fault, read};
use crate::model::{
    CollectionName, Document, DocumentId, Heading, OriginPart, PassageSpan, TenantId, Timestamp, UploadId,
};
use crate::ports::{DocumentLookup, NewDocument, Write, Writer};

/// Pages given back to the file system after one deletion; a larger one is finished by later ones.
const VACUUM_PAGES: u32 = 32_768;

/// What is kept of a canonical text beside the text itself.
#[derive(Serialize, Deserialize)]
pub(super) struct Extra {
    pub(super) title: String,
    pub(super) headings: Vec<Heading>,
    pub(super) origins: Vec<OriginPart>,
    pub(super) warnings: Vec<String>,
    pub(super) passages: Vec<PassageSpan>,
}

pub(super) fn crc(parts: &[&[u8]]) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    parts.iter().for_each(|part| hasher.update(part));
    hasher.finalize()
}

fn begin(db: &mut Connection) -> Result<Transaction<'_>, Fault> {
    Ok(db.transaction_with_behavior(TransactionBehavior::Immediate)?)
}

pub(super) fn put_upload(
    db: &mut Connection,
    tenant: &TenantId,
    id: UploadId,
    bytes: &[u8],
) -> Result<(), Fault> {
    db.prepare_cached(
        "INSERT INTO uploads (tenant, id, at, crc, bytes) VALUES (?1, ?2, ?3, ?4, ?5)
         ON CONFLICT DO UPDATE SET at = ?3, crc = ?4, bytes = ?5",
    )?
    .execute(params![
        tenant.as_str(),
        id.uuid().as_bytes(),
        Timestamp::now().as_millis() as i64,
        crc(&[bytes]),
        bytes
    ])?;
    Ok(())
}

pub(super) fn drop_upload(db: &mut Connection, tenant: &TenantId, id: UploadId) -> Result<(), Fault> {
    db.prepare_cached("DELETE FROM uploads WHERE tenant = ?1 AND id = ?2")?
        .execute(params![tenant.as_str(), id.uuid().as_bytes()])?;
    give_space_back(db)
}

pub(super) fn drop_uploads_before(db: &mut Connection, before: Timestamp) -> Result<u64, Fault> {
    let dropped =
        db.prepare_cached("DELETE FROM uploads WHERE at < ?1")?.execute([before.as_millis() as i64])?;
    if 0 < dropped {
        give_space_back(db)?;
    }
    Ok(dropped as u64)
}

/// True when there was no such collection, or a deleted one.
pub(super) fn create_collection(
    db: &mut Connection,
    tenant: &TenantId,
    name: &CollectionName,
) -> Result<bool, Fault> {
    let changed = db
        .prepare_cached(
            "INSERT INTO collections (tenant, name, version, deleted) VALUES (?1, ?2, 0, 0)
             ON CONFLICT DO UPDATE SET deleted = 0 WHERE deleted = 1",
        )?
        .execute([tenant.as_str(), name.as_str()])?;
    Ok(changed == 1)
}

pub(super) fn delete_collection(
    db: &mut Connection,
    tenant: &TenantId,
    name: &CollectionName,
    version: u64,
) -> Result<bool, Fault> {
    let tx = begin(db)?;
    let keys = [tenant.as_str(), name.as_str()];
    let there = tx
        .prepare_cached("SELECT 1 FROM collections WHERE tenant = ?1 AND name = ?2 AND deleted = 0")?
        .exists(keys)?;
    if !there {
        return Ok(false);
    }
    let of_collection = params![tenant.as_str(), name.as_str(), version as i64];
    // What a newer job has already written is not part of what this deletes.
    tx.prepare_cached(
        "UPDATE documents SET state = 2, replaced = NULL, meta = NULL, text = NULL, passages = NULL
         WHERE tenant = ?1 AND collection = ?2 AND state < 2 AND id NOT IN
         (SELECT current FROM names WHERE tenant = ?1 AND collection = ?2 AND version >= ?3
          AND current IS NOT NULL)",
    )?
    .execute(of_collection)?;
    // The collection's own version takes over as the fence of these names.
    tx.prepare_cached("DELETE FROM names WHERE tenant = ?1 AND collection = ?2 AND version < ?3")?
        .execute(of_collection)?;
    let left = tx
        .prepare_cached("SELECT 1 FROM names WHERE tenant = ?1 AND collection = ?2 AND current IS NOT NULL")?
        .exists(keys)?;
    tx.prepare_cached(
        "UPDATE collections SET version = MAX(version, ?3), deleted = ?4 WHERE tenant = ?1 AND name = ?2",
    )?
    .execute(params![tenant.as_str(), name.as_str(), version as i64, !left])?;
    tx.commit()?;
    give_space_back(db)?;
    Ok(true)
}

pub(super) fn put(db: &mut Connection, tenant: &TenantId, new: &NewDocument) -> Result<Write, Fault> {
    let NewDocument { document, canonical, passages, writer } = new;
    let tx = begin(db)?;
    let collection = document.collection.as_str();
    let deleted_at: Option<i64> = tx
        .prepare_cached("SELECT version FROM collections WHERE tenant = ?1 AND name = ?2")?
        .query_row([tenant.as_str(), collection], |row| row.get(0))
        .optional()?;
    let stored = fence(&tx, tenant, collection, &document.name)?;
    if deleted_at.is_some_and(|version| writer.version < version as u64)
        || stored.as_ref().is_some_and(|(newest, _)| writer < newest)
    {
        return Ok(Write::Stale);
    }
    tx.prepare_cached(
        "INSERT INTO collections (tenant, name, version, deleted) VALUES (?1, ?2, 0, 0)
         ON CONFLICT DO UPDATE SET deleted = 0 WHERE deleted = 1",
    )?
    .execute([tenant.as_str(), collection])?;
    let id = document.id.uuid();
    if let Some((_, Some(before))) = stored
        && before != *id.as_bytes()
    {
        tx.prepare_cached(
            "UPDATE documents SET state = ?3, replaced = (SELECT IFNULL(MAX(replaced), 0) + 1 FROM documents
             WHERE state = ?3) WHERE tenant = ?1 AND id = ?2",
        )?
        .execute(params![tenant.as_str(), before, REPLACED])?;
    }
    let extra = Extra {
        title: canonical.title.clone(),
        headings: canonical.headings.clone(),
        origins: canonical.origins.clone(),
        warnings: canonical.warnings.clone(),
        passages: passages.clone(),
    };
    let extra = serde_json::to_vec(&extra).expect("plain data with text keys is always JSON");
    let meta = serde_json::to_string(document).expect("plain data with text keys is always JSON");
    let text = canonical.text.as_bytes();
    tx.prepare_cached(
        "INSERT INTO documents (tenant, id, collection, state, meta, text, passages, crc)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8) ON CONFLICT DO UPDATE SET
         collection = ?3, state = ?4, replaced = NULL, meta = ?5, text = ?6, passages = ?7, crc = ?8",
    )?
    .execute(params![
        tenant.as_str(),
        id.as_bytes(),
        collection,
        CURRENT,
        meta,
        text,
        extra,
        crc(&[text, &extra])
    ])?;
    set_fence(&tx, tenant, collection, &document.name, *writer, Some(id.as_bytes()))?;
    tx.commit()?;
    Ok(Write::Written)
}

pub(super) fn delete(
    db: &mut Connection,
    tenant: &TenantId,
    collection: &CollectionName,
    id: DocumentId,
    version: u64,
) -> Result<DocumentLookup<Document>, Fault> {
    let tx = begin(db)?;
    let DocumentLookup::Found(document) = read::get(&tx, tenant, collection, id)? else {
        return read::get(&tx, tenant, collection, id);
    };
    let by = Writer { version, epoch: 0 };
    let collection = collection.as_str();
    let (newest, current) = fence(&tx, tenant, collection, &document.name)?.unwrap_or((by, None));
    // A replaced version goes without a trace in the name it no longer has.
    if current == Some(*id.uuid().as_bytes()) {
        set_fence(&tx, tenant, collection, &document.name, newest.max(by), None)?;
    }
    erase(&tx, tenant, id)?;
    tx.commit()?;
    give_space_back(db)?;
    Ok(DocumentLookup::Found(document))
}

pub(super) fn forget(db: &mut Connection, tenant: &TenantId, id: DocumentId) -> Result<(), Fault> {
    let tx = begin(db)?;
    let replaced = tx
        .prepare_cached("SELECT 1 FROM documents WHERE tenant = ?1 AND id = ?2 AND state = ?3")?
        .exists(params![tenant.as_str(), id.uuid().as_bytes(), REPLACED])?;
    if replaced {
        erase(&tx, tenant, id)?;
    }
    tx.commit()?;
    give_space_back(db)
}

/// Drops everything of a document but its id.
fn erase(tx: &Connection, tenant: &TenantId, id: DocumentId) -> Result<(), Fault> {
    tx.prepare_cached(
        "UPDATE documents SET state = ?3, replaced = NULL, meta = NULL, text = NULL, passages = NULL
         WHERE tenant = ?1 AND id = ?2",
    )?
    .execute(params![tenant.as_str(), id.uuid().as_bytes(), DELETED])?;
    Ok(())
}

/// The newest writer of a name and its current document.
type Fence = (Writer, Option<[u8; 16]>);

fn fence(tx: &Connection, tenant: &TenantId, collection: &str, name: &str) -> Result<Option<Fence>, Fault> {
    let row = tx
        .prepare_cached(
            "SELECT version, epoch, current FROM names WHERE tenant = ?1 AND collection = ?2 AND name = ?3",
        )?
        .query_row([tenant.as_str(), collection, name], |row| {
            let writer =
                Writer { version: row.get::<_, i64>(0)? as u64, epoch: row.get::<_, i64>(1)? as u64 };
            Ok((writer, row.get(2)?))
        })
        .optional()?;
    Ok(row)
}

fn set_fence(
    tx: &Connection,
    tenant: &TenantId,
    collection: &str,
    name: &str,
    writer: Writer,
    current: Option<&[u8; 16]>,
) -> Result<(), Fault> {
    tx.prepare_cached(
        "INSERT INTO names (tenant, collection, name, version, epoch, current) VALUES (?1, ?2, ?3, ?4, ?5, ?6)
         ON CONFLICT DO UPDATE SET version = ?4, epoch = ?5, current = ?6",
    )?
    .execute(params![
        tenant.as_str(),
        collection,
        name,
        writer.version as i64,
        writer.epoch as i64,
        current
    ])?;
    Ok(())
}

fn give_space_back(db: &Connection) -> Result<(), Fault> {
    let mut vacuum = db.prepare_cached(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
    let mut pages = vacuum.query(())?;
    while pages.next()?.is_some() {}
    Ok(())
}
