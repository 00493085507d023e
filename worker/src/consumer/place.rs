//! One running job: its place in the worker's books, who may run beside it, and what is tidied after it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use async_trait::async_trait;
use millhand_common::model::{JobId, JobInput, Terminal, UploadId};
use millhand_common::ports::{Lease, Run};
use millhand_common::telemetry;
use tokio::sync::RwLock;
use tracing::Instrument;

use super::Shared;
use crate::Pipeline;
use crate::attempt::{Attempt, Failure};
use crate::lease::Orders;
use crate::run::run_job;

/// A job with this many deaths runs alone in its process.
const SUSPECT_DEATHS: u32 = 2;

/// Runs a claimed job to its end; `taken` is a moment before the claim was sent.
pub(super) async fn run_claimed(shared: &Shared, run: Run, taken: Instant) {
    let span = tracing::info_span!(
        "job",
        job.id = %run.job.spec.id,
        job.attempt = run.job.attempt,
        trace.id = run.job.spec.traceparent.as_deref().and_then(telemetry::trace_id),
    );
    async {
        let orders = Arc::new(Orders::default());
        let suspect = run.job.deaths >= SUSPECT_DEATHS;
        let _place = Place::take(shared, &run.lease, Arc::clone(&orders), suspect);
        let gate = if suspect {
            tracing::warn!(deaths = run.job.deaths, "job killed its workers before: it runs alone");
            Gate::Alone(&shared.alone)
        } else {
            Gate::Beside(&shared.alone)
        };
        run_gated(shared, run, taken, &orders, gate).await;
    }
    .instrument(span)
    .await;
}

/// A running job's place in the books; given up however the job's task ends, a panic included.
struct Place<'a> {
    shared: &'a Shared,
    job: JobId,
    epoch: u64,
    suspect: bool,
}

impl<'a> Place<'a> {
    fn take(shared: &'a Shared, lease: &Lease, orders: Arc<Orders>, suspect: bool) -> Self {
        shared.running().insert(lease.job, (lease.epoch, orders));
        let count = shared.running_count.fetch_add(1, Ordering::Relaxed) + 1;
        metrics::gauge!(telemetry::WORKER_RUNNING).set(f64::from(count));
        shared.suspects.fetch_add(usize::from(suspect), Ordering::SeqCst);
        Self { shared, job: lease.job, epoch: lease.epoch, suspect }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let count = self.shared.running_count.fetch_sub(1, Ordering::Relaxed) - 1;
        metrics::gauge!(telemetry::WORKER_RUNNING).set(f64::from(count));
        self.shared.suspects.fetch_sub(usize::from(self.suspect), Ordering::SeqCst);
        let mut running = self.shared.running();
        // A later attempt of the same job may have the entry by now.
        if running.get(&self.job).is_some_and(|(epoch, _)| *epoch == self.epoch) {
            running.remove(&self.job);
        }
    }
}

async fn run_gated(shared: &Shared, run: Run, taken: Instant, orders: &Orders, gate: Gate<'_>) {
    let tenant = run.job.spec.tenant.clone();
    let uploads: Vec<UploadId> = match &run.job.spec.input {
        JobInput::Ingest { documents, .. } => documents.iter().map(|document| document.upload).collect(),
        JobInput::Chat { .. } => Vec::new(),
    };
    let pipeline = Gated { gate, pipeline: &*shared.pipeline };
    let ended = run_job(&*shared.store, &pipeline, run, taken, orders, &shared.give_up).await;
    let Some(documents) = shared.documents.as_ref().filter(|_| ended) else { return };
    for upload in uploads {
        if let Err(err) = documents.drop_upload(&tenant, upload).await {
            tracing::warn!(error = %err, "an upload stays until it is found to be an orphan");
        }
    }
}

/// Who may run at the same time. Waiting at the gate happens inside the attempt, so that its lease is
/// kept meanwhile.
enum Gate<'a> {
    Beside(&'a RwLock<()>),
    Alone(&'a RwLock<()>),
}

struct Gated<'a> {
    gate: Gate<'a>,
    pipeline: &'a dyn Pipeline,
}

#[async_trait]
impl Pipeline for Gated<'_> {
    async fn run(&self, attempt: &Attempt) -> Result<Terminal, Failure> {
        match self.gate {
            Gate::Beside(lock) => {
                let _beside = lock.read().await;
                self.pipeline.run(attempt).await
            }
            Gate::Alone(lock) => {
                let _alone = lock.write().await;
                self.pipeline.run(attempt).await
            }
        }
    }
}
