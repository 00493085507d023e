//! What there is to know before it is decided how many workers there should be: for whoever starts them.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use millhand_common::ports::{JobStore, Quota, RateLimiter, StoreError, WorkerInfo};
use millhand_common::scale::Observed;

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

/// `None` where nothing limits, or nobody says so.
async fn quota(pool: &Option<Arc<dyn RateLimiter>>) -> Option<Quota> {
    pool.as_ref()?.quota().await.ok().flatten()
}
