//! A rate limiter for the process that is the only one on its quota.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use async_trait::async_trait;
use uuid::Uuid;

use crate::limiter::Pool;
use crate::ports::{
    Asking, Forecast, Levels, LimitPolicy, Quota, RateLimiter, Reserved, Said, StoreError, Used,
};

/// A [`RateLimiter`] in memory, on a clock that never steps. A process that starts takes everything for
/// used: an earlier one may have.
pub struct LocalLimiter {
    pool: Mutex<Pool>,
    clock: Clock,
}

enum Clock {
    Since(Instant),
    Manual(Arc<AtomicU64>),
}

impl LocalLimiter {
    #[must_use]
    pub fn new(policy: LimitPolicy) -> Self {
        Self { pool: Mutex::new(Pool::new(policy, 0)), clock: Clock::Since(Instant::now()) }
    }

    /// With a clock that tests move by hand, in milliseconds.
    #[must_use]
    pub fn with_clock(policy: LimitPolicy, clock: Arc<AtomicU64>) -> Self {
        let pool = Pool::new(policy, clock.load(Ordering::SeqCst));
        Self { pool: Mutex::new(pool), clock: Clock::Manual(clock) }
    }

    fn pool(&self) -> (MutexGuard<'_, Pool>, u64) {
        let pool = self.pool.lock().unwrap_or_else(PoisonError::into_inner);
        let now = match &self.clock {
            Clock::Since(start) => millis(start.elapsed()),
            Clock::Manual(millis) => millis.load(Ordering::SeqCst),
        };
        (pool, now)
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[async_trait]
impl RateLimiter for LocalLimiter {
    async fn reserve(&self, asking: &Asking) -> Result<Reserved, StoreError> {
        let (mut pool, now) = self.pool();
        Ok(pool.reserve(now, asking))
    }

    async fn settle(&self, call: Uuid, used: Used) -> Result<(), StoreError> {
        let (mut pool, now) = self.pool();
        pool.settle(now, call, used);
        Ok(())
    }

    async fn extend(&self, call: Uuid) -> Result<(), StoreError> {
        let (mut pool, now) = self.pool();
        pool.extend(now, call);
        Ok(())
    }

    async fn observe(&self, call: Uuid, said: &Said) -> Result<(), StoreError> {
        let (mut pool, now) = self.pool();
        pool.observe(now, call, said);
        Ok(())
    }

    async fn forecast(&self) -> Result<Forecast, StoreError> {
        let (pool, now) = self.pool();
        Ok(pool.forecast(now))
    }

    async fn offer(&self, most: u32) -> Result<Forecast, StoreError> {
        let (mut pool, now) = self.pool();
        Ok(pool.offer(now, most))
    }

    async fn quota(&self) -> Result<Option<Quota>, StoreError> {
        let (pool, now) = self.pool();
        Ok(pool.quota(now))
    }

    async fn levels(&self) -> Result<Levels, StoreError> {
        let (pool, now) = self.pool();
        Ok(pool.levels(now))
    }
}
