//! Pulls jobs into free slots, runs them, and drains.

mod hand_on;
mod orders;
mod place;
mod take;
mod turn;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Deserialize;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use millhand_common::brownout::Brownout;
use millhand_common::model::{JobId, Lane, WorkerId};
use millhand_common::ports::{AckAfter, Broker, Documents, JobStore, Lease};
use millhand_common::telemetry;

use crate::Pipeline;
use crate::lease::Orders;
use crate::quota::{Quota, pulled};
use hand_on::{hand_on, hand_on_surplus};
use orders::{obey, say_present};
use take::{Next, Wake, next, take_due, take_hint};

/// Claims of due work under way at a time: more would only find the due index empty.
const CLAIMS_AT_ONCE: usize = 8;
/// A store or broker that fails is asked again after this long.
const PAUSE: Duration = Duration::from_millis(200);
/// How long one job at a time is pulled for the sake of a suspect that was given back: jobs in hand
/// end, and it comes. One that does not come by then asks again when it is claimed.
const QUIET: Duration = Duration::from_secs(60);
/// Longer than any job may take: its quiet ends with it.
const WHOLE_JOB: Duration = Duration::from_secs(2 * 24 * 3600);
/// How long giving back may take after the drain time-out.
const GIVE_BACK_TIMEOUT: Duration = Duration::from_secs(5);

/// `[worker]` of the configuration.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct WorkerConfig {
    /// Jobs that run at a time.
    pub slots: u32,
    /// How long a stopping worker lets its jobs finish before it gives them back.
    ///
    /// Source: Kubernetes kills a pod 30 s after SIGTERM by default; the rest is for giving back.
    #[serde(with = "humantime_serde")]
    pub drain_timeout: Duration,
    /// Documents are in a folder of this process: no other worker can answer from them. Follows from
    /// the parts it is given.
    #[serde(skip)]
    pub own_index: bool,
}

impl Default for WorkerConfig {
    fn default() -> Self {
        Self { slots: 64, drain_timeout: Duration::from_secs(20), own_index: false }
    }
}

/// Takes jobs from the store and the broker, and runs them.
pub struct Worker {
    shared: Arc<Shared>,
    config: WorkerConfig,
    gates: Gates,
}

/// The quotas one of which has to be expected to admit a call; none where there is nothing to wait for.
#[derive(Default)]
struct Gates {
    usual: Vec<Arc<Quota>>,
    /// While the smaller models are asked.
    under_load: Vec<Arc<Quota>>,
}

struct Shared {
    id: WorkerId,
    store: Arc<dyn JobStore>,
    broker: Arc<dyn Broker>,
    documents: Option<Arc<dyn Documents>>,
    pipeline: Arc<dyn Pipeline>,
    running: Mutex<HashMap<JobId, (u64, Arc<Orders>)>>,
    running_count: AtomicU32,
    /// Tasks that claim or run a job now.
    in_hand: AtomicUsize,
    /// A suspect needs the process to itself: until this moment, or until it has run, one job is in
    /// hand at a time.
    quiet_until: Mutex<Option<Instant>>,
    pulls: AtomicUsize,
    /// Lanes of which the store gives nothing now.
    paused: watch::Sender<Vec<Lane>>,
    brownout: Arc<Brownout>,
    give_up: CancellationToken,
}

impl Worker {
    /// A worker that is not started yet. `documents` is where uploads of ended ingest jobs are dropped.
    #[must_use]
    pub fn new(
        store: Arc<dyn JobStore>,
        broker: Arc<dyn Broker>,
        documents: Option<Arc<dyn Documents>>,
        pipeline: Arc<dyn Pipeline>,
        config: WorkerConfig,
    ) -> Self {
        let shared = Shared {
            id: WorkerId::new(),
            store,
            broker,
            documents,
            pipeline,
            running: Mutex::default(),
            running_count: AtomicU32::new(0),
            in_hand: AtomicUsize::new(0),
            quiet_until: Mutex::default(),
            pulls: AtomicUsize::new(0),
            paused: watch::Sender::default(),
            brownout: Arc::default(),
            give_up: CancellationToken::new(),
        };
        Self { shared: Arc::new(shared), config, gates: Gates::default() }
    }

    /// Goes by this id, which nobody else has or had.
    #[must_use]
    pub fn with_id(mut self, id: WorkerId) -> Self {
        let shared = Arc::get_mut(&mut self.shared).expect("nothing shares it before it runs");
        shared.id = id;
        self
    }

    /// Pulls only while one of these is expected to admit a model call; always, when there are none. `under_load`:
    /// the same, while the smaller models are asked.
    #[must_use]
    pub fn with_quotas(mut self, usual: Vec<Arc<Quota>>, under_load: Vec<Arc<Quota>>) -> Self {
        self.gates = Gates { usual, under_load };
        self
    }

    /// Goes without what this says.
    #[must_use]
    pub fn under(mut self, brownout: Arc<Brownout>) -> Self {
        let shared = Arc::get_mut(&mut self.shared).expect("nothing shares it before it runs");
        shared.brownout = brownout;
        self
    }

