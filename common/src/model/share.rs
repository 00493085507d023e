//! What a tenant may have of the workers.

use std::collections::BTreeMap;
use std::time::Duration;

use super::{TenantId, Timestamp};

/// A tenant's part of what all tenants share.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// Of two tenants that both have jobs waiting, one with twice the weight runs twice as many.
    pub weight: u32,
    /// Jobs that run at a time; more wait.
    pub max_running: Option<u32>,
    /// Jobs that wait at a time in each lane; more are refused.
    pub max_queued: Option<u32>,
    /// Submits at each ingress; more are refused.
    pub submits_per_minute: Option<u32>,
}

impl Share {
    pub const WEIGHTS: std::ops::RangeInclusive<u32> = 1..=100;
    /// A tenant whose last job began longer ago than this counts as never served.
    pub const REMEMBERED: Duration = Duration::from_secs(3600);

    /// Whether another job may run beside `running`.
    #[must_use]
    pub fn has_room(self, running: u32) -> bool {
        self.max_running.is_none_or(|most| running < most)
    }

    /// Where a tenant stands among others that have jobs waiting, the lowest first: who runs least for its
    /// weight, then whose last job began longest ago. The second decides where there are few slots, and
    /// keeps a tenant with a long queue from having every slot that falls free.
    ///
    /// One number, as a sorted set of Redis wants it: it stays a whole one of less than 2^53 up to 2,800
    /// running jobs for each point of weight.
    #[must_use]
    pub fn turn(self, running: u32, served: Option<Timestamp>) -> u64 {
        /// Steps between two running jobs of a tenant of weight 1.
        const STEPS: u64 = 32;
        /// More than the hundredths of a second from 2026 to 2057.
        const STEP: u64 = 100_000_000_000;
        const SINCE_2026: u64 = 1_767_225_600_000;
        let served = served.map_or(0, |at| at.as_millis().saturating_sub(SINCE_2026) / 10);
        u64::from(running) * STEPS / u64::from(self.weight.max(1)) * STEP + served.min(STEP - 1)
    }
}

impl Default for Share {
    fn default() -> Self {
        Self { weight: 1, max_running: None, max_queued: None, submits_per_minute: None }
    }
}

/// The shares of all tenants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Shares {
    /// Of tenants that are not named.
    pub others: Share,
    pub tenants: BTreeMap<TenantId, Share>,
}

impl Shares {
    #[must_use]
    pub fn of(&self, tenant: &TenantId) -> Share {
        self.tenants.get(tenant).copied().unwrap_or(self.others)
    }

    /// Whether a tenant with so many jobs in line, a new one counted, is below its share while another one
    /// holds a backlog of so many: then its job does not go behind that backlog.
    #[must_use]
    pub fn is_below(&self, (tenant, waiting): (&TenantId, u64), (other, backlog): (&TenantId, u64)) -> bool {
        let [mine, theirs] = [tenant, other].map(|tenant| u64::from(self.of(tenant).weight));
        tenant != other && waiting * theirs < backlog * mine
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_runs_least_for_its_weight_is_first_and_then_who_was_served_longest_ago() {
        let (one, three) = (Share::default(), Share { weight: 3, ..Share::default() });
        let at = |millis: u64| Some(Timestamp::from_millis(1_800_000_000_000 + millis));
        assert!(one.turn(0, at(0)) < one.turn(1, None), "running counts first");
        assert!(three.turn(2, at(0)) < one.turn(1, at(0)), "two of three is less than one of one");
        assert!(one.turn(1, at(0)) < three.turn(4, at(0)));
        assert!(one.turn(2, at(0)) < one.turn(2, at(10)), "then the one that waited longer");
        assert!(one.turn(2, None) < one.turn(2, at(0)));
        assert!(one.turn(2800, at(0)) < 1 << 53, "exact as a floating-point number");
    }

    #[test]
    fn a_backlog_is_measured_by_weight() {
        let [small, large]: [TenantId; 2] = ["small", "large"].map(|name| name.parse().unwrap());
        let mut shares = Shares::default();
        assert!(shares.is_below((&small, 1), (&large, 2)));
        assert!(!shares.is_below((&small, 2), (&large, 2)));
        assert!(!shares.is_below((&large, 1), (&large, 2)), "nobody stands behind itself");
        shares.tenants.insert(large.clone(), Share { weight: 4, ..Share::default() });
        assert!(!shares.is_below((&small, 1), (&large, 4)));
        assert!(shares.is_below((&small, 1), (&large, 5)));
    }
}
