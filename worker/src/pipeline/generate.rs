//! Has the model write the answer: streams its text, turns its marks into checked citations, and makes
//! the call again when that helps.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use futures::StreamExt;
use millhand_common::model::{Citation, Passage, Span, StepKind, Usage};
use millhand_common::ports::{ChatDelta, ChatModel, ChatRequest, FinishReason, LimitFacts, ModelError};
use millhand_common::telemetry;
use serde::{Deserialize, Serialize};

use super::AnswerDeps;
use super::again::{Tries, failure, outcome, wait_before_retry};
use super::claim::last_sentence;
use super::compose::Prompt;
use super::markers::{Mark, Markers, Piece};
use super::record::citation;
use super::speaker::Speaker;
use super::support::support;
use crate::attempt::{Begun, Failure, Stopped};
use crate::quota::Permit;

const STEP: &str = "model:1";

/// What a model call left besides what it said.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
pub(crate) struct Reply {
    pub(crate) finish: FinishReason,
    /// As the provider counted; absent when it did not.
    pub(crate) usage: Option<Usage>,
    /// Calls made, failed ones included.
    pub(crate) calls: u32,
    /// The model says that the passages do not answer.
    pub(crate) none: bool,
    /// Marks taken out because no passage has their id or supports their sentence.
    pub(crate) unsupported_marks: u32,
}

/// The step's result: with it a later attempt says the same again without a call.
#[derive(Serialize, Deserialize)]
struct Journal {
    text: String,
    citations: Vec<Citation>,
    #[serde(flatten)]
    reply: Reply,
}

/// Why a call broke off.
enum Broken {
    Stopped(Stopped),
    Model(ModelError),
}

impl From<Stopped> for Broken {
    fn from(stopped: Stopped) -> Self {
        Self::Stopped(stopped)
    }
}

impl From<ModelError> for Broken {
    fn from(err: ModelError) -> Self {
        Self::Model(err)
    }
}

/// The model's answer to `prompt`, said as it comes. One journaled step; the calls in it are made again
/// for errors that pass, within the job's deadline.
pub(crate) async fn reply(
    speaker: &mut Speaker<'_>,
    deps: &AnswerDeps,
    model: &dyn ChatModel,
    prompt: Prompt,
) -> Result<Reply, Failure> {
    let attempt = speaker.attempt;
    // Quota comes before the step is said to begin: a job that has to wait for it has begun nothing.
    let mut permit = match attempt.has_finished(STEP) {
        true => None,
        false => admit(speaker, deps, &prompt).await?,
    };
    if let Begun::Replay(result) = attempt.begin(STEP, StepKind::ModelCall).await? {
        return replay(speaker, result).await;
    }
    let mut tries = Tries::default();
    let mut calls = 0;
    let mut reply = loop {
        calls += 1;
        if permit.as_ref().is_none_or(|permit| !permit.is_fresh()) {
            // Given back before another is asked for.
            drop(permit.take());
            permit = admit(speaker, deps, &prompt).await?;
        }
        let err = match call(speaker, deps, model, &prompt, permit.take()).await {
            Ok(reply) => break reply,
            Err(Broken::Stopped(stopped)) => return Err(stopped.into()),
            Err(Broken::Model(err)) => err,
        };
        if let (Some(quota), ModelError::RateLimited { retry_after, .. }) = (&deps.quota, &err) {
            // The limiter holds everybody back; nothing went wrong with this job.
            return Err(quota.refused(*retry_after));
        }
        let text_shown = !speaker.text.is_empty();
        let wait = wait_before_retry(&err, text_shown, &mut tries, attempt.time_left(), crate::run::jitter());
        let Some(wait) = wait else {
            return Err(give_up(speaker, &err, model.name()).await);
        };
        tracing::warn!(
            outcome = outcome(&err),
            wait_ms = wait.as_millis(),
            "model call failed, making it again"
        );
        speaker.start_over().await?;
        tokio::time::sleep(wait).await;
    };
    reply.calls = calls;
    let journal = Journal { text: speaker.text.clone(), citations: speaker.citations.clone(), reply };
    let result = serde_json::to_value(&journal).expect("a reply is plain data");
    attempt.complete(STEP, StepKind::ModelCall, result).await?;
    Ok(reply)
}

