//! Runs one claimed job to its end: pipeline, appender and lease side by side, then one close.

use std::future::Future;
use std::sync::Arc;
use std::time::{Duration, Instant};

use millhand_common::brownout::Brownout;
use millhand_common::model::{
    EventBody, JobError, Output, OutputFold, Status, Terminal, Timestamp, WaitReason,
};
use millhand_common::ports::{By, Closed, JobStore, Run, StoreError};
use millhand_common::telemetry;
use tokio_util::sync::CancellationToken;

use crate::Pipeline;
use crate::attempt::{Attempt, Failure};
use crate::lease::{self, LeaseEnd, Orders};
use crate::retry::{self, Verdict};

/// A close or release whose outcome is unknown is repeated this often: both are idempotent.
const REPEAT: Duration = Duration::from_millis(200);
/// How long past the deadline an owner still tries to close its job; then any process does it.
const CLOSE_GRACE: Duration = Duration::from_secs(5);

/// How the pipeline came to its end.
enum Outcome {
    Done(Result<Terminal, Failure>),
    Lease(LeaseEnd),
    /// The log refuses this owner.
    Fenced,
    Deadline,
    /// The process stops and cannot wait any longer.
    Drained,
}

/// Runs a claimed job; when it returns the job is closed (true), given back, or owned by somebody else.
pub(crate) async fn run_job(
    store: &dyn JobStore,
    pipeline: &dyn Pipeline,
    run: Run,
    taken: Instant,
    orders: &Orders,
    brownout: &Arc<Brownout>,
    give_up: &CancellationToken,
) -> bool {
    let retries = retry::retries_in(&run.log);
    let attempt = Attempt::new(run).under(Arc::clone(brownout));
    let outcome = work(store, pipeline, &attempt, taken, orders, give_up).await;
    match outcome {
        Outcome::Fenced | Outcome::Lease(LeaseEnd::Lost) | Outcome::Done(Err(Failure::Stopped(_))) => {
            tracing::warn!(job.id = %attempt.job().spec.id, "lost the job to another owner");
            false
        }
        Outcome::Done(Ok(terminal)) => close(store, &attempt, terminal).await,
        Outcome::Done(Err(Failure::Fatal(error))) => close(store, &attempt, failed(&attempt, error)).await,
        Outcome::Done(Err(Failure::OverBudget(error))) => {
            close(store, &attempt, over_budget(attempt.output(), error)).await
        }
        Outcome::Done(Err(Failure::NoQuota { after })) => {
            release(store, &attempt, Some(Timestamp::now() + after), WaitReason::Quota).await;
            false
        }
        Outcome::Done(Err(Failure::NoModel { after })) => {
            release(store, &attempt, Some(Timestamp::now() + after), WaitReason::Model).await;
            false
        }
        Outcome::Done(Err(Failure::Retry { error, after })) => {
            match retry::after_failure(retries, after, attempt.time_left(), jitter()) {
                Verdict::RetryAfter(wait) => {
                    tracing::warn!(
                        job.id = %attempt.job().spec.id, error.code = error.code, wait_ms = wait.as_millis(),
                        "attempt failed, the job goes back"
                    );
                    release(store, &attempt, Some(Timestamp::now() + wait), WaitReason::Retry).await;
                    false
                }
                Verdict::GiveUp => close(store, &attempt, failed(&attempt, error)).await,
            }
        }
        Outcome::Lease(LeaseEnd::Cancelled) => {
            close(store, &attempt, Terminal::bare(Status::Cancelled)).await
        }
        Outcome::Deadline | Outcome::Lease(LeaseEnd::Expired) => {
            close(store, &attempt, at_deadline(attempt.output())).await
        }
        Outcome::Drained => {
            release(store, &attempt, None, WaitReason::Drain).await;
            false
        }
    }
}

async fn work(
    store: &dyn JobStore,
    pipeline: &dyn Pipeline,
    attempt: &Attempt,
    taken: Instant,
    orders: &Orders,
    give_up: &CancellationToken,
) -> Outcome {
    let enough = CancellationToken::new();
    let mut appender = std::pin::pin!(attempt.append_to(store, &enough));
    let mut keeper = std::pin::pin!(lease::keep(store, attempt.lease(), taken, orders));
    let outcome = {
        let mut work = std::pin::pin!(pipeline.run(attempt));
        // The loser branches are dropped for good, and only the appender holds unsent events: it goes
        // on below.
        tokio::select! {
            biased;
            end = &mut keeper => Outcome::Lease(end),
            () = &mut appender => Outcome::Fenced,
            result = &mut work => Outcome::Done(result),
            () = tokio::time::sleep_until(attempt.deadline().into()) => Outcome::Deadline,
            () = give_up.cancelled() => Outcome::Drained,
        }
    };
    if let Outcome::Fenced | Outcome::Lease(LeaseEnd::Lost) = outcome {
        attempt.stop();
        return outcome;
    }
    // The append in flight ends first, so that the tail follows it without a gap.
    enough.cancel();
    if tokio::time::timeout(CLOSE_GRACE, appender).await.is_err() {
        attempt.stop();
    }
    if attempt.is_stopped() { Outcome::Fenced } else { outcome }
}

