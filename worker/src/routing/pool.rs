//! One model of one account, with all that its calls share in this process.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::{counter, gauge};
use millhand_common::ports::{ChatModel, ModelError};
use millhand_common::telemetry;
use tokio::time::Instant;

use super::breaker::{Breaker, Entry, Signal};
use super::budget::RetryBudget;
use super::width::Width;
use crate::quota::Quota;

/// Where calls go: a model with a quota, a breaker, a retry budget and a width of its own.
pub struct Pool {
    name: String,
    model: Arc<dyn ChatModel>,
    quota: Option<Arc<Quota>>,
    started: Instant,
    health: Mutex<Health>,
}

struct Health {
    breaker: Breaker,
    budget: RetryBudget,
    width: Width,
    /// How the last call ended that was a sign of sickness.
    last_failure: String,
}

impl Pool {
    /// `name` is the configuration's; without a quota its calls are not limited.
    #[must_use]
    pub fn new(name: &str, model: Arc<dyn ChatModel>, quota: Option<Arc<Quota>>) -> Arc<Self> {
        let health = Health {
            breaker: Breaker::default(),
            budget: RetryBudget::new(Duration::ZERO),
            width: Width::default(),
            last_failure: String::new(),
        };
        let pool =
            Self { name: name.to_owned(), model, quota, started: Instant::now(), health: Mutex::new(health) };
        pool.show(&pool.lock());
        Arc::new(pool)
    }

    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn model(&self) -> &dyn ChatModel {
        &*self.model
    }

    pub(crate) fn quota(&self) -> Option<&Arc<Quota>> {
        self.quota.as_ref()
    }

    /// The right to make one call; else why there is none.
    pub(crate) fn enter(self: &Arc<Self>) -> Result<Pass, NoEntry> {
        let mut health = self.lock();
        let entered = self.now();
        let entry = health.breaker.enter(entered);
        let probe = match entry {
            Entry::Pass if health.width.enter(entered) => Ok(false),
            Entry::Pass => Err(NoEntry::Full),
            Entry::Probe => {
                health.width.enter_anyway();
                Ok(true)
            }
            Entry::Shut(wait) => Err(NoEntry::Shut(wait)),
        };
        self.show(&health);
        probe.map(|probe| Pass { pool: Arc::clone(self), entered, probe })
    }

    /// How long no call may be made; `None` when one may.
    pub(crate) fn shut_for(&self) -> Option<Duration> {
        self.lock().breaker.shut_for(self.now())
    }

    /// How its last call ended that told of sickness.
    pub(crate) fn last_failure(&self) -> String {
        self.lock().last_failure.clone()
    }

    /// Takes one retry in place out of the budget, if there is one.
    pub(crate) fn may_retry(&self) -> bool {
        let mut health = self.lock();
        let may = health.budget.take(self.now());
        self.show(&health);
        if may {
            counter!(telemetry::MODEL_RETRIES, "pool" => self.name.clone()).increment(1);
        }
        may
    }

    fn ended(&self, entered: Duration, probe: bool, failed: Option<&ModelError>) {
        let signal = failed.map_or(Signal::Good, signal);
        let mut health = self.lock();
        if let Some(ModelError::Overloaded { .. }) = failed {
            health.width.overloaded(self.now(), entered);
        }
        if let (Signal::Sick | Signal::NoCredit, Some(err)) = (signal, failed) {
            health.last_failure = err.to_string();
        }
        let before = health.breaker.gauge();
        health.breaker.ended(self.now(), probe, signal);
        if signal == Signal::Good {
            health.budget.succeeded();
        }
        self.show(&health);
        let (after, pause) = (health.breaker.gauge(), health.breaker.shut_for(self.now()));
        if before < after {
            let pause_ms = pause.unwrap_or_default().as_millis();
            tracing::warn!(pool = self.name, pause_ms, "the model pool is left alone");
        } else if after < before {
            tracing::info!(pool = self.name, "the model pool is well again");
        }
    }

    fn show(&self, health: &Health) {
        let Health { breaker, budget, width, .. } = health;
        gauge!(telemetry::MODEL_BREAKER_STATE, "pool" => self.name.clone()).set(breaker.gauge());
        gauge!(telemetry::MODEL_RETRY_BUDGET_LEFT, "pool" => self.name.clone()).set(budget.left());
        gauge!(telemetry::MODEL_WIDTH, "pool" => self.name.clone()).set(width.limit().unwrap_or(0.0));
    }

    fn now(&self) -> Duration {
        self.started.elapsed()
    }

    fn lock(&self) -> MutexGuard<'_, Health> {
        self.health.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Why no call may be made now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NoEntry {
    /// The pool is left alone for this long.
    Shut(Duration),
    /// As many calls are under way as the provider could bear when it last had too much to do.
    Full,
}

/// The right to make one call of a pool. Dropped, it leaves no trace.
pub(crate) struct Pass {
    pool: Arc<Pool>,
    /// When it was given.
    entered: Duration,
    /// It finds out whether the pool is well again: others wait for it.
    probe: bool,
}

impl Pass {
    pub(crate) fn pool(&self) -> &Arc<Pool> {
        &self.pool
    }

    /// Text has come: who waits for a probe need not wait for its last word.
    pub(crate) fn answering(&mut self) {
        if std::mem::take(&mut self.probe) {
            self.pool.ended(self.entered, true, None);
        }
    }

    /// The call has ended.
    pub(crate) fn ended(mut self, failed: Option<&ModelError>) {
        let probe = std::mem::take(&mut self.probe);
        self.pool.ended(self.entered, probe, failed);
    }
}

impl Drop for Pass {
    fn drop(&mut self) {
        let mut health = self.pool.lock();
        health.width.leave();
        if self.probe {
            health.breaker.probe_lost(self.pool.now());
        }
        self.pool.show(&health);
    }
}

fn signal(err: &ModelError) -> Signal {
    match err {
        ModelError::Overloaded { .. }
        | ModelError::Unavailable(_)
        | ModelError::TimedOut
        | ModelError::Malformed(_) => Signal::Sick,
        ModelError::NoCredit(_) => Signal::NoCredit,
        ModelError::RateLimited { .. }
        | ModelError::TooLarge(_)
        | ModelError::Rejected(_)
        | ModelError::Filtered(_)
        | ModelError::Unauthorized => Signal::Refused,
    }
}
