//! Waits for the end of a job.

use std::time::Duration;

use millhand_common::model::{Job, JobId, TenantId};
use millhand_common::ports::{Lookup, Signal};

use crate::error::ApiError;
use crate::state::{ApiInner, ask};

impl ApiInner {
    /// The job as it is now.
    pub(crate) async fn job(&self, tenant: &TenantId, id: JobId) -> Result<Job, ApiError> {
        match ask(self.ports.reader.get(tenant, id)).await? {
            Lookup::Found(job) => Ok(*job),
            Lookup::Gone => Err(ApiError::gone("The job is no longer kept.")),
            Lookup::Unknown => Err(ApiError::job_not_found()),
        }
    }

    /// The job when it is terminal, or as it is after `wait`; at once when this process is to stop.
    pub(crate) async fn job_after(
        &self,
        tenant: &TenantId,
        id: JobId,
        wait: Duration,
    ) -> Result<Job, ApiError> {
        let job = self.job(tenant, id).await?;
        if wait.is_zero() || job.status.is_terminal() {
            return Ok(job);
        }
        // Cancel-safe: waiting only reads.
        tokio::select! {
            ended = self.ended(tenant, id) => ended,
            () = tokio::time::sleep(wait) => self.job(tenant, id).await,
            () = self.stopping.cancelled() => self.job(tenant, id).await,
        }
    }

    async fn ended(&self, tenant: &TenantId, id: JobId) -> Result<Job, ApiError> {
        loop {
            // Subscribe before looking, so that the end cannot fall between the two.
            let mut news = ask(self.ports.reader.subscribe(tenant, id, u64::MAX)).await?;
            loop {
                let job = self.job(tenant, id).await?;
                if job.status.is_terminal() {
                    return Ok(job);
                }
                let signal = loop {
                    match news.next().await {
                        Signal::Event(event) if !event.is_terminal() => {}
                        signal => break signal,
                    }
                };
                if let Signal::Closed = signal {
                    break;
                }
            }
        }
    }
}
