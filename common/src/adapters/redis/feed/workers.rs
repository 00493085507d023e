//! What the workers of this process are told, what they hold, and the channels that say that they live.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::{Arc, Mutex};

use tokio::sync::Notify;
use uuid::Uuid;

use super::locked;
use crate::model::{JobId, WorkerId};
use crate::ports::{Lease, WorkerSignal};

#[derive(Default)]
struct Mailbox {
    waiting: Mutex<VecDeque<WorkerSignal>>,
    arrived: Notify,
}

#[derive(Default)]
pub(super) struct Workers {
    known: Mutex<HashMap<WorkerId, Arc<Mailbox>>>,
    /// Leases that workers of this process hold.
    leases: Mutex<HashMap<(JobId, u64), (WorkerId, Lease)>>,
    /// Those whose channel the connection listens to.
    listening: Mutex<HashSet<WorkerId>>,
}

impl Workers {
    /// True when it was not known before.
    pub(super) fn know(&self, worker: WorkerId) -> bool {
        let mut known = locked(&self.known);
        let new = !known.contains_key(&worker);
        known.entry(worker).or_default();
        new
    }

    /// Those whose channel the connection does not listen to yet.
    pub(super) fn unheard(&self) -> Vec<WorkerId> {
        let listening = locked(&self.listening);
        locked(&self.known).keys().filter(|worker| !listening.contains(worker)).copied().collect()
    }

    pub(super) fn listens_to(&self, worker: WorkerId) {
        locked(&self.listening).insert(worker);
    }

    /// The connection listens to none of these channels any more.
    pub(super) fn listens_to_none(&self) {
        locked(&self.listening).clear();
    }

    pub(super) fn holds(&self, worker: WorkerId, lease: &Lease) {
        locked(&self.leases).insert((lease.job, lease.epoch), (worker, lease.clone()));
    }

    pub(super) fn lets_go(&self, job: JobId, epoch: u64) {
        locked(&self.leases).remove(&(job, epoch));
    }

    /// Asks every owner here to renew.
    pub(super) fn challenge_all(&self) {
        let held: Vec<_> = locked(&self.leases).values().cloned().collect();
        for (worker, lease) in held {
            self.deliver(worker, WorkerSignal::Challenge(lease));
        }
    }

    /// Takes a message of the channel for signals; most are for workers of other processes.
    pub(super) fn heard(&self, message: &str) {
        if let Some((worker, signal)) = parse(message)
            && locked(&self.known).contains_key(&worker)
        {
            self.deliver(worker, signal);
        }
    }

    fn deliver(&self, worker: WorkerId, signal: WorkerSignal) {
        let mailbox = self.mailbox(worker);
        let mut waiting = locked(&mailbox.waiting);
        if !waiting.contains(&signal) {
            waiting.push_back(signal);
        }
        drop(waiting);
        mailbox.arrived.notify_one();
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

    fn mailbox(&self, worker: WorkerId) -> Arc<Mailbox> {
        Arc::clone(locked(&self.known).entry(worker).or_default())
    }
}

/// `<challenge|cancel> <worker> <tenant> <uuid> <epoch>`.
fn parse(message: &str) -> Option<(WorkerId, WorkerSignal)> {
    let mut parts = message.split(' ');
    let (what, worker) = (parts.next()?, parts.next()?.parse().ok()?);
    let tenant = parts.next()?.parse().ok()?;
    let job = JobId::from_uuid(Uuid::try_parse(parts.next()?).ok()?);
    let lease = Lease { tenant, job, epoch: parts.next()?.parse().ok()? };
    match what {
        "challenge" => Some((worker, WorkerSignal::Challenge(lease))),
        "cancel" => Some((worker, WorkerSignal::Cancel(lease))),
        _ => None,
    }
}
