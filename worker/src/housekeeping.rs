//! What time brings, done by every process that has a store: sweeps, and documents nobody needs.

use std::sync::Arc;
use std::time::Duration;

use millhand_common::model::Timestamp;
use millhand_common::ports::{Documents, DocumentsError, JobReader, JobStore};
use tokio_util::sync::CancellationToken;

use crate::run::jitter;

/// Between two sweeps of one process, on average: bounds how late a lost owner is noticed.
const SWEEP_EVERY: Duration = Duration::from_millis(250);
/// More workers than these sweep no more often all together: a sweep takes a store that they share a millisecond or
/// two, and many idle workers would leave it no time for anything else.
const SWEEPERS: u64 = 4;
/// But none sweeps more seldom than this many times that: what it saw of the lines of tenants grows old.
const MOST_SELDOM: u32 = 8;
/// Between two looks at stored documents.
const TIDY_EVERY: Duration = Duration::from_secs(60);
/// Uploads this old belong to no open job: longer than the longest deadline.
const UPLOAD_ORPHANED: Duration = Duration::from_secs(25 * 3600);
/// Replaced documents looked at in one go.
const REPLACED_AT_ONCE: usize = 500;

/// Sweeps until shutdown.
pub async fn sweep(store: Arc<dyn JobStore>, shutdown: CancellationToken) {
    let mut every = SWEEP_EVERY;
    loop {
        // Cancel-safe: both branches only wait.
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(every.mul_f64(0.5 + jitter())) => {}
        }
        match store.sweep().await {
            Ok(report) => {
                every = sweep_every(report.workers);
                if report.taken_over + report.expired + report.poisoned > 0 {
                    tracing::info!(
                        taken_over = report.taken_over,
                        expired = report.expired,
                        poisoned = report.poisoned,
                        "sweep"
                    );
                }
            }
            Err(err) => tracing::warn!(error = %err, "sweep failed"),
        }
    }
}

fn sweep_every(workers: u64) -> Duration {
    let rounds = u32::try_from(workers.div_ceil(SWEEPERS)).unwrap_or(MOST_SELDOM);
    SWEEP_EVERY * rounds.clamp(1, MOST_SELDOM)
}

/// Drops orphaned uploads, and texts of replaced documents that no kept job cites, until shutdown.
pub async fn tidy(documents: Arc<dyn Documents>, reader: Arc<dyn JobReader>, shutdown: CancellationToken) {
    loop {
        if let Err(err) = tidy_once(&*documents, &*reader).await {
            tracing::warn!(error = %err, "tidying documents failed");
        }
        // Cancel-safe: both branches only wait.
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(TIDY_EVERY) => {}
        }
    }
}

async fn tidy_once(documents: &dyn Documents, reader: &dyn JobReader) -> Result<(), DocumentsError> {
    documents.drop_uploads_before(Timestamp::now() - UPLOAD_ORPHANED).await?;
    for (tenant, id) in documents.replaced(REPLACED_AT_ONCE).await? {
        if let Ok(false) = reader.is_cited(id).await {
            documents.forget(&tenant, id).await?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_workers_sweep_no_more_often_than_a_few_and_none_forgets_to() {
        let every = [0, 1, 4, 5, 8, 32, 1000].map(|workers| sweep_every(workers).as_millis());
        assert_eq!(every, [250, 250, 250, 500, 500, 2000, 2000]);
    }
}
