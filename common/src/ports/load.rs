//! How much work there is, as operators and whoever starts workers need it.

use std::ops::AddAssign;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::model::{Lane, Status, TenantId};

/// The work of one lane, over all tenants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LaneDepth {
    pub lane: Lane,
    /// Could start now.
    pub ready: u64,
    /// Waits for a time, its conversation or its tenant's share.
    pub waiting: u64,
    /// Of these, what waits for a time that comes soon.
    pub due_soon: u64,
    pub running: u64,
    /// Age of the oldest ready job, in milliseconds since it became ready.
    pub oldest_ready_ms: u64,
    /// Nothing of it is claimed until an operator resumes it.
    pub paused: bool,
    #[serde(flatten)]
    pub totals: Totals,
}

impl LaneDepth {
    /// A lane in which nothing ever was.
    #[must_use]
    pub fn empty(lane: Lane) -> Self {
        Self {
            lane,
            ready: 0,
            waiting: 0,
            due_soon: 0,
            running: 0,
            oldest_ready_ms: 0,
            paused: false,
            totals: Totals::default(),
        }
    }
}

/// Counters that only grow, and outlive processes; one that falls was started anew.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Totals {
    /// Jobs that became ready for the first time. One that had to wait for a time is counted when it is first
    /// claimed.
    pub arrived: u64,
    /// Attempts that ended their job with an answer. One that failed or went back to the queue is no
    /// progress, and is counted in none of `ended`, `busy` and `calls`.
    pub ended: u64,
    /// The time that those took in their slots, together.
    #[serde(rename = "busy_ms", with = "millis")]
    pub busy: Duration,
    /// The model calls that their jobs made.
    pub calls: u64,
    /// Jobs that failed for good.
    pub failed: u64,
    /// Jobs whose deadline came before any text.
    pub expired: u64,
}

impl Totals {
    /// What the end of one job counts for, if it is one that nobody got an answer from.
    #[must_use]
    pub fn of_end(status: Status) -> Self {
        Self {
            failed: u64::from(status == Status::Failed),
            expired: u64::from(status == Status::Expired),
            ..Self::default()
        }
    }
}

impl AddAssign for Totals {
    fn add_assign(&mut self, more: Self) {
        self.arrived += more.arrived;
        self.ended += more.ended;
        self.busy += more.busy;
        self.calls += more.calls;
        self.failed += more.failed;
        self.expired += more.expired;
    }
}

/// What one tenant has of the queue and of the workers, over both lanes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct TenantLoad {
    pub tenant: TenantId,
    /// Of two tenants that both have jobs waiting, one with twice the weight runs twice as many.
    pub weight: u32,
    /// Jobs in line for a worker.
    pub waiting: u64,
    pub running: u64,
    /// It runs as many jobs as it may.
    pub at_cap: bool,
    /// For how long its first due job, of either lane, has waited without one of its jobs beginning, in
    /// milliseconds. 0 while nothing of it is due, and while its own cap or a paused lane is why.
    pub unserved_ms: u64,
}

mod millis {
    use std::time::Duration;

    use serde::{Deserialize, Deserializer, Serializer};

    pub(super) fn serialize<S: Serializer>(of: &Duration, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_u64(u64::try_from(of.as_millis()).unwrap_or(u64::MAX))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
        u64::deserialize(from).map(Duration::from_millis)
    }
}
