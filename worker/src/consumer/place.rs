//! One running job: its place in the worker's books, who may run beside it, and what is tidied after it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use millhand_common::model::{JobId, JobInput, JobKind, Timestamp, UploadId, WaitReason};
use millhand_common::ports::{Lease, Run};
use millhand_common::{telemetry, trace};
use tracing::{Instrument, Span};

use super::{Shared, WHOLE_JOB};
use crate::lease::Orders;
use crate::run::run_job;

/// A job with this many deaths runs alone in its process.
const SUSPECT_DEATHS: u32 = 2;
/// When a suspect that met other jobs comes again; nothing new is pulled beside them meanwhile.
const ASK_AGAIN: Duration = Duration::from_millis(300);

/// Runs a claimed job to its end; `taken` is a moment before the claim was sent.
pub(super) async fn run_claimed(shared: &Shared, run: Run, taken: Instant) {
    let span = tracing::info_span!(
        "job",
        job.id = %run.job.spec.id,
        job.attempt = run.job.attempt,
        trace.id = run.job.spec.traceparent.as_deref().and_then(telemetry::trace_id),
    );
    let traced = traced(&run);
    async {
        let orders = Arc::new(Orders::default());
        let suspect = run.job.deaths >= SUSPECT_DEATHS;
        if suspect && !shared.have_alone() {
            // Not kept until the others are done: while it waited here it would die with any of them.
            give_back(shared, &run.lease).await;
            return;
        }
        let _quiet = suspect.then(|| {
            tracing::warn!(deaths = run.job.deaths, "job killed its workers before: it runs alone");
            Quiet::keep(shared)
        });
        let _place = Place::take(shared, &run.lease, Arc::clone(&orders));
        let spec = &run.job.spec;
        let agent = (spec.kind() == JobKind::Chat).then(|| spec.agent.to_string());
        let begun = run.job.started_at;
        let ended = run_tidy(shared, run, taken, &orders).await;
        if let Some(agent) = agent {
            if let Some(begun) = begun.filter(|_| ended) {
                let whole = Timestamp::now().since(begun).as_secs_f64();
                metrics::histogram!(telemetry::WORKFLOW_DURATION, "gen_ai_workflow_name" => agent.clone())
                    .record(whole);
            }
            metrics::histogram!(telemetry::AGENT_DURATION, "gen_ai_agent_name" => agent)
                .record(taken.elapsed().as_secs_f64());
        }
    }
    .instrument(traced)
    .instrument(span)
    .await;
}

/// The attempt's span in the job's trace, under the request that brought the job, and after the attempt before.
fn traced(run: &Run) -> Span {
    let spec = &run.job.spec;
    let span = match spec.kind() {
        JobKind::Chat => tracing::info_span!(
            target: trace::TARGET,
            "invoke_agent",
            otel.name = format!("invoke_agent {}", spec.agent),
            otel.kind = "consumer",
            gen_ai.operation.name = "invoke_agent",
            gen_ai.agent.name = spec.agent.as_str(),
        ),
        JobKind::Ingest => tracing::info_span!(target: trace::TARGET, "ingest", otel.kind = "consumer"),
    };
    trace::begin_attempt(&span, spec.traceparent.as_deref(), spec.id, run.job.attempt);
    trace::note(&span, "job.id", spec.id.to_string());
    trace::note(&span, "job.attempt", i64::from(run.job.attempt));
    if let Some(conversation) = spec.conversation_id {
        trace::note(&span, "gen_ai.conversation.id", conversation.to_string());
    }
    span
}

async fn give_back(shared: &Shared, lease: &Lease) {
    let at = Timestamp::now() + ASK_AGAIN;
    if let Err(err) = shared.store.release(lease, Some(at), WaitReason::Drain).await {
        tracing::warn!(error = %err, "cannot give a job back: its lease will end");
    }
}

/// Nothing else is pulled while this lives, however long that is.
struct Quiet<'a>(&'a Shared);

impl<'a> Quiet<'a> {
    fn keep(shared: &'a Shared) -> Self {
        shared.be_quiet(Some(Instant::now() + WHOLE_JOB));
        Self(shared)
    }
}

impl Drop for Quiet<'_> {
    fn drop(&mut self) {
        self.0.be_quiet(None);
    }
}

/// A running job's place in the books; given up however the job's task ends, a panic included.
struct Place<'a> {
    shared: &'a Shared,
    job: JobId,
    epoch: u64,
}

impl<'a> Place<'a> {
    fn take(shared: &'a Shared, lease: &Lease, orders: Arc<Orders>) -> Self {
        shared.running().insert(lease.job, (lease.epoch, orders));
        let count = shared.running_count.fetch_add(1, Ordering::Relaxed) + 1;
        metrics::gauge!(telemetry::WORKER_RUNNING).set(f64::from(count));
        Self { shared, job: lease.job, epoch: lease.epoch }
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let count = self.shared.running_count.fetch_sub(1, Ordering::Relaxed) - 1;
        metrics::gauge!(telemetry::WORKER_RUNNING).set(f64::from(count));
        let mut running = self.shared.running();
        // A later attempt of the same job may have the entry by now.
        if running.get(&self.job).is_some_and(|(epoch, _)| *epoch == self.epoch) {
            running.remove(&self.job);
        }
    }
}

/// Runs the job and drops its uploads when it is over; whether it is.
async fn run_tidy(shared: &Shared, run: Run, taken: Instant, orders: &Orders) -> bool {
    let tenant = run.job.spec.tenant.clone();
    let uploads: Vec<UploadId> = match &run.job.spec.input {
        JobInput::Ingest { documents, .. } => documents.iter().map(|document| document.upload).collect(),
        JobInput::Chat { .. } => Vec::new(),
    };
    let (store, pipeline) = (&*shared.store, &*shared.pipeline);
    let ended = run_job(store, pipeline, run, taken, orders, &shared.brownout, &shared.give_up).await;
    let Some(documents) = shared.documents.as_ref().filter(|_| ended) else { return ended };
    for upload in uploads {
        if let Err(err) = documents.drop_upload(&tenant, upload).await {
            tracing::warn!(error = %err, "an upload stays until it is found to be an orphan");
        }
    }
    true
}
