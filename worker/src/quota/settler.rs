//! Tells the limiter what became of calls, beside the work: no answer waits for it, and a call whose
//! future was dropped is settled too.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use millhand_common::ports::{EXTEND_EVERY, LEASE_TTL, RateLimiter, Said, StoreError, Used};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};
use uuid::Uuid;

use super::gate::Gate;

/// What waits to be told; a call that does not fit is settled by its lease's end.
const WAITING: usize = 8192;
const RETRY: Duration = Duration::from_millis(250);

pub(super) enum Task {
    Settle(Uuid, Used),
    Observe(Uuid, Said),
}

/// Owns the task that tells; it ends with this.
pub(super) struct Settler {
    tasks: mpsc::Sender<Task>,
    /// Calls that are under way.
    open: Arc<Mutex<HashSet<Uuid>>>,
    _running: JoinSet<()>,
}

impl Settler {
    pub(super) fn start(limiter: Arc<dyn RateLimiter>, gate: Arc<Gate>) -> Self {
        let (tasks, waiting) = mpsc::channel(WAITING);
        let open = Arc::new(Mutex::new(HashSet::new()));
        let mut running = JoinSet::new();
        running.spawn(settle(Arc::clone(&limiter), gate, waiting));
        running.spawn(extend(limiter, Arc::clone(&open)));
        Self { tasks, open, _running: running }
    }

    /// This call is kept until it is settled.
    pub(super) fn goes_on(&self, call: Uuid) {
        lock(&self.open).insert(call);
    }

    /// Never waits: it is called when futures are dropped.
    pub(super) fn tell(&self, task: Task) {
        if let Task::Settle(call, _) = &task {
            lock(&self.open).remove(call);
        }
        if self.tasks.try_send(task).is_err() {
            tracing::warn!("too much is to be told to the limiter: calls are settled by their leases' end");
        }
    }
}

async fn settle(limiter: Arc<dyn RateLimiter>, gate: Arc<Gate>, mut waiting: mpsc::Receiver<Task>) {
    while let Some(task) = waiting.recv().await {
        let until = Instant::now() + LEASE_TTL;
        while let Err(err) = tell(&*limiter, &task).await {
            // After that its lease has ended, and with it what it holds.
            if !matches!(err, StoreError::Unreachable(_)) || Instant::now() > until {
                tracing::warn!(error = %err, "a model call could not be settled");
                break;
            }
            tokio::time::sleep(RETRY).await;
        }
        gate.wake();
    }
}

async fn tell(limiter: &dyn RateLimiter, task: &Task) -> Result<(), StoreError> {
    match task {
        Task::Settle(call, used) => limiter.settle(*call, *used).await,
        Task::Observe(call, said) => limiter.observe(*call, said).await,
    }
}

/// Says of every call under way that it goes on.
async fn extend(limiter: Arc<dyn RateLimiter>, open: Arc<Mutex<HashSet<Uuid>>>) {
    let mut every = tokio::time::interval(EXTEND_EVERY);
    every.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        every.tick().await;
        let calls: Vec<Uuid> = lock(&open).iter().copied().collect();
        for call in calls {
            if let Err(err) = limiter.extend(call).await {
                tracing::debug!(error = %err, "a model call could not be extended");
            }
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
