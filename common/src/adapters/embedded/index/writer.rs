//! The one thread that writes. What waits together is committed together.

mod rows;

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use tantivy::indexer::{IndexWriterOptions, LogMergePolicy};
use tantivy::{Index, IndexWriter, TantivyDocument};
use tokio::sync::{mpsc, oneshot};

use super::manifest::Manifest;
use super::prepare::Prepared;
use super::schema::{FIELDS, ROW, field, key_term};
use super::snapshot::{Fence, Snapshots};
use super::vectors::Vectors;
use super::{closed, index_error, io_error};
use crate::ports::{IndexError, Write, Writer};
use crate::search::Key;
use rows::FreeRows;

/// Commands that may wait for the writer; each carries the documents of one call.
const QUEUE: usize = 64;
/// Passages in one commit at most, unless one command has more: they wait in memory.
const MAX_BATCH_PASSAGES: usize = 4096;
/// Memory of the segment under construction, in bytes; tantivy's minimum is 15 MB.
const WRITER_BYTES: usize = 20_000_000;

pub(super) enum Command {
    Upsert { documents: Vec<Prepared>, answer: oneshot::Sender<Result<Vec<Write>, IndexError>> },
    Delete { scope: Key, name: Key, writer: Writer, answer: oneshot::Sender<Result<Write, IndexError>> },
    DeleteCollection { scope: Key, writer: Writer, answer: oneshot::Sender<Result<(), IndexError>> },
    Close { answer: oneshot::Sender<()> },
}

impl Command {
    fn passages(&self) -> usize {
        match self {
            Self::Upsert { documents, .. } => documents.iter().map(|document| document.passages.len()).sum(),
            _ => 0,
        }
    }
}

pub(super) struct WriterThread {
    commands: Option<mpsc::Sender<Command>>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl WriterThread {
    pub(super) fn start(
        index: Index,
        folder: PathBuf,
        manifest: Arc<Manifest>,
        snapshots: Arc<Snapshots>,
        vectors: Arc<Vectors>,
    ) -> Self {
        let (commands, queue) = mpsc::channel(QUEUE);
        let worker = Worker {
            index,
            folder,
            manifest,
            snapshots,
            vectors,
            writer: None,
            free_rows: None,
            batch: Batch::default(),
        };
        let thread = std::thread::Builder::new()
            .name("index-writer".to_owned())
            .spawn(move || worker.run(queue))
            .expect("a process that cannot start one thread cannot serve");
        Self { commands: Some(commands), thread: Mutex::new(Some(thread)) }
    }

    pub(super) async fn send(&self, command: Command) -> Result<(), IndexError> {
        let commands = self.commands.as_ref().ok_or_else(closed)?;
        commands.send(command).await.map_err(|_| closed())
    }

    pub(super) fn is_alive(&self) -> bool {
        self.commands.as_ref().is_some_and(|commands| !commands.is_closed())
    }
}

impl Drop for WriterThread {
    fn drop(&mut self) {
        self.commands = None;
        let thread = self.thread.get_mut().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(thread) = thread {
            // A panic in the writer has been reported by its own thread.
            let _ = thread.join();
        }
    }
}

/// What a batch has changed so far and its commit will make true.
#[derive(Default)]
struct Batch {
    /// Fences written, each with the collection of its name; none for the fence of a collection.
    fences: HashMap<[u8; 32], (Option<Key>, Writer)>,
    /// Rows given to passages of names.
    rows: HashMap<[u8; 32], Vec<u64>>,
    /// Rows whose passages go with this commit.
    freed: Vec<u64>,
}

struct Worker {
    index: Index,
    folder: PathBuf,
    manifest: Arc<Manifest>,
    snapshots: Arc<Snapshots>,
    vectors: Arc<Vectors>,
    /// Opened by the first write, so that an index that is only read costs no memory for writing.
    writer: Option<IndexWriter>,
    /// Found by the first vector written.
    free_rows: Option<FreeRows>,
    batch: Batch,
}

type Answer = Box<dyn FnOnce(Result<(), IndexError>)>;

impl Worker {
    fn run(mut self, mut queue: mpsc::Receiver<Command>) {
        while let Some(first) = queue.blocking_recv() {
            let mut passages = first.passages();
            let mut commands = vec![first];
            while passages < MAX_BATCH_PASSAGES
                && let Ok(next) = queue.try_recv()
            {
                passages += next.passages();
                commands.push(next);
            }
            if let Some(answer) = self.commit(commands) {
                queue.close();
                self.writer = None;
                // Nobody waits any more: nothing to tell.
                let _ = answer.send(());
                return;
            }
        }
    }

