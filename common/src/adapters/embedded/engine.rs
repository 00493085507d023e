//! The way to the one thread that writes: operations queue up for it and hear their outcome.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::thread::JoinHandle;

use rusqlite::{Connection, ErrorCode};
use tokio::sync::{Semaphore, oneshot};

use crate::model::Timestamp;
use crate::ports::StoreError;

use super::hub::AfterCommit;
use super::store::State;
use super::writer::Writer;

/// Operations that may wait for the writer.
const QUEUE: usize = 1024;

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
pub(super) type Operation = Box<dyn FnOnce(&mut Tx<'_>) -> Option<Answer> + Send>;
pub(super) type Answer = Box<dyn FnOnce(Result<(), StoreError>) + Send>;

/// What an operation needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Need {
    /// It takes new work in: refused first when the disk is nearly full, so that accepted work can finish.
    Room,
    /// It finishes accepted work: goes on until the last byte, with the reserve.
    Always,
    /// The same, answered when a crash of the process cannot take it back; a power cut can until the next
    /// sync, and until then no reader sees it. For what only this process acts on.
    SyncLater,
    /// It touches only memory, and cannot fail.
    Memory,
}

pub(super) struct Engine {
    operations: Option<SyncSender<(Need, Operation)>>,
    /// Places left in the queue.
    places: Arc<Semaphore>,
    unsynced: Arc<AtomicBool>,
    thread: Option<JoinHandle<()>>,
}

impl Engine {
    /// Starts the writer.
    pub(super) fn start(writer: Writer) -> Self {
        let (operations, queue) = sync_channel(QUEUE);
        let places = Arc::new(Semaphore::new(QUEUE));
        let (unsynced, free) = (writer.unsynced(), Arc::clone(&places));
        let thread = std::thread::Builder::new()
            .name("store-writer".to_owned())
            .spawn(move || writer.run(&queue, &free))
            .expect("a process that cannot start one thread cannot serve");
        Self { operations: Some(operations), places, unsynced, thread: Some(thread) }
    }

    /// Whether the file holds what a power cut could still take back: [`Self::run`] anything to have it synced.
    pub(super) fn has_unsynced(&self) -> bool {
        self.unsynced.load(Ordering::Acquire)
    }

    /// Runs `operation` in the next transaction; when it returns `Ok` it is as durable as it needs. May be
    /// dropped: the operation then happens whole or not at all.
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
        // A place is the writer's to give back, when it has taken the operation.
        self.places.acquire().await.map_err(|_| closed())?.forget();
        operations.try_send((need, boxed)).map_err(|_| closed())?;
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
