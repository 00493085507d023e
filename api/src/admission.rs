//! Whether a new job is let in: only when it can be expected to start in time.
//!
//! What is ahead of a job is divided by how fast jobs are answered. Both are seen in the store every now and
//! then, so they are of all workers together; between two looks the jobs that were let in here count too. A tenant
//! waits for its own line and its share of the workers, never for all of another tenant's backlog
//! ([`Shares`]); so neither is it refused for that.

mod pace;
mod rate;
mod seen;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use millhand_common::model::{Job, JobSpec, Lane, Shares, Status, TenantId, Timestamp, Wait, WaitReason};
use millhand_common::ports::{Expected, JobStore};
use millhand_common::telemetry;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::AdmissionConfig;
use crate::error::ApiError;

use pace::Pace;
use seen::{Refusal, Seen};

/// Between two looks at what waits.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Every so many looks one looks at what was answered too, and by whom: that costs the store more.
const MEASURE_EVERY: u64 = 4;
/// What was refused for the load says that there is too much of it for this long.
const OVERLOADED: Duration = Duration::from_secs(5);
/// A job whose expected start is past by more than this waits for something that was not foreseen.
const LATE: Duration = Duration::from_secs(1);
/// Longest `Retry-After`: nobody can say what will be later.
const LONGEST_RETRY: u64 = 60;

/// What is known of the work that waits.
pub(crate) struct Admission {
    store: Arc<dyn JobStore>,
    config: AdmissionConfig,
    shares: Shares,
    pace: Mutex<Pace>,
    seen: Mutex<Seen>,
}

