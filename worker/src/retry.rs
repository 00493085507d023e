//! When a failed attempt is tried again. Pure.

use std::time::Duration;

use millhand_common::model::{Event, EventBody, WaitReason};

/// Attempts that may fail for a transient reason before the job does.
pub const MAX_RETRIES: u32 = 3;
/// The wait before the first retry; it doubles with each.
const BASE: Duration = Duration::from_millis(500);
const CAP: Duration = Duration::from_secs(30);

/// What happens to a job whose attempt failed for a transient reason.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// Give the job back, not to start before this long from now.
    RetryAfter(Duration),
    GiveUp,
}

/// `after` is what the failing side asked for, a floor; `jitter` is in 0..1.
#[must_use]
pub fn after_failure(retries: u32, after: Option<Duration>, left: Duration, jitter: f64) -> Verdict {
    if retries >= MAX_RETRIES {
        return Verdict::GiveUp;
    }
    let ceiling = CAP.min(BASE * 2_u32.saturating_pow(retries));
    let wait = ceiling.mul_f64(jitter.clamp(0.0, 1.0)).max(after.unwrap_or(Duration::ZERO));
    // A retry that starts after the deadline is none.
    if wait >= left { Verdict::GiveUp } else { Verdict::RetryAfter(wait) }
}

/// Retries a log has seen.
#[must_use]
pub fn retries_in(log: &[Event]) -> u32 {
    let retry = |event: &&Event| {
        matches!(event.body(), Some(EventBody::JobWaiting { reason: WaitReason::Retry, .. }))
    };
    u32::try_from(log.iter().filter(retry).count()).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_retry_waits_longer_each_time_obeys_its_floor_and_never_passes_the_deadline() {
        let left = Duration::from_secs(60);
        assert_eq!(after_failure(0, None, left, 1.0), Verdict::RetryAfter(BASE));
        assert_eq!(after_failure(2, None, left, 1.0), Verdict::RetryAfter(BASE * 4));
        let asked = Duration::from_secs(20);
        assert_eq!(after_failure(0, Some(asked), left, 0.0), Verdict::RetryAfter(asked));
        assert_eq!(after_failure(0, Some(left), left, 0.0), Verdict::GiveUp);
        assert_eq!(after_failure(MAX_RETRIES, None, left, 0.0), Verdict::GiveUp);
    }
}
