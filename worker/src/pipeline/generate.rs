//! Has a model write the answer: one journaled step, whose call is made again, or sent to another pool, when
//! that helps.

mod call;
mod turn;

use std::time::Duration;

use millhand_common::model::{Citation, JobError, StepKind, Usage, degraded};
use millhand_common::ports::{FinishReason, ToolCall};
use serde::{Deserialize, Serialize};

use super::AnswerDeps;
use super::again::{Next, REQUEST_REFUSED, outcome, refused};
use super::compose::Prompt;
use super::speaker::Speaker;
use crate::attempt::{Begun, Failure};
use crate::cache::{self, Part, Shared};
use crate::costs::Plan;
use crate::quota::{self, IN_PLACE, IN_PLACE_ONCE_BEGUN, count_refused};
use crate::routing::Route;
use call::{Broken, Writing, call};
use turn::Turn;

/// The model of answers that are made without one because none could be asked.
const QUOTATIONS: &str = "extractive";

/// What a model call left besides what it said.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Reply {
    pub(crate) finish: FinishReason,
    /// As the provider counted its last call; absent when it did not.
    pub(crate) usage: Option<Usage>,
    /// Who wrote it; empty in journals of earlier versions.
    #[serde(default)]
    pub(crate) model: String,
    /// It was answered before, and cost nothing now.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub(crate) cached: bool,
    /// The model says that the passages do not answer.
    pub(crate) none: bool,
    /// Marks taken out because no passage has their id or supports their sentence.
    pub(crate) unsupported_marks: u32,
    /// What it asks for instead of ending here.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) tool_calls: Vec<ToolCall>,
    /// What it went without for the load.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) degraded: Vec<String>,
    /// What the model of the first pool wrote, marks included; empty when another pool's did. Not journaled.
    #[serde(skip)]
    pub(crate) raw: String,
}

impl Reply {
    /// One that says nothing yet.
    fn of(model: &str, finish: FinishReason, usage: Option<Usage>) -> Self {
        Self {
            finish,
            usage,
            model: model.to_owned(),
            cached: false,
            none: false,
            unsupported_marks: 0,
            tool_calls: Vec::new(),
            degraded: Vec::new(),
            raw: String::new(),
        }
    }
}

