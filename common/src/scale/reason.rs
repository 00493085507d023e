//! Why there should be so many workers, in words.

use std::fmt;
use std::time::Duration;

use super::{Limit, SETTLE};

/// What decided.
#[derive(Clone, Debug, PartialEq)]
pub enum Reason {
    /// No job is ready, runs, or comes due soon.
    Idle,
    /// What comes in and what waits.
    Load {
        arrivals_per_second: f64,
        service_seconds: f64,
        /// Slots that are busy with what comes in.
        busy: f64,
        backlog: u64,
        /// Slots with all that is added to it.
        slots: f64,
    },
    /// The oldest job waits longer than the measures explain.
    Late { oldest: Duration, target: Duration },
    /// The workers there are use the quota up.
    QuotaUsed { workers: u32, limit: Limit, used: f64 },
    /// So many workers can, by what a job takes.
    QuotaEnough { workers: u32, limit: Limit, used: f64 },
    /// What jobs depend on is stuck.
    Stalled { still_for: Duration, running: u64 },
    /// Jobs still run.
    Running { jobs: u64 },
    /// Fewer would do, but not for long enough yet.
    Settling { needed: u32 },
    /// More would be needed than are allowed.
    Most { wanted: u32, max: u32 },
    /// Fewer would do than are allowed.
    Least { wanted: u32, min: u32 },
}

impl Reason {
    /// All that [`Self::as_str`] can be.
    pub const NAMES: [&str; 9] =
        ["idle", "load", "late", "quota", "stalled", "running", "settling", "max", "min"];

    /// As metrics name it; a closed set.
    #[must_use]
    pub fn as_str(&self) -> &'static str {
        match self {
            Self::Idle => "idle",
            Self::Load { .. } => "load",
            Self::Late { .. } => "late",
            Self::QuotaUsed { .. } | Self::QuotaEnough { .. } => "quota",
            Self::Stalled { .. } => "stalled",
            Self::Running { .. } => "running",
            Self::Settling { .. } => "settling",
            Self::Most { .. } => "max",
            Self::Least { .. } => "min",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Idle => write!(out, "idle: no job is ready, running or due soon"),
            Self::Load { arrivals_per_second, service_seconds, busy, backlog, slots } => write!(
                out,
                "load: {arrivals_per_second:.1} jobs/s of {service_seconds:.1} s keep {busy:.1} slots busy, \
                 {backlog} jobs wait; {:.0} slots needed",
                slots.ceil()
            ),
            Self::Late { oldest, target } => write!(
                out,
                "late: the oldest job has waited {} s, more than {} s; more workers than its numbers ask for",
                oldest.as_secs(),
                target.as_secs()
            ),
            Self::QuotaUsed { workers, limit, used } => write!(
                out,
                "quota binds: {} already {} {:.0} % of {}; more would wait",
                Workers(*workers),
                if *workers == 1 { "uses" } else { "use" },
                used * 100.0,
                limit.as_str()
            ),
            Self::QuotaEnough { workers, limit, used } => write!(
                out,
                "quota binds: {} can use all {}, of which {:.0} % are used now; more would wait",
                Workers(*workers),
                limit.as_str(),
                used * 100.0
            ),
            Self::Stalled { still_for, running } => write!(
                out,
                "stalled: none of {running} running jobs has ended for {} s; more would be stuck too",
                still_for.as_secs()
            ),
            Self::Running { jobs } => write!(out, "running: {jobs} jobs still run"),
            Self::Settling { needed } => {
                write!(out, "settling: {} would do, if still so for {} s", Workers(*needed), SETTLE.as_secs())
            }
            Self::Most { wanted, max } => write!(out, "max: {} wanted, {max} allowed", Workers(*wanted)),
            Self::Least { wanted, min } => write!(out, "min: {} would do, {min} kept", Workers(*wanted)),
        }
    }
}

struct Workers(u32);

impl fmt::Display for Workers {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            0 => write!(out, "no worker"),
            1 => write!(out, "1 worker"),
            many => write!(out, "{many} workers"),
        }
    }
}
