//! One thread writes: operations queue up, run in one transaction, and are answered together after
//! one sync (group commit). While a sync is under way the next operations gather, so a quiet system
//! adds no delay and a busy one batches by itself.

use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ErrorCode, ffi};
use tokio::sync::{mpsc, oneshot};

use crate::crash;
use crate::model::Timestamp;
use crate::ports::StoreError;
use crate::telemetry;

use super::clock::Clock;
use super::hub::{AfterCommit, Hub};
use super::reserve::Reserve;
use super::schema;
use super::store::State;

/// Operations in one transaction at most: more only delays the first of them.
const MAX_BATCH: usize = 256;
/// Operations that may wait for the writer.
const QUEUE: usize = 1024;
/// A checkpoint begins when the log has grown by this much; the log is then used from its start again.
const CHECKPOINT_BYTES: u64 = 4 << 20;
/// Past this the writer itself waits for the checkpoint, so that the log stays bounded.
const MAX_WAL_BYTES: u64 = 256 << 20;

/// What an operation works on: the open transaction, the live jobs in memory, the store's time.
pub(super) struct Tx<'a> {
    pub(super) db: &'a Connection,
    pub(super) state: &'a mut State,
    pub(super) after: &'a mut AfterCommit,
    pub(super) now: Timestamp,
    /// New work may be taken in.
    pub(super) room: bool,
}

/// Ran inside the transaction; what it returns runs after the commit, with its outcome.
type Operation = Box<dyn FnOnce(&mut Tx<'_>) -> Option<Answer> + Send>;
type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// Whether an operation is refused when the disk is nearly full.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Need {
    /// It takes new work in: refused first, so that accepted work can finish.
    Room,
    /// It finishes accepted work: goes on until the last byte, with the reserve.
    Always,
    /// It touches only memory, and cannot fail.
    Memory,
}

pub(super) struct Engine {
    operations: Option<mpsc::Sender<(Need, Operation)>>,
    thread: Option<JoinHandle<()>>,
}

impl Engine {
    /// Starts the writer on an open database.
    pub(super) fn start(
        db: Connection,
        file: PathBuf,
        state: State,
        clock: Clock,
        hub: std::sync::Arc<Hub>,
        reserve: Reserve,
    ) -> Self {
        let (operations, queue) = mpsc::channel(QUEUE);
        let writer = Writer { db, file, state, clock, hub, reserve, since_checkpoint: Instant::now() };
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run(queue))
            .expect("a process that cannot start one thread cannot serve");
        Self { operations: Some(operations), thread: Some(thread) }
    }

    /// Runs `operation` in the next transaction; durable when it returns `Ok`. May be dropped: the
    /// operation then happens whole or not at all.
    pub(super) async fn run<T: Send + 'static>(
        &self,
        need: Need,
        operation: impl FnOnce(&mut Tx<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        let (answer, answered) = oneshot::channel();
        let boxed: Operation = Box::new(move |tx| match operation(tx) {
            Ok(value) => Some(Box::new(move |committed| {
                // An error means nobody waits any more.
                let _ = answer.send(committed.map(|()| value));
            })),
            Err(Fault::Refused(err)) => {
                let _ = answer.send(Err(err));
                Some(Box::new(|_| {}))
            }
            Err(Fault::Database(err)) => {
                tx.after.fail(store_error(&err));
                let _ = answer.send(Err(store_error(&err)));
                None
            }
        });
        let closed = || StoreError::Unreachable("the store is shut down".to_owned());
        let operations = self.operations.as_ref().ok_or_else(closed)?;
        operations.send((need, boxed)).await.map_err(|_| closed())?;
        answered
            .await
            .unwrap_or_else(|_| Err(StoreError::Unreachable("the write was rolled back".to_owned())))
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        self.operations = None;
        if let Some(thread) = self.thread.take() {
            // A panic in the writer has been reported by its own thread.
            let _ = thread.join();
        }
    }
}

/// Why an operation did not happen.
pub(super) enum Fault {
    /// By its own decision: it has written nothing.
    Refused(StoreError),
    /// The database failed: the whole transaction is rolled back.
    Database(rusqlite::Error),
}

impl From<rusqlite::Error> for Fault {
    fn from(err: rusqlite::Error) -> Self {
        Self::Database(err)
    }
}

impl From<StoreError> for Fault {
    fn from(err: StoreError) -> Self {
        Self::Refused(err)
    }
}

/// What a database error means to a caller.
pub(super) fn store_error(err: &rusqlite::Error) -> StoreError {
    match err.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => StoreError::Damaged(err.to_string()),
        _ => StoreError::Unreachable(err.to_string()),
    }
}

struct Writer {
    db: Connection,
    file: PathBuf,
    state: State,
    clock: Clock,
    hub: std::sync::Arc<Hub>,
    reserve: Reserve,
    since_checkpoint: Instant,
}

impl Writer {
    fn run(mut self, mut queue: mpsc::Receiver<(Need, Operation)>) {
        let (wanted, checkpointer) = start_checkpointer(&self.file);
        let mut batch = Vec::with_capacity(MAX_BATCH);
        while let Some(first) = queue.blocking_recv() {
            batch.push(first);
            while batch.len() < MAX_BATCH
                && let Ok(next) = queue.try_recv()
            {
                batch.push(next);
            }
            self.commit(&mut batch);
            self.checkpoint(&wanted);
        }
        drop(wanted);
        // The checkpointer ends with its channel; a panic there has been reported.
        let _ = checkpointer.join();
        let _ = self.db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
    }

