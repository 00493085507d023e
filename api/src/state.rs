//! What the ingress is given: ports, and nothing that it would lose by dying.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use millhand_common::brownout::Brownout;
use millhand_common::model::{Agent, Shares};
use millhand_common::ports::{
    Broker, Conversations, Documents, Embedder, Index, JobReader, JobStore, Keys, RateLimiter,
};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::access::KeyRing;
use crate::admission::Admission;
use crate::allowance::Allowance;
use crate::config::ApiConfig;
use crate::error::ApiError;
use crate::hints::Hints;

/// Longest wait for one store operation; the caller is told 503 then.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// What [`crate::serve`] needs.
#[derive(Clone)]
pub struct ApiState {
    pub store: Arc<dyn JobStore>,
    pub reader: Arc<dyn JobReader>,
    pub conversations: Arc<dyn Conversations>,
    pub broker: Arc<dyn Broker>,
    /// While there never was a key, everybody is the default tenant.
    pub keys: Arc<dyn Keys>,
    /// `None`: documents and search answer 422 `index_not_configured`.
    pub documents: Option<Arc<dyn Documents>>,
    /// `None`: documents, search and `rag` answer 422 `index_not_configured`.
    pub index: Option<Arc<dyn Index>>,
    /// Turns a search query into a vector; `None` searches by words only.
    pub embedder: Option<Arc<dyn Embedder>>,
    /// All that can be asked, the built-in ones included.
    pub agents: Vec<Agent>,
    /// Whether agents that name no class have a model; without one, those that only talk answer 422
    /// `model_not_configured`.
    pub model_configured: bool,
    /// What tenants may spend; `None` where nothing limits it, or nothing costs.
    pub allowance: Option<Allowance>,
    /// What each tenant may have.
    pub shares: Shares,
    /// What is refused under load, besides what could not start in time.
    pub brownout: Arc<Brownout>,
    pub config: ApiConfig,
    pub stage: Stage,
}

/// What [`crate::serve_admin`] needs.
#[derive(Clone)]
pub struct AdminState {
    pub store: Arc<dyn JobStore>,
    pub broker: Arc<dyn Broker>,
    pub keys: Arc<dyn Keys>,
    /// The quota of each limited model.
    pub limiters: Vec<NamedLimiter>,
    /// Whether operators need a key with the scope `admin`: where others can reach the address.
    pub needs_key: bool,
    /// Renders all metrics in the Prometheus text format.
    pub metrics: Arc<dyn Fn() -> String + Send + Sync>,
    pub stage: Stage,
    /// Makes this process stop pulling work; called by POST /v1/drain.
    pub on_drain: Option<Arc<dyn Fn() + Send + Sync>>,
    /// Copies the store into a folder while it runs.
    pub backup: Option<Backup>,
}

/// The quota of one pool.
#[derive(Clone)]
pub struct NamedLimiter {
    /// As the configuration calls it.
    pub name: String,
    pub limiter: Arc<dyn RateLimiter>,
}

/// Copies the store into a folder; the error is a sentence for the operator.
pub type Backup = Arc<dyn Fn(PathBuf) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// Whether this process should get work yet, or still: readiness is off else. Clones share it.
#[derive(Clone, Debug, Default)]
pub struct Stage(Arc<Switches>);

#[derive(Debug, Default)]
struct Switches {
    loading: AtomicBool,
    draining: AtomicBool,
}

impl Stage {
    /// What is asked for first is not there yet: the sample collection at the first start.
    pub fn set_loading(&self, loading: bool) {
        self.0.loading.store(loading, Ordering::Release);
    }

    #[must_use]
    pub fn is_loading(&self) -> bool {
        self.0.loading.load(Ordering::Acquire)
    }

    /// On its way out: turns readiness off for good.
    pub fn drain(&self) {
        self.0.draining.store(true, Ordering::Release);
    }

    #[must_use]
    pub fn is_draining(&self) -> bool {
        self.0.draining.load(Ordering::Acquire)
    }
}

/// The state that handlers share.
pub(crate) type Api = Arc<ApiInner>;

pub(crate) struct ApiInner {
    pub(crate) ports: ApiState,
    pub(crate) hints: Hints,
    pub(crate) keys: KeyRing,
    pub(crate) admission: Arc<Admission>,
    /// Cancelled when open streams and long polls shall end.
    pub(crate) stopping: CancellationToken,
    /// Sockets that left their connection.
    pub(crate) sockets: TaskTracker,
    pub(crate) uploads: Arc<Semaphore>,
    /// Held while a submit is decided and stored.
    submits: Semaphore,
    streams: Arc<Semaphore>,
}

impl ApiInner {
    pub(crate) fn new(
        ports: ApiState,
        hints: Hints,
        keys: KeyRing,
        admission: Arc<Admission>,
        stopping: CancellationToken,
    ) -> Api {
        let limits = &ports.config.limits;
        Arc::new(Self {
            streams: Arc::new(Semaphore::new(limits.streams)),
            uploads: Arc::new(Semaphore::new(limits.uploads)),
            submits: Semaphore::new(limits.submits),
            sockets: TaskTracker::new(),
            stopping,
            hints,
            keys,
            admission,
            ports,
        })
    }

    /// The port, or 422 `index_not_configured`.
    pub(crate) fn documents(&self) -> Result<&Arc<dyn Documents>, ApiError> {
        match (&self.ports.documents, &self.ports.index) {
            (Some(documents), Some(_)) => Ok(documents),
            _ => Err(ApiError::index_not_configured()),
        }
    }

    pub(crate) fn index(&self) -> Result<&Arc<dyn Index>, ApiError> {
        self.ports.index.as_ref().ok_or_else(ApiError::index_not_configured)
    }

    /// A place among the submits that are decided and stored, or 503: they never wait in a line that readers
    /// stand in too.
    pub(crate) fn submit_slot(&self) -> Result<SemaphorePermit<'_>, ApiError> {
        self.submits.try_acquire().map_err(|_| {
            metrics::counter!(millhand_common::telemetry::JOBS_REFUSED, "reason" => "too_many_submits")
                .increment(1);
            ApiError::unavailable(
                "too_many_submits",
                "This process takes in all the jobs it can at a time.",
                1,
            )
        })
    }

    /// A place among the open streams, or 503.
    pub(crate) fn stream_slot(&self, transport: &'static str) -> Result<StreamSlot, ApiError> {
        let permit = self.streams.clone().try_acquire_owned().map_err(|_| {
            ApiError::unavailable("too_many_streams", "This process serves all the streams it may.", 2)
        })?;
        metrics::gauge!(millhand_common::telemetry::STREAM_READERS, "transport" => transport).increment(1);
        Ok(StreamSlot { transport, _permit: permit })
    }
}

/// One open stream, counted until it is dropped.
pub(crate) struct StreamSlot {
    transport: &'static str,
    _permit: OwnedSemaphorePermit,
}

impl Drop for StreamSlot {
    fn drop(&mut self) {
        metrics::gauge!(millhand_common::telemetry::STREAM_READERS, "transport" => self.transport)
            .decrement(1);
    }
}

/// The answer of a port within a bounded time.
pub(crate) async fn ask<T, E: Into<ApiError>>(
    call: impl Future<Output = Result<T, E>>,
) -> Result<T, ApiError> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(answer) => answer.map_err(Into::into),
        Err(_) => Err(ApiError::unavailable("store_unavailable", "The store does not answer in time.", 1)),
    }
}
