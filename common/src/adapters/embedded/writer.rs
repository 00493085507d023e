//! The one thread that writes: what is queued runs in one transaction and is answered together after one
//! sync (group commit). While a sync is under way the next operations gather, so a quiet system adds no
//! delay and a busy one batches by itself.

use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use rusqlite::{Connection, ffi};
use tokio::sync::Semaphore;

use crate::crash;
use crate::ports::StoreError;
use crate::telemetry;

use super::clock::Clock;
use super::engine::{Need, Operation, Tx, store_error};
use super::hub::{AfterCommit, Hub};
use super::reserve::Reserve;
use super::schema;
use super::store::State;

/// Operations in one transaction at most: more only delays the first of them.
const MAX_BATCH: usize = 256;
/// How long a commit whose sync may come later waits for the sync of another.
const SYNC_LATER: Duration = Duration::from_millis(2);
/// A checkpoint begins when the log has grown by this much; the log is then used from its start again.
const CHECKPOINT_BYTES: u64 = 4 << 20;
/// Past this the writer itself waits for the checkpoint, so that the log stays bounded.
const MAX_WAL_BYTES: u64 = 256 << 20;

/// How a transaction is ended.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Commit {
    /// There is none: only memory was touched.
    None,
    /// Written, and synced with the next one.
    SyncLater,
    Sync,
}

impl Commit {
    fn of(batch: &[(Need, Operation)]) -> Self {
        let any = |wanted: Need| batch.iter().any(|(need, _)| *need == wanted);
        if any(Need::Room) || any(Need::Always) {
            Self::Sync
        } else if any(Need::SyncLater) {
            Self::SyncLater
        } else {
            Self::None
        }
    }
}

pub(super) struct Writer {
    db: Connection,
    file: PathBuf,
    state: State,
    clock: Clock,
    hub: Arc<Hub>,
    reserve: Reserve,
    since_checkpoint: Instant,
    /// What is committed and not synced, and since when: nobody is told before it is.
    waiting: Option<(AfterCommit, Instant)>,
    unsynced: Arc<AtomicBool>,
    /// Whether the connection syncs as it commits.
    syncs: bool,
}

impl Writer {
    /// The writer of an open database that syncs as it commits.
    pub(super) fn new(
        db: Connection,
        file: PathBuf,
        state: State,
        clock: Clock,
        hub: Arc<Hub>,
        reserve: Reserve,
    ) -> Self {
        let since_checkpoint = Instant::now();
        let unsynced = Arc::default();
        Self { db, file, state, clock, hub, reserve, since_checkpoint, waiting: None, unsynced, syncs: true }
    }

    /// True while something that can be seen may not be synced.
    pub(super) fn unsynced(&self) -> Arc<AtomicBool> {
        Arc::clone(&self.unsynced)
    }

