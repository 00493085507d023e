//! Removes what is no longer kept, and remembers that it was there.

use rusqlite::{OptionalExtension, params};
use uuid::Uuid;

use crate::model::{ConversationId, JobId, TenantId};
use crate::ports::StoreError;

use super::super::super::ending::{self, Outcome};
use super::super::engine::{Fault, Tx};

pub(super) fn delete_job(tx: &mut Tx<'_>, tenant: &TenantId, id: JobId) -> Result<bool, Fault> {
    if tx.state.get(id).is_some_and(|live| live.tenant == *tenant) {
        return Err(StoreError::Open.into());
    }
    let version: Option<u64> = tx
        .db
        .prepare_cached("SELECT version FROM jobs WHERE id = ?1 AND tenant = ?2")?
        .query_row(params![id.uuid(), tenant.as_str()], |row| row.get(0))
        .optional()?;
    match version {
        Some(version) => remove(tx, version).map(|()| true),
        None => Ok(false),
    }
}

/// Removes a terminal job with its log, its dead letter and its citations.
pub(super) fn remove(tx: &mut Tx<'_>, version: u64) -> Result<(), Fault> {
    let (id, tenant): (Uuid, String) = tx
        .db
        .prepare_cached("SELECT id, tenant FROM jobs WHERE version = ?1")?
        .query_row([version], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let cited: Option<String> = tx
        .db
        .prepare_cached("SELECT result FROM jobs WHERE version = ?1")?
        .query_row([version], |row| row.get(0))?;
    if let Some(outcome) = cited.and_then(|text| serde_json::from_str::<Outcome>(&text).ok()) {
        for document in ending::cited(outcome.output.as_ref()) {
            tx.db
                .prepare_cached("DELETE FROM cited WHERE document = ?1 AND job = ?2")?
                .execute(params![document, version])?;
        }
    }
    for sql in [
        "DELETE FROM events WHERE job = ?1",
        "DELETE FROM dead_letters WHERE job = ?1",
        "DELETE FROM jobs WHERE version = ?1",
    ] {
        tx.db.prepare_cached(sql)?.execute([version])?;
    }
    remember(tx, id, &tenant)
}

/// Removes a job whose time is over, and with its last job the conversation: one that holds nothing
/// would stay for ever.
pub(super) fn expire(tx: &mut Tx<'_>, version: u64) -> Result<(), Fault> {
    let (conversation, tenant): (Option<Uuid>, String) = tx
        .db
        .prepare_cached("SELECT conversation, tenant FROM jobs WHERE version = ?1")?
        .query_row([version], |row| Ok((row.get(0)?, row.get(1)?)))?;
    remove(tx, version)?;
    let Some(id) = conversation else { return Ok(()) };
    let goes_on = tx.db.prepare_cached("SELECT 1 FROM jobs WHERE conversation = ?1")?.exists([id])?;
    if !goes_on {
        tx.db.prepare_cached("DELETE FROM conversations WHERE id = ?1")?.execute([id])?;
        remember(tx, id, &tenant)?;
    }
    Ok(())
}

pub(super) fn delete_conversation(
    tx: &mut Tx<'_>,
    tenant: &TenantId,
    id: ConversationId,
) -> Result<bool, Fault> {
    let known = tx
        .db
        .prepare_cached("SELECT 1 FROM conversations WHERE id = ?1 AND tenant = ?2")?
        .exists(params![id.uuid(), tenant.as_str()])?;
    if !known {
        return Ok(false);
    }
    if !tx.state.open_jobs(id).is_empty() {
        return Err(StoreError::Open.into());
    }
    let jobs: Vec<u64> = tx
        .db
        .prepare_cached("SELECT version FROM jobs WHERE conversation = ?1")?
        .query_map([id.uuid()], |row| row.get(0))?
        .collect::<rusqlite::Result<_>>()?;
    for version in jobs {
        remove(tx, version)?;
    }
    tx.db.prepare_cached("DELETE FROM conversations WHERE id = ?1")?.execute([id.uuid()])?;
    remember(tx, id.uuid(), tenant.as_str())?;
    Ok(true)
}

fn remember(tx: &Tx<'_>, id: Uuid, tenant: &str) -> Result<(), Fault> {
    tx.db
        .prepare_cached("INSERT OR REPLACE INTO gone (id, tenant, at) VALUES (?1, ?2, ?3)")?
        .execute(params![id, tenant, tx.now.as_millis()])?;
    Ok(())
}