    fn commit(&mut self, batch: &mut Vec<(Need, Operation)>) {
        let started = Instant::now();
        metrics::histogram!(telemetry::STORE_BATCH).record(batch.len() as f64);
        let mut after = AfterCommit::default();
        let mut answers = Vec::with_capacity(batch.len());
        let room = self.reserve.has_room();
        let now = self.clock.now();
        // Leases, presence and hints live in memory: without a write there is nothing to make durable.
        let writes = batch.iter().any(|(need, _)| *need != Need::Memory);
        if writes && let Err(err) = execute(&self.db, "BEGIN IMMEDIATE") {
            tracing::error!(error = %err, "store cannot begin a transaction");
            batch.clear();
            return;
        }
        for (need, operation) in batch.drain(..) {
            let room = room || need != Need::Room;
            let mut tx = Tx { db: &self.db, state: &mut self.state, after: &mut after, now, room };
            if let Some(answer) = operation(&mut tx) {
                answers.push(answer);
            }
            if after.failure().is_some() {
                break;
            }
        }
        crash::point("commit.before_sync");
        let outcome = match after.failure() {
            Some(err) => Err(err),
            None if !writes => Ok(()),
            None => execute(&self.db, "COMMIT").map_err(|err| {
                abort_if_unsynced(&err);
                store_error(&err)
            }),
        };
        metrics::histogram!(telemetry::STORE_COMMIT).record(started.elapsed().as_secs_f64());
        match &outcome {
            Ok(()) => {
                self.hub.publish(after);
                self.hub.due_at(self.state.next_due(), self.clock.now());
            }
            Err(err) => self.roll_back(err),
        }
        for answer in answers {
            answer(outcome.clone());
        }
    }

    /// Memory is made equal to the disk again; callers hear of the error and repeat what they must.
    fn roll_back(&mut self, err: &StoreError) {
        tracing::warn!(error = %err, "store rolled a transaction back");
        if !self.db.is_autocommit()
            && let Err(err) = self.db.execute_batch("ROLLBACK")
        {
            abort_if_unsynced(&err);
        }
        if matches!(err, StoreError::Full) {
            self.reserve.spend();
        }
        match State::load(&self.db) {
            Ok(fresh) => self.state = fresh.with_leases_of(&self.state),
            Err(err) => {
                // Going on would serve a memory that is not the disk.
                tracing::error!(error = %err, "store cannot be read back after a rollback: aborting");
                std::process::abort();
            }
        }
        self.hub.due_at(self.state.next_due(), self.clock.now());
    }

    fn checkpoint(&mut self, wanted: &SyncSender<()>) {
        if self.since_checkpoint.elapsed() < Duration::from_millis(50) {
            return;
        }
        self.since_checkpoint = Instant::now();
        let bytes = std::fs::metadata(wal_path(&self.file)).map_or(0, |meta| meta.len());
        if bytes > MAX_WAL_BYTES {
            if let Err(err) = self.db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)") {
                abort_if_unsynced(&err);
            }
        } else if bytes > CHECKPOINT_BYTES {
            // A full channel means one is wanted already.
            let _ = wanted.try_send(());
        }
    }
}

/// Runs a statement that is prepared once.
fn execute(db: &Connection, statement: &str) -> rusqlite::Result<()> {
    db.prepare_cached(statement)?.execute([]).map(|_| ())
}

/// The disk did not take what it said it took: nothing this process knows is sure any more.
pub(super) fn abort_if_unsynced(err: &rusqlite::Error) {
    if let rusqlite::Error::SqliteFailure(code, _) = err
        && matches!(
            code.extended_code,
            ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC | ffi::SQLITE_IOERR_WRITE
        )
    {
        tracing::error!(error = %err, "disk did not sync: aborting, a restart reads what is really there");
        std::process::abort();
    }
}

/// Copies the log into the database file beside the writer, on a connection of its own.
fn start_checkpointer(file: &Path) -> (SyncSender<()>, JoinHandle<()>) {
    let (wanted, requests): (_, Receiver<()>) = sync_channel(1);
    let file = file.to_owned();
    let thread = std::thread::Builder::new()
        .name("store-checkpoint".to_owned())
        .spawn(move || {
            let Ok(db) = Connection::open(&file) else { return };
            if db.execute_batch(schema::PRAGMAS).is_err() {
                return;
            }
            while requests.recv().is_ok() {
                if let Err(err) = db.execute_batch("PRAGMA wal_checkpoint(PASSIVE)") {
                    abort_if_unsynced(&err);
                    tracing::warn!(error = %err, "checkpoint failed");
                }
            }
        })
        .expect("a process that cannot start one thread cannot serve");
    (wanted, thread)
}

/// The write-ahead log of a database file.
pub(super) fn wal_path(file: &Path) -> PathBuf {
    let mut name = file.as_os_str().to_owned();
    name.push("-wal");
    name.into()
}
