//! Keeps one job's lease, and says when it cannot be kept.

use std::time::{Duration, Instant};

use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use millhand_common::ports::{JobStore, Lease, Renewed};

/// Output stops this long before the lease can have ended, on this machine's monotonic clock.
const MARGIN: Duration = Duration::from_secs(1);
/// A renewal that fails to reach the store is tried again this soon.
const RETRY: Duration = Duration::from_millis(300);

/// What the store asks of a running job.
#[derive(Default)]
pub(crate) struct Orders {
    /// Renew now: somebody doubts that this owner lives.
    pub(crate) renew: Notify,
    /// Stop, and close the job as cancelled.
    pub(crate) cancel: CancellationToken,
}

/// Why a lease is not kept any longer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum LeaseEnd {
    /// Somebody else may own the job: not a byte more.
    Lost,
    Cancelled,
    Expired,
}

/// Renews until the lease ends; `taken` is a moment before the claim was sent. Cancel-safe: a dropped
/// renewal was applied or not, and the lease outlives both.
pub(crate) async fn keep(store: &dyn JobStore, lease: &Lease, taken: Instant, orders: &Orders) -> LeaseEnd {
    let mut good = taken;
    let mut wait = Lease::RENEW_EVERY;
    loop {
        // Cancel-safe: all branches only wait.
        tokio::select! {
            biased;
            () = orders.cancel.cancelled() => return LeaseEnd::Cancelled,
            () = orders.renew.notified() => {}
            () = tokio::time::sleep(wait) => {}
        }
        let asked = Instant::now();
        let fence = good + Lease::TTL - MARGIN;
        if asked >= fence {
            return LeaseEnd::Lost;
        }
        wait = match tokio::time::timeout(fence - asked, store.renew(lease)).await {
            Ok(Ok(Renewed::Ok)) => {
                good = asked;
                Lease::RENEW_EVERY
            }
            Ok(Ok(Renewed::CancelRequested)) => return LeaseEnd::Cancelled,
            Ok(Ok(Renewed::Expired)) => return LeaseEnd::Expired,
            Ok(Ok(Renewed::Fenced)) | Err(_) => return LeaseEnd::Lost,
            Ok(Err(_)) => RETRY,
        };
    }
}