/// What a step left.
pub(crate) enum Made {
    Reply(Reply),
    /// No pool could serve, and the job is to be answered without a model.
    NoModel,
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

/// A model's answer to `prompt`, said as it comes, or one that was given before to the same prompt. One
/// journaled step.
pub(crate) async fn reply(
    speaker: &mut Speaker<'_>,
    deps: &AnswerDeps,
    route: &Route,
    prompt: Prompt,
) -> Result<Made, Failure> {
    match part(speaker, deps, route, &prompt).await {
        Part::Alone => calls(speaker, deps, route, &prompt).await,
        Part::Lead(flight) => {
            let made = flight.during(calls(speaker, deps, route, &prompt)).await;
            flight.land(shared(&made)).await;
            made
        }
        Part::Given(Shared::Refused(error)) => Err(Failure::Fatal(error)),
        Part::Given(Shared::Answer { text, .. }) => say_again(speaker, route, &prompt, &text).await,
    }
}

/// Whether a call is to be made. What an earlier attempt finished is replayed without asking.
async fn part(speaker: &Speaker<'_>, deps: &AnswerDeps, route: &Route, prompt: &Prompt) -> Part {
    let Some(cache) =
        deps.cache.as_ref().filter(|_| prompt.shared && !speaker.attempt.has_finished(&prompt.step))
    else {
        return Part::Alone;
    };
    let spec = &speaker.attempt.job().spec;
    let model = route.pools[0].model();
    let longest = speaker.attempt.max_output_tokens(None);
    let key = cache::key(&spec.tenant, model, &prompt.messages, prompt.sampling, longest);
    cache.part(key, quota::needs_none).await
}

/// What may be shared of what the calls came to: an answer of the pool that was asked first, which its model
/// ended itself and which was counted whole; or that the provider does not take the request.
fn shared(made: &Result<Made, Failure>) -> Option<Shared> {
    match made {
        Ok(Made::Reply(Reply { finish: FinishReason::Stop, usage: Some(usage), raw, .. }))
            if usage.input_tokens > 0 && usage.output_tokens > 0 && !raw.is_empty() =>
        {
            Some(Shared::Answer { text: raw.clone(), usage: *usage })
        }
        Err(Failure::Fatal(error)) if error.code == REQUEST_REFUSED && !error.retryable => {
            Some(Shared::Refused(error.clone()))
        }
        _ => None,
    }
}

/// Says an answer that was given before, with its marks checked against the passages found now.
async fn say_again(
    speaker: &mut Speaker<'_>,
    route: &Route,
    prompt: &Prompt,
    text: &str,
) -> Result<Made, Failure> {
    if let Begun::Replay(result) = speaker.attempt.begin(&prompt.step, StepKind::ModelCall).await? {
        return replay(speaker, result).await;
    }
    let mut writing = Writing::new(&prompt.passages);
    writing.hear(speaker, text).await?;
    let model = route.pools[0].model().name();
    let reply = writing.end(speaker).await?.reply(model, FinishReason::Stop, Some(Usage::default()));
    let degraded = smaller(route, 0).into_iter().collect();
    let reply = Reply { cached: true, degraded, ..reply };
    complete(speaker, prompt, &reply, false).await?;
    Ok(Made::Reply(reply))
}

/// That the pool at `at` is the smaller model, which is asked for the load.
fn smaller(route: &Route, at: usize) -> Option<String> {
    (at < route.smaller).then(|| degraded::SMALLER_MODEL.to_owned())
}

/// Has a model answer; its calls are made again, or sent to another pool, for errors that pass, within the
/// job's deadline.
async fn calls(
    speaker: &mut Speaker<'_>,
    deps: &AnswerDeps,
    route: &Route,
    prompt: &Prompt,
) -> Result<Made, Failure> {
    let attempt = speaker.attempt;
    let mut turn = Turn::new(route);
    // Quota and money come before the step is said to begin: a job that has to wait for them has begun
    // nothing.
    let (mut kept, mut plan) = (None, None);
    if !attempt.has_finished(&prompt.step) {
        let seat = turn.seat(attempt, prompt, IN_PLACE).await?;
        if let Some(seat) = &seat {
            plan = Some(deps.costs.plan(attempt, seat.model(), prompt.marks(), &prompt.texts()).await?);
        }
        kept = Some(seat);
    }
    if let Begun::Replay(result) = attempt.announce(&prompt.step, StepKind::ModelCall).await? {
        return replay(speaker, result).await;
    }
    loop {
        let seat = match kept.take() {
            Some(Some(seat)) => seat.fresh().await,
            Some(None) => return no_model(speaker, prompt).await,
            None => None,
        };
        let seat = match seat {
            Some(seat) => seat,
            None => match turn.seat(attempt, prompt, IN_PLACE_ONCE_BEGUN).await? {
                Some(seat) => seat,
                None => return no_model(speaker, prompt).await,
            },
        };
        // Before what was said is taken back: without money for another call it is kept.
        let plan = match plan.take().filter(|plan: &Plan| plan.is_of(seat.model())) {
            Some(plan) => plan,
            None => deps.costs.plan(attempt, seat.model(), prompt.marks(), &prompt.texts()).await?,
        };
        // Two attempts are never joined.
        speaker.start_over().await?;
        let mut booked = deps.costs.open(attempt, plan).await?;
        // What was asked and written since it was granted may have taken long.
        let Some(seat) = seat.fresh().await else { continue };
        let (at, pool) = (seat.at, seat.pool().clone());
        let err = match call(speaker, deps, prompt, seat, &mut booked).await {
            Ok(mut reply) => {
                reply.degraded.extend(smaller(route, at));
                // Who asks next asks the first pool, and gets no other one's answer, whatever its model is called.
                let raw = if at == 0 { reply.raw } else { String::new() };
                let reply = Reply { raw, ..reply };
                complete(speaker, prompt, &reply, false).await?;
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
async fn no_model(speaker: &mut Speaker<'_>, prompt: &Prompt) -> Result<Made, Failure> {
    speaker.start_over().await?;
    let reply = Reply::of(QUOTATIONS, FinishReason::Stop, None);
    complete(speaker, prompt, &reply, true).await?;
    Ok(Made::NoModel)
}

async fn complete(
    speaker: &Speaker<'_>,
    prompt: &Prompt,
    reply: &Reply,
    no_model: bool,
) -> Result<(), Failure> {
    speaker.attempt.go_without(&reply.degraded);
    let journal = Journal {
        text: speaker.text.clone(),
        citations: speaker.citations.clone(),
        no_model,
        reply: reply.clone(),
    };
    let result = serde_json::to_value(&journal).expect("a reply is plain data");
    Ok(speaker.attempt.complete(&prompt.step, StepKind::ModelCall, result).await?)
}

async fn replay(speaker: &mut Speaker<'_>, result: serde_json::Value) -> Result<Made, Failure> {
    let journal: Journal = serde_json::from_value(result)
        .map_err(|err| Failure::Fatal(JobError::new("journal_unreadable", err.to_string(), false)))?;
    let Journal { text, citations, no_model, reply } = journal;
    if no_model {
        return Ok(Made::NoModel);
    }
    speaker.attempt.go_without(&reply.degraded);
    speaker.say(&text).await?;
    for citation in citations {
        speaker.cite(citation).await?;
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

#[cfg(test)]
mod tests {
    use millhand_common::ports::ModelError;

    use super::*;

    #[test]
    fn only_whole_counted_answers_of_the_first_pool_and_refused_requests_are_shared() {
        let reply = |finish, tokens: Option<(u64, u64)>, raw: &str| {
            let usage = |(input_tokens, output_tokens)| Usage { input_tokens, output_tokens, nano_usd: 0 };
            Made::Reply(Reply { raw: raw.to_owned(), ..Reply::of("m", finish, tokens.map(usage)) })
        };
        let text = "水 [[b7k2]]";
        assert!(matches!(
            shared(&Ok(reply(FinishReason::Stop, Some((3, 2)), text))),
            Some(Shared::Answer { text: kept, usage }) if kept == text && usage.output_tokens == 2
        ));
        for not_whole in [
            reply(FinishReason::Length, Some((3, 2)), text),
            reply(FinishReason::ContentFilter, Some((3, 2)), text),
            reply(FinishReason::Stop, None, text),
            reply(FinishReason::Stop, Some((3, 0)), text),
            // A fallback wrote it.
            reply(FinishReason::Stop, Some((3, 2)), ""),
            Made::NoModel,
        ] {
            assert!(shared(&Ok(not_whole)).is_none());
        }
        let rejected = refused(&ModelError::Rejected("HTTP 400".to_owned()), "default");
        assert!(matches!(shared(&Err(rejected)), Some(Shared::Refused(error)) if !error.retryable));
        let unauthorized = refused(&ModelError::Unauthorized, "default");
        let filtered = refused(&ModelError::Filtered("HTTP 400".to_owned()), "default");
        for passes in [unauthorized, filtered, Failure::NoQuota { after: Duration::from_secs(1) }] {
            assert!(shared(&Err(passes)).is_none());
        }
    }
}
