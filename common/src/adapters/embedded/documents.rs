//! `documents.db`: uploads, canonical texts, collections, and the fence of each document name.
//!
//! One connection writes, in WAL mode with a sync per transaction; others read beside it. Work runs on
//! threads for blocking calls, so a dropped future leaves a write that happens whole all the same.

mod read;
mod schema;
mod write;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use bytes::Bytes;
use rusqlite::backup::Backup;
use rusqlite::{Connection, ErrorCode};

use crate::model::{CollectionName, Document, DocumentId, TenantId, Timestamp, UploadId};
use crate::ports::{DocumentLookup, Documents, DocumentsError, NewDocument, Page, Write};

use super::folder::OpenError;
use super::writer::abort_if_unsynced;

/// Connections that read: more than the threads that can usefully wait for one disk gain nothing.
const READERS: usize = 2;

/// Documents in one SQLite file.
pub struct EmbeddedDocuments {
    db: Arc<Connections>,
}

struct Connections {
    writer: Mutex<Connection>,
    readers: [Mutex<Connection>; READERS],
}

impl EmbeddedDocuments {
    /// Opens the documents in `folder`, and makes them when they are not there. Blocks.
    pub fn open(folder: &Path) -> Result<Self, OpenError> {
        let writer = schema::open(folder)?;
        let reader = || schema::open_reader(folder).map(Mutex::new);
        let db = Connections { writer: Mutex::new(writer), readers: [reader()?, reader()?] };
        Ok(Self { db: Arc::new(db) })
    }

    /// Copies everything, as of one moment, into the new database file `target`, while others read and
    /// write. Blocks. What a failed copy leaves behind is of no use.
    pub fn backup_to(&self, target: &Path) -> Result<(), DocumentsError> {
        let copy = || {
            let mut target = Connection::open(target)?;
            let source = self.db.reader();
            Backup::new(&source, &mut target)?.run_to_completion(256, Duration::ZERO, None)
        };
        copy().map_err(|err| documents_error(&err))
    }

    async fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&mut Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, DocumentsError> {
        let db = Arc::clone(&self.db);
        blocking(move || {
            let mut writer = db.writer.lock().unwrap_or_else(PoisonError::into_inner);
            let done = work(&mut writer);
            if let Err(Fault::Database(err)) = &done {
                abort_if_unsynced(err);
            }
            done
        })
        .await
    }

    async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, DocumentsError> {
        let db = Arc::clone(&self.db);
        blocking(move || work(&db.reader())).await
    }
}

impl Connections {
    /// A free reader, or the first to become so.
    fn reader(&self) -> std::sync::MutexGuard<'_, Connection> {
        let free = self.readers.iter().find_map(|reader| reader.try_lock().ok());
        free.unwrap_or_else(|| self.readers[0].lock().unwrap_or_else(PoisonError::into_inner))
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Fault> + Send + 'static,
) -> Result<T, DocumentsError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(done) => done.map_err(DocumentsError::from),
        Err(err) => Err(DocumentsError::Unreachable(err.to_string())),
    }
}

/// Why an operation did not happen.
enum Fault {
    Database(rusqlite::Error),
    /// What is stored is not what was written; says of what.
    Damaged(String),
}

impl From<rusqlite::Error> for Fault {
    fn from(err: rusqlite::Error) -> Self {
        Self::Database(err)
    }
}

impl From<Fault> for DocumentsError {
    fn from(fault: Fault) -> Self {
        match fault {
            Fault::Database(err) => documents_error(&err),
            Fault::Damaged(what) => Self::Damaged(what),
        }
    }
}

fn documents_error(err: &rusqlite::Error) -> DocumentsError {
    match err.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => DocumentsError::Full,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            DocumentsError::Damaged(format!("documents.db: {err}"))
        }
        _ => DocumentsError::Unreachable(err.to_string()),
    }
}

#[async_trait]
impl Documents for EmbeddedDocuments {
    async fn put_upload(&self, tenant: &TenantId, id: UploadId, bytes: Bytes) -> Result<(), DocumentsError> {
        let tenant = tenant.clone();
        self.write(move |db| write::put_upload(db, &tenant, id, &bytes)).await
    }