    /// Does what the commands ask, in one commit, and answers; returns who asked to close.
    fn commit(&mut self, commands: Vec<Command>) -> Option<oneshot::Sender<()>> {
        let mut answers: Vec<Answer> = Vec::new();
        let mut close = None;
        let mut failed = None;
        for command in commands {
            match self.apply(command, &mut close) {
                Ok(answer) => answers.extend(answer),
                Err((err, answer)) => {
                    failed.get_or_insert_with(|| err.clone());
                    answers.push(answer);
                }
            }
        }
        let outcome = match failed {
            Some(err) => Err(err),
            None => self.finish(),
        };
        if let Err(err) = &outcome {
            tracing::warn!(error = %err, "index rolled a commit back");
            // What is known of the disk is read again by the next write.
            self.free_rows = None;
            if let Some(mut writer) = self.writer.take()
                && writer.rollback().is_ok()
            {
                self.writer = Some(writer);
            }
        }
        self.batch = Batch::default();
        for answer in answers {
            answer(outcome.clone());
        }
        close
    }

    /// Durable, and what searches see, when it returns.
    fn finish(&mut self) -> Result<(), IndexError> {
        let batch = std::mem::take(&mut self.batch);
        if batch.fences.is_empty() {
            return Ok(());
        }
        if !batch.rows.is_empty() {
            self.vectors.sync().map_err(|err| io_error(&err))?;
        }
        let committed = self.writer()?.commit().map_err(|err| self.full_or(index_error(&err)))?;
        self.snapshots.reload().map_err(|err| index_error(&err))?;
        tracing::trace!(opstamp = committed, "index committed");
        if let Some(rows) = &mut self.free_rows {
            rows.free.extend(batch.freed);
        }
        Ok(())
    }

    /// The answer to give after the commit. An error undoes the whole batch; a refusal is an answer.
    fn apply(
        &mut self,
        command: Command,
        close: &mut Option<oneshot::Sender<()>>,
    ) -> Result<Option<Answer>, (IndexError, Answer)> {
        match command {
            Command::Upsert { documents, answer } => {
                if let Err(refused) = self.check_dimensions(&documents) {
                    // Nobody waits any more: nothing to tell.
                    let _ = answer.send(Err(refused));
                    return Ok(None);
                }
                let written: Result<Vec<Write>, IndexError> =
                    documents.into_iter().map(|document| self.upsert(document)).collect();
                when_committed(written, answer)
            }
            Command::Delete { scope, name, writer, answer } => {
                let prepared = Prepared { scope, name, writer, passages: Vec::new() };
                when_committed(self.upsert(prepared), answer)
            }
            Command::DeleteCollection { scope, writer, answer } => {
                when_committed(self.delete_collection(scope, writer), answer)
            }
            Command::Close { answer } => {
                *close = Some(answer);
                Ok(None)
            }
        }
    }

    /// Replaces the passages of a name, by none when it is deleted.
    fn upsert(&mut self, document: Prepared) -> Result<Write, IndexError> {
        let Prepared { scope, name, writer: by, passages } = document;
        let newest = self.fence(name)?.max(self.fence(scope)?);
        if newest.is_some_and(|newest| by < newest) {
            return Ok(Write::Stale);
        }
        self.remove(name)?;
        for (mut doc, vector) in passages {
            if let Some(vector) = vector {
                let row = self.row(name)?;
                self.vectors.write(row, &vector).map_err(|err| io_error(&err))?;
                doc.add_u64(field(ROW), row);
            }
            self.add(doc)?;
        }
        self.set_fence(name, Some(scope), by)?;
        Ok(Write::Written)
    }

    fn delete_collection(&mut self, scope: Key, by: Writer) -> Result<(), IndexError> {
        if self.fence(scope)?.is_some_and(|newest| by < newest) {
            return Ok(());
        }
        let snapshot = self.snapshots.latest();
        let stored =
            snapshot.with_term(key_term(scope, FIELDS.fence_scope)).map_err(|err| index_error(&err))?;
        let mut older: Vec<[u8; 32]> = Vec::new();
        for at in stored {
            let fence = snapshot.fence(at).map_err(|err| index_error(&err))?;
            older.extend(fence.filter(|fence| fence.writer < by).map(|fence| fence.key));
        }
        // What this batch wrote is newer than what is stored.
        older.retain(|key| self.batch.fences.get(key).is_none_or(|(_, writer)| *writer < by));
        for (key, (of, writer)) in &self.batch.fences {
            if *of == Some(scope) && *writer < by {
                older.push(*key);
            }
        }
        for key in older {
            let name = Key::from_bytes(key);
            self.remove(name)?;
            // The fence of the collection takes over.
            self.writer()?.delete_term(key_term(name, FIELDS.fence));
        }
        self.set_fence(scope, None, by)
    }

