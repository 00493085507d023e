//! The queue message of a job.

use serde::{Deserialize, Serialize};

use super::{JobId, Lane, TenantId};

/// Which job is ready, nothing more: the job's record in the store is the truth. Losing or doubling
/// a hint costs latency, never correctness.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hint {
    /// Format of this message; readers keep fields they do not know.
    pub v: u8,
    pub job: JobId,
    pub tenant: TenantId,
    pub lane: Lane,
    /// W3C trace context of the request that submitted the job.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub traceparent: Option<String>,
}
