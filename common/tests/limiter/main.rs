//! The rate limiter: the adapter in memory is held to the suite, and the core to an exact model of the
//! provider, in virtual time.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod exact;
mod provider;
mod simulation;

use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use millhand_common::adapters::local::LocalLimiter;
use millhand_common::conformance::limiter::Subject;
use millhand_common::ports::LimitPolicy;

async fn open(policy: LimitPolicy) -> Subject {
    let clock = Arc::new(AtomicU64::new(1_000_000));
    Subject { limiter: Arc::new(LocalLimiter::with_clock(policy, Arc::clone(&clock))), clock }
}

millhand_common::limiter_conformance!(open);
