//! Has a model write the answer: one journaled step, whose call is made again, or sent to another pool, when
//! that helps.

mod call;
mod turn;

use std::time::Duration;

use millhand_common::model::{Citation, JobError, StepKind, Usage};
use millhand_common::ports::FinishReason;
use serde::{Deserialize, Serialize};

use super::AnswerDeps;
use super::again::{Next, outcome, refused};
use super::compose::Prompt;
use super::record::QUOTATIONS;
use super::speaker::Speaker;
use crate::attempt::{Begun, Failure};
use crate::quota::{IN_PLACE, IN_PLACE_ONCE_BEGUN, count_refused};
use crate::routing::Route;
use call::{Broken, call};
use turn::Turn;

const STEP: &str = "model:1";

/// What a model call left besides what it said.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Reply {
    pub(crate) finish: FinishReason,
    /// As the provider counted; absent when it did not.
    pub(crate) usage: Option<Usage>,
    /// Who wrote it; empty in journals of earlier versions.
    #[serde(default)]
    pub(crate) model: String,
    /// Calls made, failed ones included.
    pub(crate) calls: u32,
    /// The model says that the passages do not answer.
    pub(crate) none: bool,
    /// Marks taken out because no passage has their id or supports their sentence.
    pub(crate) unsupported_marks: u32,
}

/// What a step left.
pub(crate) enum Made {
    Reply(Reply),
    /// No pool could serve, and the job is to be answered without a model.
    NoModel {
        calls: u32,
    },
}

/// The step's result: with it a later attempt says the same again without a call.
#[derive(Serialize, Deserialize)]
struct Journal {
    text: String,
    citations: Vec<Citation>,
    /// No model was found: what the answer says is not in here.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    no_model: bool,
    #[serde(flatten)]
    reply: Reply,
}

/// A model's answer to `prompt`, said as it comes. One journaled step; the calls in it are made again for
/// errors that pass, within the job's deadline.
pub(crate) async fn reply(
    speaker: &mut Speaker<'_>,
    deps: &AnswerDeps,
    route: &Route,
    prompt: Prompt,
) -> Result<Made, Failure> {
    let attempt = speaker.attempt;
    let mut turn = Turn::new(route);
    // Quota comes before the step is said to begin: a job that has to wait for it has begun nothing.
    let mut kept = match attempt.has_finished(STEP) {
        true => None,
        false => Some(turn.seat(attempt, &prompt, IN_PLACE).await?),
    };
    if let Begun::Replay(result) = attempt.begin(STEP, StepKind::ModelCall).await? {
        return replay(speaker, route, result).await;
    }
    let mut calls = 0;
    loop {
        let seat = match kept.take() {
            Some(Some(seat)) => seat.fresh().await,
            Some(None) => return no_model(speaker, calls).await,
            None => None,
        };
        let seat = match seat {
            Some(seat) => seat,
            None => match turn.seat(attempt, &prompt, IN_PLACE_ONCE_BEGUN).await? {
                Some(seat) => seat,
                None => return no_model(speaker, calls).await,
            },
        };
        // Two attempts are never joined.
        speaker.start_over().await?;
        calls += 1;
        let (at, pool) = (seat.at, seat.pool().clone());
        let err = match call(speaker, deps, &prompt, seat).await {
            Ok(reply) => {
                let reply = Reply { calls, ..reply };
                complete(speaker, &reply, false).await?;
                return Ok(Made::Reply(reply));
            }
            Err(Broken::Stopped(stopped)) => return Err(stopped.into()),
            Err(Broken::Model(err)) => err,
        };
        leave_the_deadline_to_its_owner(speaker).await;
        let said = outcome(&err);
        match turn.after(at, &err, !speaker.text.is_empty(), attempt) {
            Next::GiveUp => return Err(refused(&err, pool.name())),
            Next::Yield(after) => {
                count_refused();
                return Err(Failure::NoQuota { after });
            }
            Next::Elsewhere => {
                tracing::warn!(pool = pool.name(), outcome = said, "model call failed");
                turn.pass_over(at, err);
            }
            Next::Again(wait) => {
                let wait_ms = wait.as_millis();
                tracing::warn!(
                    pool = pool.name(),
                    outcome = said,
                    wait_ms,
                    "model call failed, making it again"
                );
                tokio::time::sleep(wait).await;
            }
        }
    }
}

/// Journals that the answer is made without a model.
async fn no_model(speaker: &mut Speaker<'_>, calls: u32) -> Result<Made, Failure> {
    speaker.start_over().await?;
    let reply = Reply {
        finish: FinishReason::Stop,
        usage: None,
        model: QUOTATIONS.to_owned(),
        calls,
        none: false,
        unsupported_marks: 0,
    };
    complete(speaker, &reply, true).await?;
    Ok(Made::NoModel { calls })
}

async fn complete(speaker: &Speaker<'_>, reply: &Reply, no_model: bool) -> Result<(), Failure> {
    let journal = Journal {
        text: speaker.text.clone(),
        citations: speaker.citations.clone(),
        no_model,
        reply: reply.clone(),
    };
    let result = serde_json::to_value(&journal).expect("a reply is plain data");
    Ok(speaker.attempt.complete(STEP, StepKind::ModelCall, result).await?)
}

async fn replay(
    speaker: &mut Speaker<'_>,
    route: &Route,
    result: serde_json::Value,
) -> Result<Made, Failure> {
    let journal: Journal = serde_json::from_value(result)
        .map_err(|err| Failure::Fatal(JobError::new("journal_unreadable", err.to_string(), false)))?;
    let Journal { text, citations, no_model, mut reply } = journal;
    if no_model {
        return Ok(Made::NoModel { calls: reply.calls });
    }
    speaker.say(&text).await?;
    for citation in citations {
        speaker.cite(citation).await?;
    }
    if reply.model.is_empty() {
        route.pools[0].model().name().clone_into(&mut reply.model);
    }
    Ok(Made::Reply(reply))
}

/// At the deadline it is the consumer who ends the job, with the text there is: this only must not be
/// faster.
async fn leave_the_deadline_to_its_owner(speaker: &Speaker<'_>) {
    const AT_DEADLINE: Duration = Duration::from_millis(50);
    let left = speaker.attempt.time_left();
    if left < AT_DEADLINE {
        tokio::time::sleep(left + Duration::from_secs(1)).await;
    }
}
