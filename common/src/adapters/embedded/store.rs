//! The truth about jobs, on disk: [`JobStore`], [`JobReader`] and [`Conversations`] over one SQLite
//! file and one writer thread.

mod accept;
mod append;
mod claim;
mod close;
mod conversations;
mod keys;
mod letters;
mod reader;
mod record;
mod remove;
mod spending;
mod state;
mod sweep;
mod totals;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use rusqlite::Connection;

use crate::model::{EventBody, JobId, Lane, Shares, TenantId, Terminal, Timestamp, WaitReason, WorkerId};
use crate::ports::{
    Accept, Accepted, Appended, By, Cancelled, Claim, Claimed, Closed, DeadLetter, JobStore, LaneDepth,
    Lease, Line, Released, Renewed, Replayed, Run, StoreError, SweepReport, TenantLoad, WorkerInfo,
    WorkerOrders, WorkerSignal,
};

use super::clock::Clock;
use super::engine::{Engine, Fault, Need, Tx, store_error};
use super::folder::{Folder, OpenError};
use super::hub::{Hub, LOOK_AGAIN};
use super::reserve::Reserve;
use super::writer::{Writer, wal_path};
use super::{schema, wal};

use reader::Readers;
pub(super) use state::State;

/// Files up to this size are checked whole at every start; of larger ones the live jobs are.
const CHECK_WHOLE_BYTES: u64 = 128 << 20;

/// How the store keeps things.
#[derive(Clone, Debug)]
pub struct StoreOptions {
    pub clock: Clock,
    /// Jobs are removed this long after their end.
    pub keep_jobs: Duration,
    /// Logs are removed this long after the end of their job.
    pub keep_events: Duration,
    pub shares: Shares,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            clock: Clock::system(),
            keep_jobs: Duration::from_secs(7 * 24 * 3600),
            keep_events: Duration::from_secs(24 * 3600),
            shares: Shares::default(),
        }
    }
}

/// The embedded store. Dropping the last clone finishes what was queued and closes the file.
pub struct EmbeddedStore {
    engine: Engine,
    readers: Arc<Readers>,
    hub: Arc<Hub>,
    options: StoreOptions,
    file: PathBuf,
    /// The lock on the folder lives as long as the store.
    _folder: Arc<Folder>,
}

impl EmbeddedStore {
    /// Opens the store of a folder: repairs a torn tail, refuses damage anywhere else, and voids
    /// every lease of an earlier process.
    pub fn open(folder: &Arc<Folder>, options: StoreOptions) -> Result<Arc<Self>, OpenError> {
        let file = folder.jobs_file();
        check_wal(&file)?;
        let failed = |err: rusqlite::Error| match store_error(&err) {
            StoreError::Damaged(what) => OpenError::Damaged { place: file.display().to_string(), what },
            _ => OpenError::Database { path: file.clone(), reason: err.to_string() },
        };
        let db = Connection::open(&file).map_err(failed)?;
        db.set_prepared_statement_cache_capacity(64);
        db.execute_batch(schema::PRAGMAS).map_err(failed)?;
        db.execute_batch(schema::TABLES).map_err(failed)?;
        schema::migrate(&db).map_err(failed)?;
        db.execute_batch("PRAGMA wal_checkpoint(TRUNCATE)").map_err(failed)?;
        record::check(&db, &file, CHECK_WHOLE_BYTES)?;
        let state = State::load(&db, options.shares.clone()).map_err(failed)?;
        let hub = Arc::new(Hub::new());
        hub.due_at(state.next_due(), options.clock.now());
        let reserve = Reserve::open(folder.path());
        let writer = Writer::new(db, file.clone(), state, options.clock.clone(), Arc::clone(&hub), reserve);
        let engine = Engine::start(writer);
        Ok(Arc::new(Self {
            engine,
            readers: Arc::new(Readers::new(&file)),
            hub,
            options,
            file,
            _folder: Arc::clone(folder),
        }))
    }

    /// Copies everything as of one moment into a new file, while the store goes on. Blocks: run it
    /// off the async threads.
    pub fn backup_to(&self, target: &Path) -> Result<(), StoreError> {
        let copy = || -> rusqlite::Result<()> {
            let db = Connection::open(&self.file)?;
            db.execute("VACUUM INTO ?1", [target.to_string_lossy()])?;
            Ok(())
        };
        copy().map_err(|err| store_error(&err))
    }

