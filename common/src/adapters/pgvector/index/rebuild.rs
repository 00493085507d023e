//! Building the index anew from the documents.

use std::time::Duration;

use super::PgvectorIndex;
use super::state::{self, BUILDING, Found};
use crate::ports::{Documents, IndexError};
use crate::search::{RebuildError, fill};

/// How often who waits for another's build looks whether it is done.
const LOOK: Duration = Duration::from_millis(250);

impl PgvectorIndex {
    /// Indexes every current document for this analyser and embedder; answers how many, 0 when another
    /// process has done so. Of many at once one builds, the others wait for it. Writes may go on once
    /// it has begun: the fence of each name decides. May be dropped: the index is not complete then,
    /// and the next to open it is told.
    pub async fn rebuild_from(&self, documents: &dyn Documents) -> Result<u64, RebuildError> {
        let mut lock = self.pool.acquire().await.map_err(IndexError::from)?;
        // The lock belongs to the connection, and goes with it.
        lock.close_on_drop();
        loop {
            let mine: bool = sqlx::query_scalar("SELECT pg_try_advisory_lock($1)")
                .bind(BUILDING)
                .fetch_one(&mut *lock)
                .await
                .map_err(IndexError::from)?;
            match state::find(&mut *lock, self.embedder_name()).await? {
                Found::Same(state) if state.complete => return Ok(0),
                _ if mine => break,
                _ => tokio::time::sleep(LOOK).await,
            }
        }
        state::begin_anew(&self.pool, self.embedder_name()).await?;
        let count = fill(self, documents, self.options.embedder.as_deref()).await?;
        state::complete(&self.pool).await?;
        tracing::info!(documents = count, "index built anew");
        Ok(count)
    }
}
