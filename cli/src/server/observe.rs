//! What there is to know before it is decided how many workers there should be.

use std::time::Duration;

use millhand_common::ports::{JobStore, StoreError};
use millhand_common::scale::{Observed, Settings};

/// Asks the store. Reads only; may be dropped.
pub(super) async fn observe(store: &dyn JobStore, _settings: &Settings) -> Result<Observed, StoreError> {
    let workers = store.workers().await?.iter().filter(|worker| !worker.draining).count();
    let mut observed =
        Observed { workers: u32::try_from(workers).unwrap_or(u32::MAX), ..Observed::default() };
    for lane in store.depth().await? {
        observed.ready += lane.ready;
        observed.running += lane.running;
        observed.oldest_ready = observed.oldest_ready.max(Duration::from_millis(lane.oldest_ready_ms));
    }
    Ok(observed)
}
