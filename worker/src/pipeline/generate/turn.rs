//! Whose turn it is: the pools of a job's route, one after the other, each with its quota reserved first.

use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use millhand_common::model::{JobError, Timestamp};
use millhand_common::ports::ModelError;
use millhand_common::telemetry;

use crate::attempt::{Attempt, Failure};
use crate::pipeline::again::{self, Ending, Next, Standing, TOO_LONG, Tries, Why};
use crate::pipeline::compose::Prompt;
use crate::quota::{Denied, Permit};
use crate::routing::{NoEntry, OnUnavailable, Pass, Pool, Route};
use crate::run::jitter;

/// The right to make one call.
pub(super) struct Seat {
    /// Which of the route's pools it is of.
    pub(super) at: usize,
    pub(super) pass: Pass,
    /// `None` where calls are not limited.
    pub(super) permit: Option<Permit>,
}

impl Seat {
    pub(super) fn pool(&self) -> &Arc<Pool> {
        self.pass.pool()
    }

    /// What the model is called.
    pub(super) fn model(&self) -> &str {
        self.pool().model().name()
    }

    fn is_fresh(&self) -> bool {
        self.permit.as_ref().is_none_or(Permit::is_fresh)
    }

    /// Itself, while the call may still be sent on it; else it is given back.
    pub(super) async fn fresh(self) -> Option<Self> {
        if self.is_fresh() {
            return Some(self);
        }
        if let Some(permit) = self.permit {
            permit.give_back().await;
        }
        None
    }
}

/// How far an attempt is through the pools of its route.
pub(super) struct Turn<'a> {
    route: &'a Route,
    pools: Vec<Tried>,
}

#[derive(Default)]
struct Tried {
    tries: Tries,
    /// Why it is not asked again by this attempt.
    over: Option<Failed>,
}

enum Failed {
    Call(ModelError),
    Size(JobError),
}

impl<'a> Turn<'a> {
    pub(super) fn new(route: &'a Route) -> Self {
        Self { route, pools: route.pools.iter().map(|_| Tried::default()).collect() }
    }

    /// The first pool that may be called now, its quota waited for in place for at most `patience`; `None`
    /// when the job is to be answered without a model.
    ///
    /// # Errors
    /// What becomes of the job when there is none.
    pub(super) async fn seat(
        &mut self,
        attempt: &Attempt,
        prompt: &Prompt,
        patience: Duration,
    ) -> Result<Option<Seat>, Failure> {
        let mut why = Vec::new();
        for (at, pool) in self.route.pools.iter().enumerate() {
            if self.pools[at].over.is_some() {
                continue;
            }
            let pass = match pool.enter() {
                Ok(pass) => pass,
                Err(NoEntry::Shut(pause)) => {
                    why.push((at, Why::Shut(pause, pool.last_failure())));
                    continue;
                }
                // It serves, as many as it can: another pool may, or the job waits as for quota.
                Err(NoEntry::Full) => {
                    why.push((at, Why::Later(again::back(jitter()))));
                    continue;
                }
            };
            let Some(quota) = pool.quota() else { return Ok(Some(self.seated(at, pass, None))) };
            match quota.admit(attempt, &prompt.step, &prompt.texts(), patience).await {
                Ok(permit) => return Ok(Some(self.seated(at, pass, Some(permit)))),
                Err(Denied::Later { after }) if after > TOO_LONG => why.push((at, Why::Later(after))),
                Err(Denied::Later { after }) => return Err(Failure::NoQuota { after }),
                Err(Denied::Never(error)) => self.pools[at].over = Some(Failed::Size(error)),
            }
        }
        self.nobody(attempt, why).map(|()| None)
    }

    fn seated(&self, at: usize, pass: Pass, permit: Option<Permit>) -> Seat {
        if at > 0 {
            counter!(telemetry::MODEL_FALLBACKS, "pool" => pass.pool().name().to_owned()).increment(1);
        }
        Seat { at, pass, permit }
    }

    /// What follows a call of the pool at `at` that failed with `err`.
    pub(super) fn after(&mut self, at: usize, err: &ModelError, text_shown: bool, attempt: &Attempt) -> Next {
        let pool = &self.route.pools[at];
        if text_shown {
            counter!(telemetry::MODEL_STREAM_CUTS, "pool" => pool.name().to_owned()).increment(1);
        }
        let standing = Standing {
            text_shown,
            time_left: attempt.time_left(),
            limited: pool.quota().is_some(),
            others: self.pools.iter().enumerate().any(|(other, tried)| other != at && tried.over.is_none()),
            jitter: jitter(),
        };
        again::next(err, standing, &mut self.pools[at].tries, || pool.may_retry())
    }

    /// This attempt does not ask the pool at `at` again.
    pub(super) fn pass_over(&mut self, at: usize, err: ModelError) {
        self.pools[at].over = Some(Failed::Call(err));
    }

    /// No pool serves the job now. `why` says it of those that are not over.
    fn nobody(&mut self, attempt: &Attempt, mut why: Vec<(usize, Why)>) -> Result<(), Failure> {
        let route: &Route = self.route;
        let Route { class, pools, on_unavailable, .. } = route;
        for (at, tried) in self.pools.iter_mut().enumerate() {
            let Some(over) = tried.over.take() else { continue };
            why.push((
                at,
                match (over, pools[at].shut_for()) {
                    (Failed::Size(error), _) => Why::TooLarge(error),
                    (Failed::Call(ModelError::TooLarge(said)), _) => Why::Failed(ModelError::TooLarge(said)),
                    // This attempt's own calls may have been the last straw.
                    (Failed::Call(err), Some(pause)) => Why::Shut(pause, err.to_string()),
                    (Failed::Call(err), None) => Why::Failed(err),
                },
            ));
        }
        why.sort_by_key(|(at, _)| *at);
        let why = why.into_iter().map(|(at, why)| (pools[at].name(), why)).collect();
        let age = Timestamp::now().since(attempt.job().created_at);
        let ending = again::without_pool(class, *on_unavailable, why, age, jitter());
        let then = match &ending {
            Ending::Quotations => OnUnavailable::Extractive.as_str(),
            Ending::Failure(Failure::Fatal(_)) => OnUnavailable::Fail.as_str(),
            Ending::Failure(Failure::NoModel { .. }) => OnUnavailable::Wait.as_str(),
            Ending::Failure(Failure::Retry { .. }) => "retry",
            Ending::Failure(Failure::NoQuota { .. } | Failure::OverBudget(_) | Failure::Stopped(_)) => {
                "quota"
            }
        };
        counter!(telemetry::MODEL_UNAVAILABLE, "class" => class.clone(), "then" => then).increment(1);
        match ending {
            Ending::Quotations => Ok(()),
            Ending::Failure(failure) => Err(failure),
        }
    }
}