    async fn upload(&self, tenant: &TenantId, id: UploadId) -> Result<Option<Bytes>, DocumentsError> {
        let tenant = tenant.clone();
        self.read(move |db| read::upload(db, &tenant, id)).await
    }

    async fn drop_upload(&self, tenant: &TenantId, id: UploadId) -> Result<(), DocumentsError> {
        let tenant = tenant.clone();
        self.write(move |db| write::drop_upload(db, &tenant, id)).await
    }

    async fn drop_uploads_before(&self, before: Timestamp) -> Result<u64, DocumentsError> {
        self.write(move |db| write::drop_uploads_before(db, before)).await
    }

    async fn create_collection(
        &self,
        tenant: &TenantId,
        name: &CollectionName,
    ) -> Result<bool, DocumentsError> {
        let (tenant, name) = (tenant.clone(), name.clone());
        self.write(move |db| write::create_collection(db, &tenant, &name)).await
    }

    async fn collections(&self, tenant: &TenantId) -> Result<Vec<(CollectionName, u64)>, DocumentsError> {
        let tenant = tenant.clone();
        self.read(move |db| read::collections(db, &tenant)).await
    }

    async fn delete_collection(
        &self,
        tenant: &TenantId,
        name: &CollectionName,
        version: u64,
    ) -> Result<bool, DocumentsError> {
        let (tenant, name) = (tenant.clone(), name.clone());
        self.write(move |db| write::delete_collection(db, &tenant, &name, version)).await
    }

    async fn put(&self, tenant: &TenantId, document: NewDocument) -> Result<Write, DocumentsError> {
        let tenant = tenant.clone();
        self.write(move |db| write::put(db, &tenant, &document)).await
    }

    async fn list(
        &self,
        tenant: &TenantId,
        collection: &CollectionName,
        limit: usize,
        after: Option<&str>,
    ) -> Result<Option<Page<Document>>, DocumentsError> {
        let (tenant, collection, after) = (tenant.clone(), collection.clone(), after.map(str::to_owned));
        self.read(move |db| read::list(db, &tenant, &collection, limit, after.as_deref())).await
    }

    async fn get(
        &self,
        tenant: &TenantId,
        collection: &CollectionName,
        id: DocumentId,
    ) -> Result<DocumentLookup<Document>, DocumentsError> {
        let (tenant, collection) = (tenant.clone(), collection.clone());
        self.read(move |db| read::get(db, &tenant, &collection, id)).await
    }

    async fn text(
        &self,
        tenant: &TenantId,
        collection: &CollectionName,
        id: DocumentId,
    ) -> Result<DocumentLookup<String>, DocumentsError> {
        let (tenant, collection) = (tenant.clone(), collection.clone());
        self.read(move |db| read::text(db, &tenant, &collection, id)).await
    }

    async fn delete(
        &self,
        tenant: &TenantId,
        collection: &CollectionName,
        id: DocumentId,
        version: u64,
    ) -> Result<DocumentLookup<Document>, DocumentsError> {
        let (tenant, collection) = (tenant.clone(), collection.clone());
        self.write(move |db| write::delete(db, &tenant, &collection, id, version)).await
    }

    async fn replaced(&self, limit: usize) -> Result<Vec<(TenantId, DocumentId)>, DocumentsError> {
        self.read(move |db| read::replaced(db, limit)).await
    }

    async fn forget(&self, tenant: &TenantId, id: DocumentId) -> Result<(), DocumentsError> {
        let tenant = tenant.clone();
        self.write(move |db| write::forget(db, &tenant, id)).await
    }

    async fn export(
        &self,
        after: Option<DocumentId>,
        limit: usize,
    ) -> Result<Vec<(TenantId, NewDocument)>, DocumentsError> {
        self.read(move |db| read::export(db, after, limit)).await
    }

    async fn ready(&self) -> Result<(), DocumentsError> {
        self.write(|db| Ok(db.execute_batch("BEGIN IMMEDIATE; ROLLBACK")?)).await?;
        self.read(|db| Ok(db.query_row("SELECT 1", (), |_| Ok(()))?)).await
    }
}
