//! `[brownout]` of the configuration.

use std::time::Duration;

use serde::Deserialize;

use super::Step;

/// Which steps are taken, and when. Each `_at` is a share of `longest_wait`: of the wait that is expected, or of
/// the age of the oldest job that could start, whichever is longer.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct BrownoutConfig {
    /// Steps that may be taken; an empty list turns all of it off. By default only what changes no answer and
    /// refuses none.
    pub steps: Vec<Step>,
    /// The wait in the interactive lane that is still allowed; absent,
    /// `api.admission.max_wait_interactive`, else a minute: half the default deadline.
    #[serde(with = "humantime_serde")]
    pub longest_wait: Option<Duration>,
    pub coalesce_at: f64,
    pub fewer_passages_at: f64,
    pub smaller_model_at: f64,
    pub refuse_batch_at: f64,
    /// Above 1: up to there admission does it better, since it knows each job's deadline and tenant.
    pub refuse_all_at: f64,
    /// How long the wait has to be that long without a break before a step is taken.
    #[serde(with = "humantime_serde")]
    pub rise_after: Duration,
    /// How long it has to be less than half of that before the step is taken back.
    #[serde(with = "humantime_serde")]
    pub fall_after: Duration,
    /// Longest answer, in tokens, while `smaller_model` is taken; absent, answers are as long as ever.
    pub max_output_tokens: Option<u32>,
}

impl Default for BrownoutConfig {
    fn default() -> Self {
        Self {
            steps: vec![Step::Coalesce],
            longest_wait: None,
            coalesce_at: 0.1,
            fewer_passages_at: 0.25,
            smaller_model_at: 0.5,
            refuse_batch_at: 0.75,
            refuse_all_at: 1.5,
            rise_after: Duration::from_secs(5),
            fall_after: Duration::from_secs(30),
            max_output_tokens: None,
        }
    }
}

impl BrownoutConfig {
    const LONGEST_WAIT: Duration = Duration::from_secs(60);

    #[must_use]
    pub fn longest_wait(&self) -> Duration {
        self.longest_wait.unwrap_or(Self::LONGEST_WAIT)
    }

    /// The share at which each step is taken, mildest first.
    #[must_use]
    pub fn shares(&self) -> [(Step, f64); 5] {
        Step::ALL.map(|step| {
            let share = match step {
                Step::Coalesce => self.coalesce_at,
                Step::FewerPassages => self.fewer_passages_at,
                Step::SmallerModel => self.smaller_model_at,
                Step::RefuseBatch => self.refuse_batch_at,
                Step::RefuseAll => self.refuse_all_at,
            };
            (step, share)
        })
    }

    /// The steps that may be taken.
    pub(super) fn ladder(&self) -> Vec<(Step, f64)> {
        self.shares().into_iter().filter(|(step, _)| self.steps.contains(step)).collect()
    }
}
