//! What there is to know before it is decided how many workers there should be: for whoever starts them.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use metrics::gauge;
use millhand_common::model::Timestamp;
use millhand_common::ports::{JobStore, Quota, RateLimiter, StoreError, WorkerInfo};
use millhand_common::scale::{Decision, Observed, Reason};
use millhand_common::telemetry;

/// Asks the store and the limiters. Reads only, so each of its futures may be dropped.
pub(super) struct Observer {
    pub(super) store: Arc<dyn JobStore>,
    /// The quota of each model that there is; `None` where it has none.
    pub(super) pools: Vec<Option<Arc<dyn RateLimiter>>>,
}

impl Observer {
    /// The workers that said they live.
    pub(super) async fn workers(&self) -> Result<Vec<WorkerInfo>, StoreError> {
        self.store.workers().await
    }

    /// The work as it is now, for so many workers; `soon` is how long a new one takes to be up.
    pub(super) async fn observe(&self, workers: u32, soon: Duration) -> Result<Observed, StoreError> {
        let quotas = join_all(self.pools.iter().map(quota));
        let (lanes, quotas) = tokio::join!(self.store.depth(soon), quotas);
        Ok(Observed::of(workers, &lanes?, Quota::together(&quotas)))
    }
}

/// Tells of a decision that was just made: also of one that changes nothing.
pub(super) fn show(decision: &Decision, observed: &Observed) {
    gauge!(telemetry::SCALE_WANTED).set(f64::from(decision.workers));
    gauge!(telemetry::SCALE_QUOTA_USED).set(observed.quota.map_or(0.0, |quota| quota.used));
    let now = Duration::from_millis(Timestamp::now().as_millis());
    gauge!(telemetry::SCALE_DECIDED).set(now.as_secs_f64());
    for name in Reason::NAMES {
        let is_why = u8::from(name == decision.reason.as_str());
        gauge!(telemetry::SCALE_REASON, "reason" => name).set(f64::from(is_why));
    }
}

/// `None` where nothing limits, or nobody says so.
async fn quota(pool: &Option<Arc<dyn RateLimiter>>) -> Option<Quota> {
    pool.as_ref()?.quota().await.ok().flatten()
}
