//! Wakes readers and workers of this process after a commit.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use tokio::sync::{Notify, broadcast, watch};

use crate::model::{Event, JobId, Timestamp, WorkerId};
use crate::ports::{StoreError, Subscription, WorkerSignal};

/// Events a slow reader may be behind before it reads the log again.
const BEHIND: usize = 64;
/// How often who waits for due work looks at the due index without being woken.
pub(super) const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// What a transaction does once it is durable, and not before.
#[derive(Default)]
pub(super) struct AfterCommit {
    events: Vec<Arc<Event>>,
    signals: Vec<(WorkerId, WorkerSignal)>,
    counts: Vec<Box<dyn FnOnce() + Send>>,
    failure: Option<StoreError>,
}

impl AfterCommit {
    pub(super) fn event(&mut self, event: Event) {
        self.events.push(Arc::new(event));
    }

    pub(super) fn signal(&mut self, worker: WorkerId, signal: WorkerSignal) {
        self.signals.push((worker, signal));
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

/// Who waits for what.
pub(super) struct Hub {
    readers: Mutex<HashMap<JobId, broadcast::Sender<Arc<Event>>>>,
    workers: Mutex<HashMap<WorkerId, Arc<Mailbox>>>,
    /// When a `claim_due` may find a job.
    due: watch::Sender<Option<Timestamp>>,
}

impl Hub {
    pub(super) fn new() -> Self {
        Self { readers: Mutex::default(), workers: Mutex::default(), due: watch::Sender::new(None) }
    }

    pub(super) fn publish(&self, after: AfterCommit) {
        {
            let readers = locked(&self.readers);
            if !readers.is_empty() {
                for event in after.events {
                    if let Some(reader) = readers.get(&event.job_id) {
                        // An error means the last reader is just leaving.
                        let _ = reader.send(event);
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

    pub(super) fn subscribe(self: &Arc<Self>, job: JobId) -> Subscription {
        let receiver =
            locked(&self.readers).entry(job).or_insert_with(|| broadcast::channel(BEHIND).0).subscribe();
        Subscription::new(receiver, Box::new(Leaver { hub: Arc::downgrade(self), job }))
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
            let mut readers = locked(&hub.readers);
            // The receiver of this subscription was dropped before this guard.
            if readers.get(&self.job).is_some_and(|sender| sender.receiver_count() == 0) {
                readers.remove(&self.job);
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
