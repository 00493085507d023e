//! Full text and vectors in one folder.
//!
//! Words go through [`crate::text::analyze`] into tantivy (BM25); vectors stand beside it as rows of a
//! file and are scanned exactly. One thread writes: what waits for it is committed together, and
//! answered when a search would find it. The fence of each name is part of the same commit. The index
//! holds nothing that the documents do not: whenever it does not fit, it is built anew from them.

mod manifest;
mod prepare;
mod query;
mod rebuild;
mod schema;
mod search;
mod snapshot;
mod vectors;
mod writer;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use tantivy::TantivyError;
use tokio::sync::oneshot;

use crate::model::{CollectionName, Passage, TenantId};
use crate::ports::{Index, IndexDocument, IndexError, SearchQuery, Write, Writer};
use crate::search::{Key, Opened};

use manifest::Manifest;
use snapshot::Snapshots;
use vectors::Vectors;
use writer::{Command, WriterThread};

/// Search over passages, in one folder, for one process.
pub struct EmbeddedIndex {
    folder: PathBuf,
    manifest: Arc<Manifest>,
    snapshots: Arc<Snapshots>,
    vectors: Arc<Vectors>,
    writer: WriterThread,
}

impl EmbeddedIndex {
    /// Opens the index in `folder`. An index that is missing, damaged, unfinished, or made by another
    /// analysis or embedder is emptied, and needs a rebuild. Blocks.
    ///
    /// `embedder` names the configured model; vectors of another are never mixed with its own.
    pub fn open(folder: &Path, embedder: Option<String>) -> Result<(Self, Opened), IndexError> {
        std::fs::create_dir_all(folder).map_err(|err| io_error(&err))?;
        let whole = Manifest::read(folder, embedder.as_deref())
            .and_then(|manifest| Ok((manifest, snapshot::open(folder)?)));
        let (manifest, index, opened) = match whole {
            Ok((manifest, index)) => (manifest, index, Opened::Ready),
            Err(reason) => {
                empty(folder).map_err(|err| io_error(&err))?;
                let manifest = Manifest::create(folder, embedder).map_err(|err| io_error(&err))?;
                let index = snapshot::create(folder).map_err(|err| index_error(&err))?;
                (manifest, index, Opened::NeedsRebuild(reason))
            }
        };
        let manifest = Arc::new(manifest);
        let vectors = Arc::new(Vectors::new(folder));
        let snapshots = Arc::new(Snapshots::new(&index).map_err(|err| index_error(&err))?);
        let writer = WriterThread::start(
            index,
            folder.to_owned(),
            Arc::clone(&manifest),
            Arc::clone(&snapshots),
            Arc::clone(&vectors),
        );
        Ok((Self { folder: folder.to_owned(), manifest, snapshots, vectors, writer }, opened))
    }

    /// Ends the writing thread once everything asked before is done. Searches go on; writes fail.
    pub async fn close(&self) {
        let (answer, closed) = oneshot::channel();
        if self.writer.send(Command::Close { answer }).await.is_ok() {
            // An error means the thread has ended already.
            let _ = closed.await;
        }
    }

    async fn ask<T>(
        &self,
        command: impl FnOnce(oneshot::Sender<Result<T, IndexError>>) -> Command,
    ) -> Result<T, IndexError> {
        let (answer, answered) = oneshot::channel();
        self.writer.send(command(answer)).await?;
        answered.await.unwrap_or_else(|_| Err(closed()))
    }
}

#[async_trait]
impl Index for EmbeddedIndex {
    async fn upsert(
        &self,
        tenant: &TenantId,
        documents: Vec<IndexDocument>,
    ) -> Result<Vec<Write>, IndexError> {
        let tenant = tenant.clone();
        let prepare =
            move || documents.into_iter().map(|document| prepare::document(&tenant, document)).collect();
        let documents = tokio::task::spawn_blocking(prepare).await.map_err(|_| closed())?;
        self.ask(|answer| Command::Upsert { documents, answer }).await
    }

    async fn delete(
        &self,
        tenant: &TenantId,
        collection: &CollectionName,
        name: &str,
        writer: Writer,
    ) -> Result<Write, IndexError> {
        let scope = Key::scope(tenant, collection);
        let name = Key::name(tenant, collection, name);
        self.ask(|answer| Command::Delete { scope, name, writer, answer }).await
    }

    async fn delete_collection(
        &self,
        tenant: &TenantId,
        collection: &CollectionName,
        writer: Writer,
    ) -> Result<(), IndexError> {
        let scope = Key::scope(tenant, collection);
        self.ask(|answer| Command::DeleteCollection { scope, writer, answer }).await
    }

    async fn search(&self, tenant: &TenantId, query: &SearchQuery) -> Result<Vec<Passage>, IndexError> {
        if query.collections.is_empty() || query.limit == 0 {
            return Ok(Vec::new());
        }
        let (tenant, query) = (tenant.clone(), query.clone());
        let (snapshot, vectors) = (self.snapshots.latest(), Arc::clone(&self.vectors));
        let dimensions = self.manifest.dimensions();
        let search = move || search::search(&snapshot, &vectors, dimensions, &tenant, &query);
        match tokio::task::spawn_blocking(search).await {
            Ok(found) => found,
            // tantivy panics on some damage.
            Err(err) => Err(IndexError::Damaged(err.to_string())),
        }
    }

    async fn ready(&self) -> Result<(), IndexError> {
        if !self.manifest.is_complete() {
            return Err(IndexError::Unreachable("it is being built anew".to_owned()));
        }
        if self.writer.is_alive() { Ok(()) } else { Err(closed()) }
    }
}

fn closed() -> IndexError {
    IndexError::Unreachable("its writer has ended".to_owned())
}

fn io_error(err: &std::io::Error) -> IndexError {
    match err.kind() {
        std::io::ErrorKind::StorageFull => IndexError::Full,
        _ => IndexError::Unreachable(err.to_string()),
    }
}

/// What a tantivy error means to a caller.
fn index_error(err: &TantivyError) -> IndexError {
    match err {
        TantivyError::IoError(io) => io_error(io),
        TantivyError::DataCorruption(_)
        | TantivyError::DeserializeError(_)
        | TantivyError::OpenReadError(_)
        | TantivyError::IncompatibleIndex(_) => IndexError::Damaged(err.to_string()),
        // Its threads hand errors on as text.
        _ if err.to_string().contains("os error 28") => IndexError::Full,
        _ => IndexError::Unreachable(err.to_string()),
    }
}

/// Removes everything in the folder.
fn empty(folder: &Path) -> std::io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            std::fs::remove_dir_all(entry.path())?;
        } else {
            std::fs::remove_file(entry.path())?;
        }
    }
    Ok(())
}