    async fn run<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&mut Tx<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.engine.run(Need::Always, operation).await
    }

    /// Reads what is safe from a power cut, and all of it.
    async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, StoreError> {
        let answer = self.readers.with(read).await?;
        // Afterwards: whatever was seen was committed by then.
        if self.engine.has_unsynced() {
            self.run(|_| Ok(())).await?;
        }
        Ok(answer)
    }

    /// Runs an operation that neither reads nor writes the disk.
    async fn in_memory<T: Send + 'static>(
        &self,
        operation: impl FnOnce(&mut Tx<'_>) -> Result<T, Fault> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.engine.run(Need::Memory, operation).await
    }
}

fn check_wal(file: &Path) -> Result<(), OpenError> {
    let log = wal_path(file);
    match wal::check(&log).map_err(OpenError::io(&log))? {
        wal::Wal::Sound => Ok(()),
        wal::Wal::TornTail { offset } => {
            tracing::warn!(file = %log.display(), offset, "the last, unacknowledged write was torn: dropped");
            Ok(())
        }
        wal::Wal::Damaged { offset } => Err(OpenError::Damaged {
            place: format!("{} at byte {offset}", log.display()),
            what: "a checksum is wrong and later writes follow".to_owned(),
        }),
    }
}

#[async_trait]
impl JobStore for EmbeddedStore {
    async fn accept(&self, accept: Accept) -> Result<Accepted, StoreError> {
        let accepted = self.engine.run(Need::Room, move |tx| accept::accept(tx, &accept)).await;
        crate::crash::point("accept.committed");
        accepted
    }

    async fn hinted(&self, jobs: &[(TenantId, JobId)]) -> Result<(), StoreError> {
        let jobs: Vec<JobId> = jobs.iter().map(|(_, job)| *job).collect();
        self.in_memory(move |tx| {
            for job in jobs {
                tx.state.hinted(job);
            }
            Ok(())
        })
        .await
    }

    async fn unhinted(&self, jobs: &[(TenantId, JobId)]) -> Result<(), StoreError> {
        let (jobs, now): (Vec<JobId>, _) =
            (jobs.iter().map(|(_, job)| *job).collect(), self.options.clock.now());
        self.in_memory(move |tx| {
            for job in jobs {
                tx.state.unhinted(job, now);
            }
            Ok(())
        })
        .await
    }

    async fn claim(&self, tenant: &TenantId, job: JobId, claim: Claim) -> Result<Claimed, StoreError> {
        let tenant = tenant.clone();
        let claimed =
            self.engine.run(Need::SyncLater, move |tx| claim::claim(tx, Some(&tenant), job, claim)).await;
        crate::crash::point("claim.committed");
        claimed
    }

    async fn claim_due(&self, lane: Lane, claim: Claim) -> Result<Option<Run>, StoreError> {
        if self.hub.due().borrow().is_none_or(|at| at > self.options.clock.now()) {
            return Ok(None);
        }
        let run = self.engine.run(Need::SyncLater, move |tx| claim::claim_due(tx, lane, claim)).await;
        crate::crash::point("claim.committed");
        run
    }

    async fn due(&self) {
        let mut due = self.hub.due();
        loop {
            // The time first: a moment that is set after the look is compared with a later time.
            let now = self.options.clock.now();
            let at = *due.borrow_and_update();
            if at.is_some_and(|at| at <= now) {
                return;
            }
            let look_again = now + LOOK_AGAIN;
            let until = at.map_or(look_again, |at| at.min(look_again));
            // Cancel-safe: both branches only wait.
            tokio::select! {
                () = self.options.clock.sleep_until(until) => {}
                changed = due.changed() => if changed.is_err() { return },
            }
        }
    }

    async fn challenge(&self, tenant: &TenantId, job: JobId) -> Result<(), StoreError> {
        let tenant = tenant.clone();
        self.in_memory(move |tx| {
            claim::challenge(tx, &tenant, job);
            Ok(())
        })
        .await
    }

    async fn renew(&self, lease: &Lease) -> Result<Renewed, StoreError> {
        let lease = lease.clone();
        self.in_memory(move |tx| Ok(claim::renew(tx, &lease))).await
    }

