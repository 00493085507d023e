//! Queue in, answer out: takes jobs as slots allow, runs their pipeline, journals every step.

pub mod attempt;
pub mod cache;
mod consumer;
pub mod costs;
pub mod housekeeping;
pub mod ingest;
mod lease;
pub mod models;
mod observe;
pub mod pipeline;
pub mod quota;
pub mod retry;
pub mod routing;
mod run;

use async_trait::async_trait;

use millhand_common::model::Terminal;

use attempt::{Attempt, Failure};
pub use consumer::{Worker, WorkerConfig};

/// What a job's attempt does.
#[async_trait]
pub trait Pipeline: Send + Sync {
    /// Runs one attempt and says how the job ends. Dropped at any await when the attempt has to end:
    /// everything worth keeping is in the log by then.
    async fn run(&self, attempt: &Attempt) -> Result<Terminal, Failure>;
}
