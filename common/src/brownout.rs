//! What is done without while more work waits than should: a ladder of steps, each of which makes work cheaper
//! or refuses some of it.
//!
//! Nobody coordinates it. Each process that serves or works looks once a second at what the store counts of the
//! interactive lane ([`JobStore::depth`]), and goes by the same rule (`ladder.rs`), so all of them stand on the
//! same step within a second or two; one that has just started begins at the bottom.
//!
//! It does not take the place of admission, which refuses what could not start in time: by then the steps that
//! make work cheaper are taken, and only the last one is for waits that admission should not have let come up.
//! It goes by the interactive lane, because nobody waits for a batch job, and by all tenants of it together.

mod config;
mod ladder;
mod load;

use std::sync::Arc;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::model::Lane;
use crate::ports::JobStore;
use crate::telemetry;

pub use config::BrownoutConfig;
use ladder::Ladder;
use load::Load;

/// Between two looks at the store.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// The steps, from the mildest to the hardest.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    /// Text is written to the log ten times a second, not as it comes.
    Coalesce,
    /// Answers rest on fewer passages, which no reranker orders.
    FewerPassages,
    /// Agents ask the smaller model of their class, and answers are shorter, where either is configured.
    SmallerModel,
    /// No batch job is accepted.
    RefuseBatch,
    /// No job is accepted.
    RefuseAll,
}

impl Step {
    /// Mildest first.
    pub const ALL: [Self; 5] =
        [Self::Coalesce, Self::FewerPassages, Self::SmallerModel, Self::RefuseBatch, Self::RefuseAll];

    /// As the metric counts it: the mildest is 1.
    fn number(self) -> u8 {
        self as u8 + 1
    }
}

/// Which steps are taken now, for all that go by it.
#[derive(Debug)]
pub struct Brownout {
    config: BrownoutConfig,
    /// The hardest step that is taken.
    at: watch::Sender<Option<Step>>,
}

impl Default for Brownout {
    /// No step is ever taken.
    fn default() -> Self {
        Self::new(BrownoutConfig { steps: Vec::new(), ..BrownoutConfig::default() })
    }
}

impl Brownout {
    /// No step is taken until [`Self::watch`] sees a reason.
    #[must_use]
    pub fn new(config: BrownoutConfig) -> Self {
        let at = watch::Sender::new(None);
        Self { config, at }
    }

    /// One that stands on `step`, whatever the load is.
    #[must_use]
    pub fn at(config: BrownoutConfig, step: Step) -> Self {
        let brownout = Self::new(config);
        brownout.at.send_replace(Some(step));
        brownout
    }

    /// Whether this step is taken now.
    #[must_use]
    pub fn takes(&self, step: Step) -> bool {
        self.config.steps.contains(&step) && self.at.borrow().is_some_and(|at| step <= at)
    }

    /// Returns when [`Self::takes`] no longer says `now` of `step`. Cancel-safe.
    pub async fn turned(&self, step: Step, now: bool) {
        let mut at = self.at.subscribe();
        while self.takes(step) == now {
            // Its sender is here.
            if at.changed().await.is_err() {
                return;
            }
        }
    }

    #[must_use]
    pub fn config(&self) -> &BrownoutConfig {
        &self.config
    }

    /// Looks at the store until `stopping`, or only waits for it where no step is ever taken. While the store does
    /// not answer nothing changes.
    pub async fn watch(self: Arc<Self>, store: Arc<dyn JobStore>, stopping: CancellationToken) {
        let steps = self.config.ladder();
        metrics::gauge!(telemetry::BROWNOUT_LEVEL).set(0.0);
        let (started, mut load) = (Instant::now(), Load::default());
        let mut ladder = Ladder::new(steps, self.config.rise_after, self.config.fall_after);
        while !self.config.steps.is_empty() {
            // Cancel-safe: both branches only wait.
            tokio::select! {
                () = stopping.cancelled() => return,
                () = tokio::time::sleep(LOOK_EVERY) => {}
            }
            if let Ok(lanes) = store.depth(Duration::ZERO).await
                && let Some(lane) = lanes.iter().find(|lane| lane.lane == Lane::Interactive)
            {
                let now = started.elapsed();
                let wait = load.expected_wait(now, lane);
                self.stand_on(ladder.look(now, wait.div_duration_f64(self.config.longest_wait())), wait);
            }
        }
        stopping.cancelled().await;
    }

    fn stand_on(&self, step: Option<Step>, wait: Duration) {
        let changed = self.at.send_if_modified(|at| std::mem::replace(at, step) != step);
        if !changed {
            return;
        }
        metrics::gauge!(telemetry::BROWNOUT_LEVEL).set(f64::from(step.map_or(0, Step::number)));
        let expected_wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        match step {
            Some(step) => tracing::warn!(?step, expected_wait_ms, "brownout"),
            None => tracing::info!(expected_wait_ms, "the brownout is over"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn only_configured_steps_are_taken_and_who_waits_for_a_turn_is_told() {
        let steps = vec![Step::Coalesce, Step::RefuseBatch];
        let brownout = Brownout::new(BrownoutConfig { steps, ..BrownoutConfig::default() });
        let taken = || Step::ALL.map(|step| brownout.takes(step));
        assert_eq!(taken(), [false; 5]);
        let turned = brownout.turned(Step::RefuseBatch, false);
        let rise = async {
            for step in Step::ALL {
                brownout.stand_on(Some(step), Duration::ZERO);
                tokio::task::yield_now().await;
            }
        };
        tokio::join!(turned, rise);
        assert_eq!(taken(), [true, false, false, true, false]);
        brownout.stand_on(None, Duration::ZERO);
        brownout.turned(Step::Coalesce, true).await;
        assert_eq!(taken(), [false; 5]);
    }
}
