//! When a worker that crashed is started again. Pure.

use std::time::Duration;

/// Before the first start after a crash; it doubles with each.
const BASE: Duration = Duration::from_millis(500);
/// A worker that cannot start costs this machine little at that rate, and comes soon when it can again.
const CAP: Duration = Duration::from_secs(30);
/// A worker that ran for so long did not crash because of how it was started.
pub(super) const STABLE: Duration = Duration::from_secs(60);

/// The wait after so many crashes on end; `jitter` is in 0..1.
pub(super) fn after(crashes: u32, jitter: f64) -> Duration {
    let ceiling = CAP.min(BASE.saturating_mul(2_u32.saturating_pow(crashes.saturating_sub(1))));
    ceiling.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_waits_longer_each_time_up_to_a_cap_and_never_in_step_with_others() {
        assert_eq!((after(1, 0.0), after(1, 1.0)), (BASE / 2, BASE));
        assert_eq!(after(3, 1.0), BASE * 4);
        assert_eq!((after(20, 1.0), after(u32::MAX, 0.0)), (CAP, CAP / 2));
    }
}