/// The right to call now; `None` when calls are not limited.
async fn admit(speaker: &Speaker<'_>, deps: &AnswerDeps, prompt: &Prompt) -> Result<Option<Permit>, Failure> {
    let Some(quota) = &deps.quota else { return Ok(None) };
    quota.admit(speaker.attempt, STEP, &prompt.messages).await.map(Some)
}

async fn replay(speaker: &mut Speaker<'_>, result: serde_json::Value) -> Result<Reply, Failure> {
    let journal: Journal = serde_json::from_value(result).map_err(|err| {
        Failure::Fatal(millhand_common::model::JobError::new("journal_unreadable", err.to_string(), false))
    })?;
    speaker.say(&journal.text).await?;
    for citation in journal.citations {
        speaker.cite(citation).await?;
    }
    Ok(journal.reply)
}

/// The failure of the attempt. At the deadline it is the consumer who ends the job, with the text there
/// is: this only must not be faster.
async fn give_up(speaker: &Speaker<'_>, err: &ModelError, model: &str) -> Failure {
    const AT_DEADLINE: Duration = Duration::from_millis(50);
    let left = speaker.attempt.time_left();
    if left < AT_DEADLINE {
        tokio::time::sleep(left + Duration::from_secs(1)).await;
    }
    failure(err, model)
}

async fn call(
    speaker: &mut Speaker<'_>,
    deps: &AnswerDeps,
    model: &dyn ChatModel,
    prompt: &Prompt,
    mut permit: Option<Permit>,
) -> Result<Reply, Broken> {
    let spec = &speaker.attempt.job().spec;
    let bound = permit.as_ref().and_then(Permit::max_output_tokens);
    let request = ChatRequest {
        messages: prompt.messages.clone(),
        max_output_tokens: spec.max_output_tokens.or(bound),
        deadline: speaker.attempt.deadline().min(Instant::now() + deps.call_timeout),
        traceparent: Some(telemetry::child_traceparent(spec.traceparent.as_deref())),
    };
    if let Some(permit) = &mut permit {
        permit.sent();
    }
    let result = listen(speaker, model, request, &prompt.passages, permit.as_mut()).await;
    if let (Some(permit), Err(Broken::Model(err))) = (&mut permit, &result) {
        permit.failed(err);
    }
    let outcome = match &result {
        Ok(_) => "ok",
        Err(Broken::Model(err)) => outcome(err),
        Err(Broken::Stopped(_)) => "stopped",
    };
    let name = model.name().to_owned();
    metrics::counter!(telemetry::MODEL_CALLS, "model" => name.clone(), "outcome" => outcome).increment(1);
    if let Err(Broken::Model(ModelError::RateLimited { limits, .. })) = &result {
        metrics::counter!(telemetry::MODEL_LIMITED, "model" => name.clone()).increment(1);
        show_limits(&name, limits);
    }
    if let Ok(Reply { usage: Some(usage), .. }) = &result {
        let count = |direction: &'static str, tokens| {
            metrics::counter!(telemetry::MODEL_TOKENS, "model" => name.clone(), "direction" => direction)
                .increment(tokens);
        };
        count("input", usage.input_tokens);
        count("output", usage.output_tokens);
    }
    result
}

/// What the provider says of its limits, for its operators.
fn show_limits(model: &str, limits: &LimitFacts) {
    let LimitFacts { requests, tokens, input_tokens, output_tokens } = limits;
    let all = [
        ("requests", requests),
        ("tokens", tokens),
        ("input_tokens", input_tokens),
        ("output_tokens", output_tokens),
    ];
    for (dimension, fact) in all {
        for (metric, units) in
            [(telemetry::MODEL_LIMIT, fact.limit), (telemetry::MODEL_REMAINING, fact.remaining)]
        {
            if let Some(units) = units {
                metrics::gauge!(metric, "model" => model.to_owned(), "dimension" => dimension)
                    .set(units as f64);
            }
        }
    }
}

