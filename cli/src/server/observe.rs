//! What there is to know before it is decided how many workers there should be: for whoever starts them.

use std::sync::Arc;
use std::time::Duration;

use millhand_api::NamedLimiter;
use millhand_common::ports::{JobStore, Quota, StoreError};
use millhand_common::scale::Observed;

/// Asks the store and the limiters. Reads only, so each of its futures may be dropped.
pub(super) struct Observer {
    pub(super) store: Arc<dyn JobStore>,
    pub(super) limiters: Vec<NamedLimiter>,
    /// Models that are configured, limited or not.
    pub(super) pools: usize,
}

impl Observer {
    /// The work as it is now, for so many workers; `soon` is how long a new one takes to be up.
    pub(super) async fn observe(&self, workers: u32, soon: Duration) -> Result<Observed, StoreError> {
        let (lanes, quota) = futures::try_join!(self.store.depth(soon), self.quota())?;
        Ok(Observed::of(workers, &lanes, quota))
    }

    /// Workers that said they live and take jobs.
    pub(super) async fn present(&self) -> Result<u32, StoreError> {
        let workers = self.store.workers().await?;
        let takes_jobs = workers.iter().filter(|worker| !worker.draining).count();
        Ok(u32::try_from(takes_jobs).unwrap_or(u32::MAX))
    }

    /// `None` when some call may always start.
    async fn quota(&self) -> Result<Option<Quota>, StoreError> {
        if self.limiters.len() < self.pools {
            return Ok(None);
        }
        let quotas = self.limiters.iter().map(|of| of.limiter.quota());
        Ok(Quota::together(&futures::future::try_join_all(quotas).await?))
    }
}