    async fn append(
        &self,
        lease: &Lease,
        first_seq: u64,
        events: Vec<EventBody>,
    ) -> Result<Appended, StoreError> {
        let lease = lease.clone();
        // Turned into text here, off the writer thread.
        let events: Vec<_> = events.iter().map(EventBody::parts).collect();
        self.run(move |tx| append::append(tx, &lease, first_seq, events)).await
    }

    async fn release(
        &self,
        lease: &Lease,
        not_before: Option<Timestamp>,
        reason: WaitReason,
    ) -> Result<Released, StoreError> {
        let lease = lease.clone();
        let released = self.run(move |tx| append::release(tx, &lease, not_before, reason)).await;
        crate::crash::point("drain.released");
        released
    }

    async fn close(
        &self,
        tenant: &TenantId,
        job: JobId,
        by: By,
        terminal: Terminal,
    ) -> Result<Closed, StoreError> {
        let tenant = tenant.clone();
        crate::crash::point("close.before_commit");
        let closed = self.run(move |tx| close::close(tx, &tenant, job, by, terminal)).await;
        crate::crash::point("close.committed");
        closed
    }

    async fn cancel(&self, tenant: &TenantId, job: JobId) -> Result<Cancelled, StoreError> {
        let tenant = tenant.clone();
        self.run(move |tx| close::cancel(tx, &tenant, job)).await
    }

    async fn present(&self, worker: &WorkerInfo) -> Result<WorkerOrders, StoreError> {
        let worker = worker.clone();
        self.in_memory(move |tx| Ok(tx.state.present(worker, tx.now))).await
    }

    async fn drain_worker(&self, worker: WorkerId) -> Result<bool, StoreError> {
        self.in_memory(move |tx| Ok(tx.state.drain(worker, tx.now))).await
    }

    async fn pause_lane(&self, lane: Lane, paused: bool) -> Result<(), StoreError> {
        self.run(move |tx| {
            tx.db
                .prepare_cached("UPDATE totals SET paused = ?2 WHERE lane = ?1")?
                .execute(rusqlite::params![record::lane_code(lane), paused])?;
            tx.state.pause(lane, paused);
            Ok(())
        })
        .await
    }

    async fn signal(&self, worker: WorkerId) -> WorkerSignal {
        self.hub.signal(worker).await
    }

    async fn sweep(&self) -> Result<SweepReport, StoreError> {
        let (keep_jobs, keep_events) = (self.options.keep_jobs, self.options.keep_events);
        let (report, absent) = self.run(move |tx| sweep::sweep(tx, keep_jobs, keep_events)).await?;
        for worker in absent {
            self.hub.forget(worker);
        }
        Ok(report)
    }

    async fn stamp(&self) -> Result<u64, StoreError> {
        self.run(|tx| {
            let version = tx.state.next_version(tx.now);
            tx.db
                .prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES ('stamp', ?1)")?
                .execute([version])?;
            Ok(version)
        })
        .await
    }

    async fn delete(&self, tenant: &TenantId, job: JobId) -> Result<bool, StoreError> {
        let tenant = tenant.clone();
        self.run(move |tx| remove::delete_job(tx, &tenant, job)).await
    }

    async fn depth(&self, soon: Duration) -> Result<Vec<LaneDepth>, StoreError> {
        self.in_memory(move |tx| Ok(tx.state.depth(tx.now, soon))).await
    }

    async fn lines(&self) -> Result<Vec<Line>, StoreError> {
        self.in_memory(|tx| Ok(tx.state.lines(tx.now))).await
    }

    async fn tenants(&self) -> Result<Vec<TenantLoad>, StoreError> {
        self.in_memory(|tx| Ok(tx.state.tenants(tx.now))).await
    }

    async fn workers(&self) -> Result<Vec<WorkerInfo>, StoreError> {
        self.in_memory(|tx| Ok(tx.state.workers(tx.now))).await
    }

    async fn dead_letters(&self, limit: usize, before: Option<JobId>) -> Result<Vec<DeadLetter>, StoreError> {
        self.read(move |db| letters::list(db, limit, before)).await
    }

    async fn replay(&self, job: JobId) -> Result<Replayed, StoreError> {
        self.engine.run(Need::Room, move |tx| letters::replay(tx, job)).await
    }

    async fn drop_dead_letter(&self, job: JobId) -> Result<bool, StoreError> {
        self.run(move |tx| letters::drop_letter(tx, job)).await
    }

    async fn ready(&self) -> Result<(), StoreError> {
        self.run(|_| Ok(())).await
    }
}