    /// Runs until `shutdown`, then lets jobs finish for the drain time-out and gives back the rest.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { shared, config, gates } = self;
        metrics::gauge!(telemetry::WORKER_SLOTS).set(f64::from(config.slots));
        metrics::gauge!(telemetry::WORKER_RUNNING).set(0.0);
        let slots = Arc::new(Semaphore::new(config.slots as usize));
        let claims = Arc::new(Semaphore::new(CLAIMS_AT_ONCE));
        let mut jobs = JoinSet::new();
        let stopped = CancellationToken::new();
        let mut beside = JoinSet::new();
        beside.spawn(say_present(Arc::clone(&shared), config.clone(), shutdown.clone(), stopped.clone()));
        beside.spawn(obey(Arc::clone(&shared), stopped.clone()));
        beside.spawn(hand_on_surplus(Arc::clone(&shared), stopped.clone()));
        if shared.broker.ack_after() == AckAfter::Claim {
            beside.spawn(hand_on(Arc::clone(&shared), config.slots, shutdown.clone(), stopped.clone()));
        }
        loop {
            // Cancel-safe: `next` only waits; a hint it has received comes back when dropped.
            let wake = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(ended) = jobs.join_next() => {
                    log_if_panicked(ended);
                    continue;
                }
                wake = next(&shared, &slots, &claims, &gates), if jobs.is_empty() || !shared.is_quiet() => wake,
            };
            let Some(Next { slot, gate, claim, wake }) = wake else {
                pause(&shutdown).await;
                continue;
            };
            let shared = Arc::clone(&shared);
            jobs.spawn(pulled(gate, async move {
                let in_hand = InHand::count(&shared.in_hand);
                // The other half is in `Shared::have_alone`: one of the two sees the other.
                if shared.is_quiet() && !in_hand.is_only() {
                    return;
                }
                match wake {
                    Wake::Due(first) => take_due(&shared, first, slot, claim).await,
                    Wake::Hint(delivery) => take_hint(&shared, slot, delivery).await,
                }
            }));
        }
        drain(&shared, &mut jobs, config.drain_timeout).await;
        stopped.cancel();
        while let Some(ended) = beside.join_next().await {
            log_if_panicked(ended);
        }
    }
}

/// Counts one task for as long as it lives.
struct InHand<'a>(&'a AtomicUsize);

impl<'a> InHand<'a> {
    fn count(tasks: &'a AtomicUsize) -> Self {
        tasks.fetch_add(1, Ordering::SeqCst);
        Self(tasks)
    }

    fn is_only(&self) -> bool {
        self.0.load(Ordering::SeqCst) == 1
    }
}

impl Drop for InHand<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Shared {
    fn running(&self) -> MutexGuard<'_, HashMap<JobId, (u64, Arc<Orders>)>> {
        self.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn is_quiet(&self) -> bool {
        let until = *self.quiet_until.lock().unwrap_or_else(PoisonError::into_inner);
        until.is_some_and(|until| Instant::now() < until)
    }

    /// Asks for quiet, and says whether the caller's job is the only one in hand.
    fn have_alone(&self) -> bool {
        self.be_quiet(Some(Instant::now() + QUIET));
        self.in_hand.load(Ordering::SeqCst) == 1
    }

    fn be_quiet(&self, until: Option<Instant>) {
        *self.quiet_until.lock().unwrap_or_else(PoisonError::into_inner) = until;
    }

    fn orders_for(&self, lease: &Lease) -> Option<Arc<Orders>> {
        let running = self.running();
        let (epoch, orders) = running.get(&lease.job)?;
        (*epoch == lease.epoch).then(|| Arc::clone(orders))
    }
}

async fn pause(shutdown: &CancellationToken) {
    // Cancel-safe: both branches only wait.
    tokio::select! {
        () = shutdown.cancelled() => {}
        () = tokio::time::sleep(PAUSE) => {}
    }
}

/// Jobs finish until the time-out; then they are given back.
async fn drain(shared: &Shared, jobs: &mut JoinSet<()>, timeout: Duration) {
    let finished = async {
        while let Some(ended) = jobs.join_next().await {
            log_if_panicked(ended);
        }
    };
    if tokio::time::timeout(timeout, finished).await.is_ok() {
        return;
    }
    tracing::info!(jobs = jobs.len(), "drain time-out: the rest is given back");
    shared.give_up.cancel();
    let given_back = async {
        while let Some(ended) = jobs.join_next().await {
            log_if_panicked(ended);
        }
    };
    if tokio::time::timeout(GIVE_BACK_TIMEOUT, given_back).await.is_err() {
        tracing::warn!(jobs = jobs.len(), "some jobs were not given back: their leases will end");
    }
}

fn log_if_panicked(ended: Result<(), tokio::task::JoinError>) {
    if let Err(err) = ended
        && err.is_panic()
    {
        tracing::error!(error = %err, "a task of the worker panicked");
    }
}
