//! Whether a new job is let in: only when it can be expected to start in time.
//!
//! What is ahead of a job is divided by how fast jobs end. Both are seen a few times a second, in the store,
//! so they are of all workers together; between two looks the jobs that were let in here count too. A tenant
//! waits for its own line and its share of the workers, never for all of another tenant's backlog
//! ([`Shares`]); so neither is it refused for that.

mod rate;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use http::StatusCode;
use millhand_common::model::{JobSpec, Lane, Shares, TenantId, Timestamp, WorkerId};
use millhand_common::ports::{JobStore, Line};
use millhand_common::telemetry;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::AdmissionConfig;
use crate::error::ApiError;

use rate::Rate;

/// Between two looks at what waits.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// What was refused for the load says that there is too much of it for this long.
const OVERLOADED: Duration = Duration::from_secs(5);
/// Longest `Retry-After`: nobody can say what will be later.
const LONGEST_RETRY: u64 = 60;

/// What is known of the work that waits.
pub(crate) struct Admission {
    store: Arc<dyn JobStore>,
    config: AdmissionConfig,
    shares: Shares,
    seen: Mutex<Seen>,
}

struct Seen {
    /// As the store had them, and what was accepted here since.
    lines: HashMap<(Lane, TenantId), u64>,
    /// Jobs that the store is asked to accept now.
    asking: HashMap<(Lane, TenantId), u64>,
    /// When a job was last refused for the load.
    overloaded: Option<Instant>,
    rate: Rate,
}

/// Why a job is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Refusal {
    /// It could not start in time; after so long it could.
    Wait(Duration),
    /// Its tenant has as many jobs in line as it may; one of them begins within about this time.
    Line(Duration),
}

impl Admission {
    pub(crate) fn new(store: Arc<dyn JobStore>, config: AdmissionConfig, shares: Shares) -> Arc<Self> {
        let rate = Rate::new(f64::from(config.expected_jobs_per_second));
        Arc::new(Self {
            store,
            config,
            shares,
            seen: Mutex::new(Seen { lines: HashMap::new(), asking: HashMap::new(), overloaded: None, rate }),
        })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Looks until `stopping`. A store that does not answer changes nothing: accepts fail there by themselves.
    pub(crate) async fn watch(self: Arc<Self>, stopping: CancellationToken) {
        loop {
            let (lines, workers) = futures::join!(self.store.lines(), self.store.workers());
            if let (Ok(lines), Ok(workers)) = (lines, workers) {
                self.seen().take(lines, workers.iter().map(|worker| (worker.id, worker.ended)).collect());
            }
            // Cancel-safe: both branches only wait.
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
        }
    }

    /// Whether a job was refused because of the load within the last seconds.
    pub(crate) fn is_overloaded(&self) -> bool {
        self.seen().overloaded.is_some_and(|at| at.elapsed() < OVERLOADED)
    }

    /// Takes a place in line for a job, unless it could not start before its deadline, or not soon enough for its
    /// lane, or its tenant has its line full.
    pub(crate) fn admit(self: &Arc<Self>, spec: &JobSpec) -> Result<Place, ApiError> {
        let line = (spec.lane, spec.tenant.clone());
        let waits_now = spec.not_before.is_none_or(|at| at <= Timestamp::now());
        let mut seen = self.seen();
        let Some(refusal) = seen.refusal(spec, &self.config, &self.shares).filter(|_| waits_now) else {
            if waits_now {
                *seen.asking.entry(line.clone()).or_default() += 1;
            }
            return Ok(Place { admission: Arc::clone(self), line: waits_now.then_some(line), kept: false });
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
    kept: bool,
}

impl Place {
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let Some(line) = self.line.take() else { return };
        let mut seen = self.admission.seen();
        if let Some(asking) = seen.asking.get_mut(&line) {
            *asking -= 1;
            if *asking == 0 {
                seen.asking.remove(&line);
            }
        }
        if self.kept {
            *seen.lines.entry(line).or_default() += 1;
        }
    }
}

impl Seen {
    fn take(&mut self, lines: Vec<Line>, ended: HashMap<WorkerId, u64>) {
        let waiting = lines.iter().any(|line| line.waiting > 0);
        self.rate.see(waiting, ended, Instant::now());
        let of =
            |lane| lines.iter().filter(move |line| line.lane == lane).map(|line| line.waiting).sum::<u64>();
        for lane in Lane::ALL {
            let wait = of(lane) as f64 / self.rate.per_second();
            metrics::gauge!(telemetry::PREDICTED_WAIT, "lane" => lane.as_str()).set(wait);
        }
        self.lines = lines.into_iter().map(|line| ((line.lane, line.tenant), line.waiting)).collect();
    }

    /// How long a new job waits. All that is ahead of it is the most it could be; as long as others wait too its
    /// tenant has its share of what ends, and waits for its own line only. Batch jobs wait for both lanes.
    fn wait(&self, lane: Lane, tenant: &TenantId, shares: &Shares) -> Duration {
        let (mut ahead, mut own, mut others) = (0, 0, HashSet::new());
        for ((of, whose), waiting) in self.lines.iter().chain(&self.asking) {
            if *of == lane || lane == Lane::Batch {
                ahead += waiting;
                if whose == tenant {
                    own += waiting;
                } else {
                    others.insert(whose);
                }
            }
        }
        let weights: u64 = others.iter().map(|other| u64::from(shares.of(other).weight)).sum();
        let weight = u64::from(shares.of(tenant).weight);
        let fair = own as f64 * (weights + weight) as f64 / weight as f64;
        Duration::from_secs_f64(fair.min(ahead as f64) / self.rate.per_second())
    }

    fn refusal(&self, spec: &JobSpec, config: &AdmissionConfig, shares: &Shares) -> Option<Refusal> {
        let line = (spec.lane, spec.tenant.clone());
        let own: u64 = [&self.lines, &self.asking].iter().filter_map(|lines| lines.get(&line)).sum();
        let most = shares.of(&spec.tenant).max_queued;
        if most.is_some_and(|most| u64::from(most) <= own) {
            return Some(Refusal::Line(Duration::from_secs_f64(1.0 / self.rate.per_second())));
        }
        let wait = self.wait(spec.lane, &spec.tenant, shares);
        // The line of a system with too much to do is as long as it may be: jobs that were let in up to their
        // deadline would end too late, every second one, and cost what they take.
        let in_time = spec.deadline / 2;
        let longest = config.max_wait(spec.lane).map_or(in_time, |most| most.min(in_time));
        // A tenant without a line waits for nothing here, so an idle system lets everything in.
        (longest <= wait).then(|| Refusal::Wait(wait.saturating_sub(longest)))
    }
}

/// In seconds: what was predicted, and up to a quarter more, or a second, so that those who were refused
/// together do not come back together.
fn retry_after(until: Duration) -> u32 {
    let seconds = until.as_secs() + 1;
    let (random, _) = uuid::Uuid::new_v4().as_u64_pair();
    let jitter = random % (seconds / 4 + 2);
    u32::try_from((seconds + jitter).min(LONGEST_RETRY)).unwrap_or(u32::MAX)
}
