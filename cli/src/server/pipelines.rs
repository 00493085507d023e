//! What a worker does with a job, by its kind.

use async_trait::async_trait;
use millhand_common::model::{JobError, JobKind, Terminal};
use millhand_worker::Pipeline;
use millhand_worker::attempt::{Attempt, Failure};
use millhand_worker::ingest::{IngestDeps, ingest};
use millhand_worker::pipeline::{AnswerDeps, answer};

/// Both pipelines with what they need.
pub(super) struct Pipelines {
    pub(super) answer: AnswerDeps,
    /// `None` without an index.
    pub(super) ingest: Option<IngestDeps>,
}

#[async_trait]
impl Pipeline for Pipelines {
    async fn run(&self, attempt: &Attempt) -> Result<Terminal, Failure> {
        match (attempt.job().spec.kind(), &self.ingest) {
            (JobKind::Chat, _) => answer(attempt, &self.answer).await,
            (JobKind::Ingest, Some(deps)) => ingest(attempt, deps).await,
            // Accepted under an earlier configuration.
            (JobKind::Ingest, None) => Err(Failure::Fatal(JobError::new(
                "index_not_configured",
                "this server has no index: configure [index] and add the documents again",
                true,
            ))),
        }
    }
}
