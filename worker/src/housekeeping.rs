//! What time brings, done by every process that has a store: sweeps, and documents nobody needs.

use std::sync::Arc;
use std::time::Duration;

use millhand_common::model::Timestamp;
use millhand_common::ports::{Documents, DocumentsError, JobReader, JobStore};
use tokio_util::sync::CancellationToken;

use crate::run::jitter;

/// Between two sweeps, on average: bounds how late a lost owner is noticed.
const SWEEP_EVERY: Duration = Duration::from_millis(250);
/// Between two looks at stored documents.
const TIDY_EVERY: Duration = Duration::from_secs(60);
/// Uploads this old belong to no open job: longer than the longest deadline.
const UPLOAD_ORPHANED: Duration = Duration::from_secs(25 * 3600);
/// Replaced documents looked at in one go.
const REPLACED_AT_ONCE: usize = 500;

/// Sweeps until shutdown.
pub async fn sweep(store: Arc<dyn JobStore>, shutdown: CancellationToken) {
    loop {
        // Cancel-safe: both branches only wait.
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(SWEEP_EVERY.mul_f64(0.5 + jitter())) => {}
        }
        match store.sweep().await {
            Ok(report) if report.taken_over + report.expired + report.poisoned > 0 => {
                tracing::info!(
                    taken_over = report.taken_over,
                    expired = report.expired,
                    poisoned = report.poisoned,
                    "sweep"
                );
            }
            Ok(_) => {}
            Err(err) => tracing::warn!(error = %err, "sweep failed"),
        }
    }
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