fn failed(attempt: &Attempt, error: JobError) -> Terminal {
    tracing::warn!(
        job.id = %attempt.job().spec.id, job.attempt = attempt.job().attempt,
        error.code = error.code, "job failed"
    );
    Terminal::failed(error)
}

/// What a job becomes when its deadline comes.
fn at_deadline(fold: OutputFold) -> Terminal {
    let mut terminal = Terminal::bare(Status::Expired);
    terminal.reason = Some("deadline".to_owned());
    if !fold.text.is_empty() {
        terminal.status = Status::Incomplete;
        terminal.output = Some(Output::answer(fold.text, true, fold.citations));
    }
    terminal
}

/// What a job becomes that may not go on: its text is kept, if it has some.
fn over_budget(fold: OutputFold, error: JobError) -> Terminal {
    let reason = Some(error.code.clone());
    let status = if fold.text.is_empty() { Status::Failed } else { Status::Incomplete };
    let answer = || Output::answer(fold.text, true, fold.citations);
    let output = (status == Status::Incomplete).then(answer);
    Terminal { output, error: Some(error), reason, ..Terminal::bare(status) }
}

/// True when the job is terminal.
async fn close(store: &dyn JobStore, attempt: &Attempt, mut terminal: Terminal) -> bool {
    terminal.usage = attempt.usage().or(terminal.usage);
    let goes_without = attempt.degraded();
    if let Some(Output::Answer { degraded, .. }) = &mut terminal.output {
        degraded.clone_from(&goes_without);
    }
    let (first_seq, tail) = attempt.take_tail();
    let by = By::Owner { epoch: attempt.lease().epoch, first_seq, tail };
    let job = attempt.job();
    let until = attempt.deadline() + CLOSE_GRACE;
    let closed =
        repeat(until, || store.close(&job.spec.tenant, job.spec.id, by.clone(), terminal.clone())).await;
    match closed {
        Some(Closed::Ok) => {
            for what in goes_without.into_iter().filter(|_| terminal.output.is_some()) {
                metrics::counter!(telemetry::DEGRADED_ANSWERS, "what" => what).increment(1);
            }
            tracing::debug!(
                job.id = %job.spec.id, job.attempt = job.attempt, job.status = terminal.status.as_str(),
                "job ended"
            );
            true
        }
        Some(Closed::Already(status)) => {
            tracing::info!(job.id = %job.spec.id, job.status = status.as_str(), "job was ended by another hand");
            true
        }
        Some(Closed::Fenced) | None => {
            tracing::warn!(job.id = %job.spec.id, "could not end the job: it is left to its next owner");
            false
        }
    }
}

async fn release(store: &dyn JobStore, attempt: &Attempt, not_before: Option<Timestamp>, reason: WaitReason) {
    let (first_seq, tail): (u64, Vec<EventBody>) = attempt.take_tail();
    let until = attempt.deadline();
    if !tail.is_empty() {
        // Journaled steps among them are worth keeping; the release itself does not depend on it.
        let _ = repeat(until, || store.append(attempt.lease(), first_seq, tail.clone())).await;
    }
    if repeat(until, || store.release(attempt.lease(), not_before, reason)).await.is_none() {
        tracing::warn!(job.id = %attempt.job().spec.id, "could not give the job back: its lease will end");
    }
}

/// Repeats an idempotent operation until the store answers or `until`.
async fn repeat<T, F>(until: Instant, mut operation: impl FnMut() -> F) -> Option<T>
where
    F: Future<Output = Result<T, StoreError>>,
{
    loop {
        match operation().await {
            Ok(answer) => return Some(answer),
            Err(StoreError::Full | StoreError::Unreachable(_)) if Instant::now() < until => {
                tokio::time::sleep(REPEAT).await;
            }
            Err(err) => {
                tracing::error!(error = %err, "store refused the end of an attempt");
                return None;
            }
        }
    }
}

/// Spreads retries of jobs that failed together, 0..1.
pub(crate) fn jitter() -> f64 {
    let bits = uuid::Uuid::new_v4().as_u128() as u32;
    f64::from(bits) / f64::from(u32::MAX)
}