    /// Works until the queue is closed; gives the place of each operation it takes back to `places`.
    pub(super) fn run(mut self, queue: &Receiver<(Need, Operation)>, places: &Semaphore) {
        let (wanted, checkpointer) = start_checkpointer(&self.file);
        let mut batch = Vec::with_capacity(MAX_BATCH);
        while let Some(first) = self.next(queue) {
            batch.push(first);
            while batch.len() < MAX_BATCH
                && let Ok(next) = queue.try_recv()
            {
                batch.push(next);
            }
            places.add_permits(batch.len());
            self.commit(&mut batch);
            self.checkpoint(&wanted);
        }
        self.sync();
        drop(wanted);
        // The checkpointer ends with its channel; a panic there has been reported.
        let _ = checkpointer.join();
        let _ = self.db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)");
    }

    /// The next operation; syncs what has waited long enough for one that does.
    fn next(&mut self, queue: &Receiver<(Need, Operation)>) -> Option<(Need, Operation)> {
        if let Some((_, since)) = &self.waiting {
            match queue.recv_timeout(SYNC_LATER.saturating_sub(since.elapsed())) {
                Ok(next) => return Some(next),
                Err(RecvTimeoutError::Disconnected) => return None,
                Err(RecvTimeoutError::Timeout) => self.sync(),
            }
        }
        queue.recv().ok()
    }

    /// Makes what is committed safe from a power cut, and tells those who wait for it.
    fn sync(&mut self) {
        let Some((after, _)) = self.waiting.take() else { return };
        if let Err(err) = File::open(wal_path(&self.file)).and_then(|log| log.sync_data()) {
            abort_unsynced(&err);
        }
        self.unsynced.store(false, Ordering::Release);
        self.hub.publish(after);
    }

    fn commit(&mut self, batch: &mut Vec<(Need, Operation)>) {
        let started = Instant::now();
        metrics::histogram!(telemetry::STORE_BATCH).record(batch.len() as f64);
        let mut after = AfterCommit::default();
        let mut answers = Vec::with_capacity(batch.len());
        let room = self.reserve.has_room();
        let now = self.clock.now();
        let commit = Commit::of(batch);
        if commit != Commit::None
            && let Err(err) = self.begin(commit)
        {
            tracing::error!(error = %err, "store cannot begin a transaction");
            batch.clear();
            return;
        }
        let before = self.db.total_changes();
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
        let outcome = match (after.failure(), commit) {
            (Some(err), _) => Err(err),
            (None, Commit::None) => Ok(()),
            (None, Commit::SyncLater | Commit::Sync) => execute(&self.db, "COMMIT").map_err(|err| {
                abort_if_unsynced(&err);
                store_error(&err)
            }),
        };
        // A transaction that changes nothing syncs nothing.
        if commit == Commit::Sync && self.db.total_changes() == before {
            self.sync();
        }
        metrics::histogram!(telemetry::STORE_COMMIT).record(started.elapsed().as_secs_f64());
        match &outcome {
            Ok(()) => self.committed(after, commit),
            Err(err) => self.roll_back(err),
        }
        for answer in answers {
            answer(outcome.clone());
        }
    }

    /// Begins a transaction that will be ended so.
    fn begin(&mut self, commit: Commit) -> rusqlite::Result<()> {
        let syncs = commit == Commit::Sync;
        if syncs != self.syncs {
            // Never a kept statement: SQLite obeys this one when it is prepared, not when it runs.
            self.db.pragma_update(None, "synchronous", if syncs { "FULL" } else { "NORMAL" })?;
            self.syncs = syncs;
        }
        if commit == Commit::SyncLater {
            // Before it can be seen.
            self.unsynced.store(true, Ordering::Release);
        }
        execute(&self.db, "BEGIN IMMEDIATE")
    }

    fn committed(&mut self, after: AfterCommit, commit: Commit) {
        match commit {
            Commit::SyncLater => {
                let (waiting, _) =
                    self.waiting.get_or_insert_with(|| (AfterCommit::default(), Instant::now()));
                waiting.add(after);
            }
            // Its sync was of the whole log.
            Commit::Sync => {
                self.unsynced.store(false, Ordering::Release);
                if let Some((waiting, _)) = self.waiting.take() {
                    self.hub.publish(waiting);
                }
                self.hub.publish(after);
            }
            Commit::None => self.hub.publish(after),
        }
        self.hub.due_at(self.state.next_due(), self.clock.now());
    }

    /// Memory is made equal to the disk again; callers hear of the error and repeat what they must.
    fn roll_back(&mut self, err: &StoreError) {
        tracing::warn!(error = %err, "store rolled a transaction back");
        if !self.db.is_autocommit()
            && let Err(err) = self.db.execute_batch("ROLLBACK")
        {
            abort_if_unsynced(&err);
        }
        self.sync();
        self.unsynced.store(false, Ordering::Release);
        if matches!(err, StoreError::Full) {
            self.reserve.spend();
        }
        match State::load(&self.db, self.state.shares()) {
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
fn abort_unsynced(err: &dyn std::fmt::Display) -> ! {
    tracing::error!(error = %err, "disk did not sync: aborting, a restart reads what is really there");
    std::process::abort();
}

/// Ends the process if it is the error of a sync.
pub(super) fn abort_if_unsynced(err: &rusqlite::Error) {
    if let rusqlite::Error::SqliteFailure(code, _) = err
        && matches!(
            code.extended_code,
            ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC | ffi::SQLITE_IOERR_WRITE
        )
    {
        abort_unsynced(err);
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Shares;

    #[test]
    fn only_what_may_wait_for_its_sync_does() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("jobs.db");
        let db = Connection::open(&file).unwrap();
        db.execute_batch(schema::PRAGMAS).unwrap();
        db.execute_batch(schema::TABLES).unwrap();
        let state = State::load(&db, Shares::default()).unwrap();
        let (hub, reserve) = (Arc::new(Hub::new()), Reserve::open(dir.path()));
        let mut writer = Writer::new(db, file, state, Clock::system(), hub, reserve);
        let mode = |writer: &Writer| writer.db.pragma_query_value(None, "synchronous", |row| row.get(0));
        for _ in 0..3 {
            for (commit, level) in [(Commit::SyncLater, 1), (Commit::Sync, 2)] {
                writer.begin(commit).unwrap();
                assert_eq!(mode(&writer), Ok::<u8, _>(level));
                execute(&writer.db, "COMMIT").unwrap();
            }
        }
    }
}
