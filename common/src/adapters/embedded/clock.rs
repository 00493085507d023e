//! The store's clock.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::model::Timestamp;

/// Wall time read once and carried on by the monotonic clock, so that a stepped machine clock moves
/// no lease and no deadline of a running process. Tests may drive it by hand.
#[derive(Clone, Debug)]
pub struct Clock(Kind);

#[derive(Clone, Debug)]
enum Kind {
    System { wall: Timestamp, started: Instant },
    Manual(Arc<Manual>),
}

#[derive(Debug)]
struct Manual {
    millis: AtomicU64,
    advanced: Notify,
}

impl Clock {
    /// The machine's clock.
    #[must_use]
    pub fn system() -> Self {
        Self(Kind::System { wall: Timestamp::now(), started: Instant::now() })
    }

    /// A clock that stands still until [`Self::advance`].
    #[must_use]
    pub fn manual() -> Self {
        let millis = AtomicU64::new(Timestamp::now().as_millis());
        Self(Kind::Manual(Arc::new(Manual { millis, advanced: Notify::new() })))
    }

    /// Moves a manual clock on and wakes who sleeps on it; a system clock is left alone.
    pub fn advance(&self, by: Duration) {
        if let Kind::Manual(manual) = &self.0 {
            let millis = u64::try_from(by.as_millis()).unwrap_or(u64::MAX);
            manual.millis.fetch_add(millis, Ordering::SeqCst);
            manual.advanced.notify_waiters();
        }
    }

    #[must_use]
    pub fn now(&self) -> Timestamp {
        match &self.0 {
            Kind::System { wall, started } => *wall + started.elapsed(),
            Kind::Manual(manual) => Timestamp::from_millis(manual.millis.load(Ordering::SeqCst)),
        }
    }

    /// Returns at `at`, or now when it has passed. Cancel-safe.
    pub async fn sleep_until(&self, at: Timestamp) {
        loop {
            match &self.0 {
                Kind::System { .. } => {
                    let left = at.since(self.now());
                    if left.is_zero() {
                        return;
                    }
                    tokio::time::sleep(left).await;
                }
                Kind::Manual(manual) => {
                    let advanced = manual.advanced.notified();
                    if self.now() >= at {
                        return;
                    }
                    advanced.await;
                }
            }
        }
    }
}