    /// The newest writer of a name or collection.
    fn fence(&self, key: Key) -> Result<Option<Writer>, IndexError> {
        if let Some((_, writer)) = self.batch.fences.get(key.bytes()) {
            return Ok(Some(*writer));
        }
        let snapshot = self.snapshots.latest();
        let stored = || {
            let found = snapshot.with_term(key_term(key, FIELDS.fence))?;
            found.first().map_or(Ok(None), |at| snapshot.fence(*at))
        };
        Ok(stored().map_err(|err| index_error(&err))?.map(|fence| fence.writer))
    }

    fn set_fence(&mut self, key: Key, scope: Option<Key>, writer: Writer) -> Result<(), IndexError> {
        self.writer()?.delete_term(key_term(key, FIELDS.fence));
        let mut doc = TantivyDocument::default();
        doc.add_bytes(FIELDS.fence, key.bytes());
        if let Some(scope) = scope {
            doc.add_bytes(FIELDS.fence_scope, scope.bytes());
        }
        let guarded = *key.bytes();
        doc.add_bytes(FIELDS.stored, &Fence { key: guarded, writer }.bytes());
        self.add(doc)?;
        self.batch.fences.insert(guarded, (scope, writer));
        Ok(())
    }

    /// Removes the passages of a name.
    fn remove(&mut self, name: Key) -> Result<(), IndexError> {
        self.writer()?.delete_term(key_term(name, FIELDS.name));
        self.batch.freed.extend(self.batch.rows.remove(name.bytes()).unwrap_or_default());
        if self.free_rows.is_some() {
            let snapshot = self.snapshots.latest();
            let rows = || snapshot.rows(&snapshot.with_term(key_term(name, FIELDS.name))?);
            self.batch.freed.extend(rows().map_err(|err| index_error(&err))?);
        }
        Ok(())
    }

    fn add(&mut self, doc: TantivyDocument) -> Result<(), IndexError> {
        let added = self.writer()?.add_document(doc);
        added.map(|_| ()).map_err(|err| self.full_or(index_error(&err)))
    }

    /// All vectors of an index have one length; the first tells it.
    fn check_dimensions(&mut self, documents: &[Prepared]) -> Result<(), IndexError> {
        let vectors = documents.iter().flat_map(|document| &document.passages);
        let mut expected = self.manifest.dimensions();
        for got in vectors.filter_map(|(_, vector)| Some(vector.as_ref()?.len())) {
            match expected {
                Some(expected) if expected != got => return Err(IndexError::Dimensions { got, expected }),
                Some(_) => {}
                None => {
                    self.manifest.set_dimensions(got).map_err(|err| io_error(&err))?;
                    expected = Some(got);
                }
            }
        }
        Ok(())
    }

    fn writer(&mut self) -> Result<&mut IndexWriter, IndexError> {
        if self.writer.is_none() {
            let options = IndexWriterOptions::builder()
                .memory_budget_per_thread(WRITER_BYTES)
                .num_worker_threads(1)
                .num_merge_threads(1)
                .build();
            let writer = self.index.writer_with_options(options).map_err(|err| index_error(&err))?;
            let mut merges = LogMergePolicy::default();
            // Replaced passages are read over by every search until they are merged away.
            merges.set_del_docs_ratio_before_merge(0.3);
            merges.set_min_layer_size(2_000);
            writer.set_merge_policy(Box::new(merges));
            self.writer = Some(writer);
        }
        Ok(self.writer.as_mut().expect("opened just above"))
    }

    /// tantivy's threads do not say why they ended: a disk without room is the likely cause.
    fn full_or(&self, err: IndexError) -> IndexError {
        let room = rustix::fs::statvfs(&self.folder).map(|disk| disk.f_bavail * disk.f_frsize);
        match room {
            Ok(bytes) if bytes < WRITER_BYTES as u64 => IndexError::Full,
            _ => err,
        }
    }
}

/// Turns what was done into the answer to give once it is committed.
fn when_committed<T: 'static>(
    done: Result<T, IndexError>,
    answer: oneshot::Sender<Result<T, IndexError>>,
) -> Result<Option<Answer>, (IndexError, Answer)> {
    // Whoever asked may have gone: nothing to tell then.
    match done {
        Ok(value) => Ok(Some(Box::new(move |committed| {
            let _ = answer.send(committed.map(|()| value));
        }))),
        Err(err) => Err((
            err,
            Box::new(move |failed| {
                let _ = answer.send(Err(failed.err().unwrap_or_else(closed)));
            }),
        )),
    }
}