/// Says what the model writes until it ends.
async fn listen(
    speaker: &mut Speaker<'_>,
    model: &dyn ChatModel,
    request: ChatRequest,
    passages: &HashMap<String, Passage>,
    mut permit: Option<&mut Permit>,
) -> Result<Reply, Broken> {
    let mut stream = model.stream(request).await?;
    let mut writing = Writing { passages, none: false, unsupported_marks: 0 };
    // Without passages there are no marks: whatever looks like one is the model's text.
    let mut markers = (!passages.is_empty()).then(Markers::default);
    let (finish, usage) = loop {
        match stream.next().await {
            Some(Ok(ChatDelta::Limits(limits))) => {
                show_limits(model.name(), &limits);
                if let Some(permit) = &permit {
                    permit.answered(&limits);
                }
            }
            Some(Ok(ChatDelta::Text(text))) => match &mut markers {
                Some(markers) => {
                    for piece in markers.push(&text) {
                        writing.write(speaker, piece).await?;
                    }
                }
                None => speaker.say(&text).await?,
            },
            Some(Ok(ChatDelta::Finished { reason, usage })) => {
                if let Some(permit) = &mut permit {
                    permit.ended(usage);
                }
                break (reason, usage);
            }
            Some(Err(err)) => return Err(err.into()),
            None => return Err(ModelError::Malformed("the stream ended early".to_owned()).into()),
        }
    };
    if let Some(piece) = markers.and_then(Markers::finish) {
        writing.write(speaker, piece).await?;
    }
    if speaker.text.trim().is_empty() && !writing.none {
        return Err(match finish {
            FinishReason::ContentFilter => ModelError::Rejected("its content filter".to_owned()),
            FinishReason::Stop | FinishReason::Length => ModelError::Malformed("an empty answer".to_owned()),
        }
        .into());
    }
    if writing.unsupported_marks > 0 {
        tracing::info!(count = writing.unsupported_marks, "took out citations without support");
    }
    let Writing { none, unsupported_marks, .. } = writing;
    Ok(Reply { finish, usage, calls: 1, none, unsupported_marks })
}

/// Turns pieces of the model's text into the answer.
struct Writing<'a> {
    passages: &'a HashMap<String, Passage>,
    none: bool,
    unsupported_marks: u32,
}

impl Writing<'_> {
    async fn write(&mut self, speaker: &mut Speaker<'_>, piece: Piece) -> Result<(), Stopped> {
        match piece {
            Piece::Text(text) => speaker.say(&text).await,
            Piece::Mark { mark: Mark::None, .. } => {
                self.none = true;
                Ok(())
            }
            Piece::Mark { space, mark: Mark::Cites(cites) } => {
                let claim = last_sentence(&speaker.text);
                let mut before = if space.is_empty() { " " } else { space.as_str() };
                for (sid, words) in cites {
                    let Some(citation) = claim.and_then(|claim| self.check(speaker, claim, &sid, words))
                    else {
                        self.unsupported_marks += 1;
                        continue;
                    };
                    let number = speaker.citations.len() + 1;
                    speaker.say(&format!("{before}[{number}]")).await?;
                    speaker.cite(citation).await?;
                    before = "";
                }
                Ok(())
            }
        }
    }

    /// The citation that the mark asks for, if its passage supports the sentence and it is new.
    fn check(
        &self,
        speaker: &Speaker<'_>,
        claim: Span,
        sid: &str,
        words: Option<String>,
    ) -> Option<Citation> {
        let passage = self.passages.get(sid)?;
        let span = support(claim.of(&speaker.text)?, words.as_deref(), passage)?;
        let citation = citation(passage, span, claim);
        (!speaker.citations.contains(&citation)).then_some(citation)
    }
}
