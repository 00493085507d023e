//! Answers of deterministic model calls, shared: who asks what was asked before gets what was answered then,
//! and who asks what is being asked waits for that answer. A sampled call is never shared.
//!
//! One of those who ask the same at a time has the *lead* and makes the call, its reservation included; the
//! others follow, each in its own slot, where its own call would be under way otherwise. A leader that ends
//! without an answer gives the lead up, one that dies loses it with its lease: then the next who asks has it.
//! What is shared is the model's text as it came: whoever gets it turns its marks into citations by itself,
//! against the passages it has found.

mod give_up;
mod key;

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use metrics::counter;
use millhand_common::model::{JobError, Usage};
use millhand_common::ports::{AnswerCache, AnswerKey, Asked, StoreError};
use millhand_common::telemetry;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use give_up::GivingUp;
pub(crate) use key::key;

/// A leader that has not said for this long that it goes on has lost the lead.
const LEASE: Duration = Duration::from_secs(6);
const RENEW_EVERY: Duration = Duration::from_secs(2);
/// How often a follower looks whether the answer is there: at first, and at last.
const LOOK_FIRST: Duration = Duration::from_millis(20);
const LOOK_LAST: Duration = Duration::from_millis(200);
/// Followers are told of a refusal that will not change; who asks later finds out for itself.
const KEEP_REFUSALS: Duration = Duration::from_secs(5);
/// Longer answers are not shared.
const MOST_BYTES: usize = 256 * 1024;

/// The answers that this process shares, with itself or with others.
pub struct Cache {
    answers: Arc<dyn AnswerCache>,
    keep: Duration,
    giving_up: GivingUp,
}

/// What a call came to, as it is shared.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Shared {
    /// The whole text, marks included, and what it took.
    Answer { text: String, usage: Usage },
    /// The provider does not take the request, and would not take it again.
    Refused(JobError),
}

/// Which part one has in a call.
pub(crate) enum Part {
    /// This call is not shared.
    Alone,
    /// Make the call; others wait for what it comes to.
    Lead(Flight),
    /// No call is needed.
    Given(Shared),
}

impl Cache {
    /// Keeps answers for `keep`.
    #[must_use]
    pub fn new(answers: Arc<dyn AnswerCache>, keep: Duration) -> Arc<Self> {
        let giving_up = GivingUp::start(Arc::clone(&answers));
        Arc::new(Self { answers, keep, giving_up })
    }

    /// Looks for the answer, and waits while somebody else makes it; `follows` is told once, when it comes to
    /// that. Without the cache the call is made as if there was none. May be dropped: a lead is given up.
    pub(crate) async fn part(self: &Arc<Self>, key: AnswerKey, follows: impl Fn()) -> Part {
        // Owned before it is asked for: however this future ends, the lead is given up.
        let mut flight = Flight { cache: Arc::clone(self), key, id: Uuid::now_v7(), leads: true };
        let (mut followed, mut pause) = (false, LOOK_FIRST);
        loop {
            flight.leads = true;
            let asked = self.answers.ask(&flight.key, flight.id, LEASE).await;
            flight.leads = matches!(asked, Ok(Asked::Lead) | Err(_));
            match asked {
                Ok(Asked::Lead) => {
                    count("miss");
                    return Part::Lead(flight);
                }
                Ok(Asked::Follow) => {
                    if !std::mem::replace(&mut followed, true) {
                        follows();
                    }
                    tokio::time::sleep(pause).await;
                    pause = (pause * 2).min(LOOK_LAST);
                }
                Ok(Asked::Kept(answer)) => match serde_json::from_str(&answer) {
                    Ok(shared) => {
                        count(if followed { "flight" } else { "hit" });
                        saved(&shared);
                        return Part::Given(shared);
                    }
                    Err(err) => return away(&StoreError::Damaged(err.to_string())),
                },
                Err(err) => return away(&err),
            }
        }
    }
}

fn away(err: &StoreError) -> Part {
    count("away");
    tracing::warn!(error = %err, "the answer cache is away: the call is made without it");
    Part::Alone
}

fn count(result: &'static str) {
    counter!(telemetry::CACHE_RESULTS, "result" => result).increment(1);
}

fn saved(shared: &Shared) {
    if let Shared::Answer { usage, .. } = shared {
        counter!(telemetry::CACHE_SAVED, "direction" => "input").increment(usage.input_tokens);
        counter!(telemetry::CACHE_SAVED, "direction" => "output").increment(usage.output_tokens);
    }
}

/// The lead of a call. Dropped, it is given up.
pub(crate) struct Flight {
    cache: Arc<Cache>,
    key: AnswerKey,
    id: Uuid,
    leads: bool,
}

impl Flight {
    /// Runs the work and keeps the lead meanwhile.
    pub(crate) async fn during<T>(&self, work: impl Future<Output = T>) -> T {
        // Dropping the other branch loses nothing: a renewal was made or not.
        tokio::select! {
            biased;
            result = work => result,
            never = self.renew() => match never {},
        }
    }

    async fn renew(&self) -> std::convert::Infallible {
        loop {
            tokio::time::sleep(RENEW_EVERY).await;
            match self.cache.answers.renew(&self.key, self.id, LEASE).await {
                Ok(true) => {}
                Ok(false) => {
                    tracing::warn!("another call took the lead: this one goes on for its own job only");
                    return std::future::pending().await;
                }
                Err(err) => tracing::debug!(error = %err, "a lead could not be renewed"),
            }
        }
    }

    /// Shares what the call came to; with nothing to share the lead is given up.
    pub(crate) async fn land(mut self, shared: Option<Shared>) {
        let Some(shared) = shared else { return };
        let answer = serde_json::to_string(&shared).expect("an answer is plain data");
        if answer.len() > MOST_BYTES {
            return;
        }
        let keep = match shared {
            Shared::Answer { .. } => self.cache.keep,
            Shared::Refused(_) => self.cache.keep.min(KEEP_REFUSALS),
        };
        match self.cache.answers.land(&self.key, self.id, &answer, keep).await {
            Ok(_) => self.leads = false,
            Err(err) => tracing::debug!(error = %err, "an answer could not be kept"),
        }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        if self.leads {
            self.cache.giving_up.tell(self.key.clone(), self.id);
        }
    }
}

#[cfg(test)]
mod tests;
