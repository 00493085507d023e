//! Reads beside the writer: they see what is committed, and so synced, and nothing else.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use async_trait::async_trait;
use rusqlite::{Connection, OpenFlags, OptionalExtension, params};

use crate::model::{ConversationId, DocumentId, Job, JobId, TenantId};
use crate::ports::{
    JobFilter, JobReader, LogPage, Lookup, Page, StoreError, Subscription, UsageBy, UsageRow,
};

use super::super::engine::store_error;
use super::{EmbeddedStore, record};

/// Idle connections kept; each holds a small page cache.
const KEEP: usize = 4;

/// Connections for reading, opened as they are needed.
pub(super) struct Readers {
    file: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl Readers {
    pub(super) fn new(file: &Path) -> Self {
        Self { file: file.to_owned(), idle: Mutex::default() }
    }

    /// Runs `read` on a connection, off the async threads.
    pub(super) async fn with<T: Send + 'static>(
        self: &Arc<Self>,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let readers = Arc::clone(self);
        let task = tokio::task::spawn_blocking(move || {
            let db = readers.take()?;
            let answer = read(&db);
            readers.put_back(db);
            answer
        });
        match task.await {
            Ok(answer) => answer.map_err(|err| store_error(&err)),
            Err(err) => Err(StoreError::Unreachable(err.to_string())),
        }
    }

    fn take(&self) -> rusqlite::Result<Connection> {
        if let Some(db) = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop() {
            return Ok(db);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(&self.file, flags)?;
        db.execute_batch("PRAGMA cache_size = -2048")?;
        db.set_prepared_statement_cache_capacity(32);
        Ok(db)
    }

    fn put_back(&self, db: Connection) {
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEEP {
            idle.push(db);
        }
    }
}

/// Whether an id that is not kept was there once.
pub(super) fn missing<T>(db: &Connection, tenant: &TenantId, id: uuid::Uuid) -> rusqlite::Result<Lookup<T>> {
    let gone = db
        .prepare_cached("SELECT 1 FROM gone WHERE id = ?1 AND tenant = ?2")?
        .exists(params![id, tenant.as_str()])?;
    Ok(if gone { Lookup::Gone } else { Lookup::Unknown })
}

#[async_trait]
impl JobReader for EmbeddedStore {
    async fn get(&self, tenant: &TenantId, job: JobId) -> Result<Lookup<Box<Job>>, StoreError> {
        let tenant = tenant.clone();
        self.read(move |db| {
            let sql = format!("SELECT {} FROM jobs WHERE id = ?1 AND tenant = ?2", record::JOB);
            let found = db
                .prepare_cached(&sql)?
                .query_row(params![job.uuid(), tenant.as_str()], record::job)
                .optional()?;
            match found {
                Some(job) => Ok(Lookup::Found(Box::new(job))),
                None => missing(db, &tenant, job.uuid()),
            }
        })
        .await
    }

    async fn list(&self, tenant: &TenantId, filter: &JobFilter) -> Result<Page<Job>, StoreError> {
        let (tenant, filter) = (tenant.clone(), filter.clone());
        self.read(move |db| {
            let sql = format!(
                "SELECT {} FROM jobs
                     WHERE tenant = ?1 AND (?2 IS NULL OR status = ?2)
                       AND (?3 IS NULL OR conversation = ?3)
                       AND (?4 IS NULL OR version < (SELECT version FROM jobs AS cursor WHERE cursor.id = ?4))
                     ORDER BY version DESC LIMIT ?5",
                record::JOB
            );
            let found: Vec<Job> = db
                .prepare_cached(&sql)?
                .query_map(
                    params![
                        tenant.as_str(),
                        filter.status.map(record::status_code),
                        filter.conversation.map(ConversationId::uuid),
                        filter.before.map(JobId::uuid),
                        filter.limit + 1
                    ],
                    record::job,
                )?
                .collect::<rusqlite::Result<_>>()?;
            Ok(Page::of(found, filter.limit, |last| last.spec.id.to_string()))
        })
        .await
    }

    async fn log(
        &self,
        tenant: &TenantId,
        job: JobId,
        after: u64,
        limit: usize,
    ) -> Result<Lookup<LogPage>, StoreError> {
        let tenant = tenant.clone();
        self.read(move |db| {
            // One transaction: the end of the log and its events belong together.
            let read = db.unchecked_transaction()?;
            let found: Option<(u64, bool, Option<u64>, bool)> = db
                .prepare_cached(
                    "SELECT version, finished_at IS NOT NULL, last_seq, trimmed FROM jobs
                         WHERE id = ?1 AND tenant = ?2",
                )?
                .query_row(params![job.uuid(), tenant.as_str()], |row| {
                    Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
                })
                .optional()?;
            let Some((version, sealed, last_seq, trimmed)) = found else {
                return missing(db, &tenant, job.uuid());
            };
            let last_seq = match last_seq {
                Some(last_seq) => last_seq,
                None => db
                    .prepare_cached("SELECT coalesce(max(seq), 0) FROM events WHERE job = ?1")?
                    .query_row([version], |row| row.get(0))?,
            };
            let events = db
                .prepare_cached(
                    "SELECT seq, attempt, at, kind, data, crc FROM events
                         WHERE job = ?1 AND seq > ?2 ORDER BY seq LIMIT ?3",
                )?
                .query_map(params![version, after.min(i64::MAX as u64), limit], |row| {
                    record::event(job, row).map(Arc::new)
                })?
                .collect::<rusqlite::Result<_>>()?;
            drop(read);
            let trimmed_to = if trimmed { last_seq } else { 0 };
            Ok(Lookup::Found(LogPage { events, last_seq, sealed, trimmed_to }))
        })
        .await
    }

    async fn subscribe(&self, tenant: &TenantId, job: JobId, after: u64) -> Result<Subscription, StoreError> {
        Ok(self.hub.subscribe(tenant, job, after))
    }

    async fn is_cited(&self, document: DocumentId) -> Result<bool, StoreError> {
        self.read(move |db| {
            db.prepare_cached("SELECT 1 FROM cited WHERE document = ?1 LIMIT 1")?.exists([document.uuid()])
        })
        .await
    }

    async fn usage(&self, tenant: Option<&TenantId>, by: UsageBy) -> Result<Vec<UsageRow>, StoreError> {
        let tenant = tenant.map(ToString::to_string);
        let key = match by {
            UsageBy::Day => "day",
            UsageBy::Tenant => "tenant",
            UsageBy::Model => "model",
        };
        self.read(move |db| {
            db.prepare_cached(&format!(
                "SELECT {key}, sum(calls), sum(input_tokens), sum(output_tokens), sum(nano_usd) FROM spending
                     WHERE ?1 IS NULL OR tenant = ?1 GROUP BY {key} ORDER BY {key}"
            ))?
            .query_map([tenant], |row| {
                Ok(UsageRow {
                    key: row.get(0)?,
                    calls: row.get(1)?,
                    input_tokens: row.get(2)?,
                    output_tokens: row.get(3)?,
                    nano_usd: row.get(4)?,
                })
            })?
            .collect()
        })
        .await
    }
}
