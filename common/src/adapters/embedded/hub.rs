//! Wakes readers and workers of this process after a commit, and holds the logs of live jobs for readers
//! who come while they run.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, broadcast, watch};

use crate::model::{Event, JobId, TenantId, Timestamp, WorkerId};
use crate::ports::{LogPage, StoreError, Subscription, WorkerSignal};

/// Events a slow reader may be behind before it reads the log again.
const BEHIND: usize = 64;
/// A log is held in memory up to this size: that of an answer of some hundred words.
const HELD_BYTES: usize = 32 * 1024;
/// Logs held in memory; of a longer queue the disk has the rest.
const HELD_LOGS: usize = 8192;
/// How often who waits for due work looks at the due index without being woken.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What a transaction does once it is durable, and not before.
#[derive(Default)]
pub(super) struct AfterCommit {
    events: Vec<(Option<TenantId>, Arc<Event>)>,
    signals: Vec<(WorkerId, WorkerSignal)>,
    counts: Vec<Box<dyn FnOnce() + Send>>,
    failure: Option<StoreError>,
}

impl AfterCommit {
    /// The first event of a log.
    pub(super) fn first_event(&mut self, tenant: TenantId, event: Event) {
        self.events.push((Some(tenant), Arc::new(event)));
    }

    pub(super) fn event(&mut self, event: Event) {
        self.events.push((None, Arc::new(event)));
    }

    pub(super) fn signal(&mut self, worker: WorkerId, signal: WorkerSignal) {
        self.signals.push((worker, signal));
    }

    /// What another transaction does, after what this one does.
    pub(super) fn add(&mut self, other: Self) {
        self.events.extend(other.events);
        self.signals.extend(other.signals);
        self.counts.extend(other.counts);
        self.failure = self.failure.take().or(other.failure);
    }

    /// A metric to record.
    pub(super) fn count(&mut self, record: impl FnOnce() + Send + 'static) {
        self.counts.push(Box::new(record));
    }

    /// The transaction cannot be committed.
    pub(super) fn fail(&mut self, err: StoreError) {
        self.failure.get_or_insert(err);
    }

    pub(super) fn failure(&self) -> Option<StoreError> {
        self.failure.clone()
    }
}

#[derive(Default)]
struct Mailbox {
    waiting: Mutex<VecDeque<WorkerSignal>>,
    arrived: Notify,
}

/// What this process has of one job's log.
#[derive(Default)]
struct Line {
    held: Option<Held>,
    readers: Option<broadcast::Sender<Arc<Event>>>,
}

/// The whole log of a live job.
struct Held {
    tenant: TenantId,
    events: Vec<Arc<Event>>,
    bytes: usize,
}

impl Line {
    fn publish(&mut self, event: Arc<Event>) {
        if let Some(held) = &mut self.held {
            held.bytes += event.data.get().len();
            held.events.push(Arc::clone(&event));
        }
        self.held.take_if(|held| held.bytes > HELD_BYTES || event.is_terminal());
        if let Some(readers) = &self.readers {
            // An error means the last reader is just leaving.
            let _ = readers.send(event);
        }
    }

    fn is_empty(&self) -> bool {
        self.held.is_none() && self.readers.is_none()
    }

    fn page(&self, tenant: &TenantId, after: u64) -> Option<LogPage> {
        let held = self.held.as_ref().filter(|held| held.tenant == *tenant)?;
        let seen = usize::try_from(after).unwrap_or(usize::MAX).min(held.events.len());
        Some(LogPage {
            events: held.events[seen..].to_vec(),
            last_seq: held.events.len() as u64,
            sealed: false,
            trimmed_to: 0,
        })
    }
}

/// Who waits for what.
pub(super) struct Hub {
    lines: Mutex<HashMap<JobId, Line>>,
    workers: Mutex<HashMap<WorkerId, Arc<Mailbox>>>,
    /// When a `claim_due` may find a job.
    due: watch::Sender<Option<Timestamp>>,
}

impl Hub {
    pub(super) fn new() -> Self {
        Self { lines: Mutex::default(), workers: Mutex::default(), due: watch::Sender::new(None) }
    }

    pub(super) fn publish(&self, after: AfterCommit) {
        if !after.events.is_empty() {
            let mut lines = locked(&self.lines);
            for (first_of, event) in after.events {
                let job = event.job_id;
                if let Some(tenant) = first_of
                    && lines.len() < HELD_LOGS
                {
                    let held = Held { tenant, events: Vec::with_capacity(1), bytes: 0 };
                    lines.insert(job, Line { held: Some(held), readers: None });
                }
                if let Some(line) = lines.get_mut(&job) {
                    line.publish(event);
                    if line.is_empty() {
                        lines.remove(&job);
                    }
                }
            }
        }
        for (worker, signal) in after.signals {
            let mailbox = self.mailbox(worker);
            let mut waiting = locked(&mailbox.waiting);
            if !waiting.contains(&signal) {
                waiting.push_back(signal);
            }
            drop(waiting);
            mailbox.arrived.notify_one();
        }
        for record in after.counts {
            record();
        }
    }

    /// Says when work becomes due. Waiters look by themselves every [`LOOK_AGAIN`], so they are woken
    /// only for a moment that comes earlier and before that: most jobs stand in the due index just in
    /// case their hint is lost, and leave it long before.
    pub(super) fn due_at(&self, at: Option<Timestamp>, now: Timestamp) {
        self.due.send_if_modified(|due| {
            let earlier = at.is_some_and(|at| due.is_none_or(|before| at < before));
            *due = at;
            earlier && at.is_some_and(|at| at <= now + LOOK_AGAIN)
        });
    }

    pub(super) fn due(&self) -> watch::Receiver<Option<Timestamp>> {
        self.due.subscribe()
    }

    /// News of a job's log, with the log itself when it is held.
    pub(super) fn subscribe(self: &Arc<Self>, tenant: &TenantId, job: JobId, after: u64) -> Subscription {
        let mut lines = locked(&self.lines);
        let line = lines.entry(job).or_default();
        let receiver = line.readers.get_or_insert_with(|| broadcast::channel(BEHIND).0).subscribe();
        let so_far = line.page(tenant, after);
        drop(lines);
        Subscription::new(receiver, Box::new(Leaver { hub: Arc::downgrade(self), job })).with_log(so_far)
    }

    /// The next signal for `worker`. Cancel-safe: a signal is handed out or stays.
    pub(super) async fn signal(&self, worker: WorkerId) -> WorkerSignal {
        let mailbox = self.mailbox(worker);
        loop {
            let arrived = mailbox.arrived.notified();
            if let Some(signal) = locked(&mailbox.waiting).pop_front() {
                return signal;
            }
            arrived.await;
        }
    }

    pub(super) fn forget(&self, worker: WorkerId) {
        locked(&self.workers).remove(&worker);
    }

    fn mailbox(&self, worker: WorkerId) -> Arc<Mailbox> {
        Arc::clone(locked(&self.workers).entry(worker).or_default())
    }
}

/// Removes a job's channel with its last reader.
struct Leaver {
    hub: Weak<Hub>,
    job: JobId,
}

impl Drop for Leaver {
    fn drop(&mut self) {
        if let Some(hub) = self.hub.upgrade() {
            let mut lines = locked(&hub.lines);
            let Some(line) = lines.get_mut(&self.job) else { return };
            // The receiver of this subscription was dropped before this guard.
            line.readers.take_if(|readers| readers.receiver_count() == 0);
            if line.is_empty() {
                lines.remove(&self.job);
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