impl Admission {
    pub(crate) fn new(store: Arc<dyn JobStore>, config: AdmissionConfig, shares: Shares) -> Arc<Self> {
        let seen = Mutex::new(Seen::new(&config));
        Arc::new(Self { store, config, shares, pace: Mutex::default(), seen })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks until `stopping`. A store that does not answer changes nothing: accepts fail there by themselves.
    pub(crate) async fn watch(self: Arc<Self>, stopping: CancellationToken) {
        for look in 0_u64.. {
            self.look().await;
            if look % MEASURE_EVERY == 0 {
                self.measure().await;
            }
            // Cancel-safe: both branches only wait.
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    async fn look(&self) {
        let at = Instant::now();
        let Ok(lines) = self.store.lines().await else { return };
        let mut seen = self.seen();
        seen.see_lines(lines, at);
        for lane in Lane::ALL {
            let wait = seen.wait_of(lane).as_secs_f64();
            metrics::gauge!(telemetry::PREDICTED_WAIT, "lane" => lane.as_str()).set(wait);
        }
    }

    async fn measure(&self) {
        let (lanes, workers) = futures::join!(self.store.depth(Duration::ZERO), self.store.workers());
        if let (Ok(lanes), Ok(workers)) = (lanes, workers) {
            self.seen().see_progress(&lanes, &workers, Instant::now());
        }
    }

    /// Counts a submit of this tenant, whatever becomes of it, unless there were too many within the last minute.
    /// Asked before anything else is done for it.
    pub(crate) fn pace(&self, tenant: &TenantId) -> Result<(), ApiError> {
        let Some(per_minute) = self.shares.of(tenant).submits_per_minute else { return Ok(()) };
        let mut pace = self.pace.lock().unwrap_or_else(PoisonError::into_inner);
        let taken = pace.take(tenant, per_minute, Instant::now());
        drop(pace);
        taken.map_err(|until| {
            metrics::counter!(telemetry::JOBS_REFUSED, "reason" => "rate_limited").increment(1);
            let detail =
                format!("This tenant may submit {per_minute} times a minute, and has: wait a moment.");
            let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "rate_limited", detail);
            ApiError { retry_after: Some(retry_after(until)), ..error }
        })
    }

    /// Whether a job was refused because of the load within the last seconds.
    pub(crate) fn is_overloaded(&self) -> bool {
        self.seen().overloaded.is_some_and(|at| at.elapsed() < OVERLOADED)
    }

    /// Whether what a job's record says of its start still holds: not if that is past.
    pub(crate) fn is_foretold(job: &Job) -> bool {
        let holds = |at: Timestamp| Timestamp::now() <= at + LATE;
        let foretells =
            |wait: &Wait| wait.reason != WaitReason::Worker || wait.expected_start_at.is_some_and(holds);
        job.wait.as_ref().is_some_and(foretells)
    }

    /// Why a job waits that has not begun, and when it is expected to: by what its record says, else by how many
    /// were ahead of it when it was accepted, unless that is past, or all that waits takes less.
    pub(crate) fn wait(&self, job: &Job, were_ahead: Option<u64>) -> Option<Wait> {
        if job.status != Status::Queued
            || job.wait.as_ref().is_some_and(|wait| wait.reason != WaitReason::Worker)
        {
            return job.wait.clone();
        }
        let expected = || {
            let (seen, now, spec) = (self.seen(), Timestamp::now(), &job.spec);
            let starts_in = |ahead| seen.starts_in(ahead, spec.lane, &spec.tenant, &self.shares);
            let latest = now + starts_in(seen.ahead(spec.lane, &spec.tenant, &self.shares))?;
            let by_place = || Some(job.created_at + starts_in(were_ahead? as f64)?);
            let foretold = job.wait.as_ref().filter(|_| Self::is_foretold(job));
            let foretold = foretold.and_then(|wait| wait.expected_start_at);
            Some(foretold.or_else(by_place)?.min(latest)).filter(|at| now <= *at + LATE)
        };
        Some(Wait { reason: WaitReason::Worker, expected_start_at: expected() })
    }

    /// Takes a place in line for a job, unless it could not start before its deadline, or not soon enough for its
    /// lane, or its tenant has its line full.
    pub(crate) fn admit(self: &Arc<Self>, spec: &JobSpec) -> Result<Place, ApiError> {
        let line = (spec.lane, spec.tenant.clone());
        let now = Timestamp::now();
        let waits_now = spec.not_before.is_none_or(|at| at <= now);
        let mut seen = self.seen();
        let refusal = seen.refusal(spec, &self.config, &self.shares, Instant::now());
        let Some(refusal) = refusal.filter(|_| waits_now) else {
            let expected =
                if waits_now { seen.expected(spec, &self.shares, now) } else { Expected::default() };
            if waits_now {
                seen.asks(line.clone());
            }
            let line = waits_now.then_some(line);
            return Ok(Place { admission: Arc::clone(self), line, expected, kept: false });
        };
        if matches!(refusal, Refusal::Wait(_)) {
            seen.overloaded = Some(Instant::now());
        }
        drop(seen);
        let (reason, error) = match refusal {
            Refusal::Wait(until) => {
                let detail = "More work waits here than this job could wait for: it would not start in time.";
                ("overloaded", ApiError::unavailable("overloaded", detail, retry_after(until)))
            }
            Refusal::Line(until) => {
                let detail = "This tenant has as many jobs waiting as it may: wait for some of them.";
                let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "too_many_queued", detail);
                ("too_many_queued", ApiError { retry_after: Some(retry_after(until)), ..error })
            }
        };
        metrics::counter!(telemetry::JOBS_REFUSED, "reason" => reason).increment(1);
        Err(error)
    }
}

/// A place in line, given back when dropped, unless the job was accepted.
pub(crate) struct Place {
    admission: Arc<Admission>,
    line: Option<(Lane, TenantId)>,
    expected: Expected,
    kept: bool,
}

impl Place {
    /// As it was when the place was taken.
    pub(crate) fn expected(&self) -> Expected {
        self.expected
    }

    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(line) = self.line.take() else { return };
        self.admission.seen().answered(line, self.kept);
    }
}

/// In seconds: what was predicted, and up to a quarter more, or a second, so that those who were refused
/// together do not come back together.
pub(crate) fn retry_after(until: Duration) -> u32 {
    let seconds = until.as_secs() + 1;
    let (random, _) = uuid::Uuid::new_v4().as_u64_pair();
    let jitter = random % (seconds / 4 + 2);
    u32::try_from((seconds + jitter).min(LONGEST_RETRY)).unwrap_or(u32::MAX)
}
