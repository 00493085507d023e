//! One call of the model: its stream becomes text and checked citations.

use std::collections::HashMap;
use std::time::Instant;

use futures::StreamExt;
use millhand_common::model::{Citation, Passage, Span, Usage, degraded};
use millhand_common::ports::{ChatDelta, ChatRequest, FinishReason, LimitFacts, ModelError};
use millhand_common::telemetry;
use tracing::Instrument;

use super::Reply;
use super::turn::Seat;
use crate::attempt::Stopped;
use crate::costs::Call;
use crate::observe::Observed;
use crate::pipeline::AnswerDeps;
use crate::pipeline::again::outcome;
use crate::pipeline::claim::last_sentence;
use crate::pipeline::compose::Prompt;
use crate::pipeline::markers::{Mark, Markers, Piece};
use crate::pipeline::record::citation;
use crate::pipeline::speaker::Speaker;
use crate::pipeline::support::support;
use crate::quota::Permit;
use crate::routing::Pool;

/// Why a call broke off.
pub(super) enum Broken {
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

/// Makes one call and says what comes. Whatever becomes of it is told to the pool and its quota, and counted.
pub(super) async fn call(
    speaker: &mut Speaker<'_>,
    deps: &AnswerDeps,
    prompt: &Prompt,
    mut seat: Seat,
    booked: &mut Call<'_>,
) -> Result<Reply, Broken> {
    let pool = seat.pool().clone();
    let spec = &speaker.attempt.job().spec;
    let bounds = [seat.permit.as_ref().and_then(Permit::max_output_tokens), booked.max_output_tokens()];
    let bound = bounds.into_iter().flatten().min();
    let max_output_tokens = speaker.attempt.max_output_tokens(bound);
    let mut observed = Observed::chat(pool.model().name(), pool.model().origin(), max_output_tokens);
    let span = observed.span();
    let request = ChatRequest {
        messages: prompt.messages.clone(),
        tools: prompt.tools.clone(),
        may_call: prompt.may_call,
        max_output_tokens,
        sampling: prompt.sampling,
        deadline: speaker.attempt.deadline().min(Instant::now() + deps.call_timeout),
        traceparent: Some(span.in_scope(|| telemetry::child_traceparent(spec.traceparent.as_deref()))),
    };
    if let Some(permit) = &mut seat.permit {
        permit.sent();
    }
    booked.sent();
    let result = listen(speaker, &pool, request, &prompt.passages, &mut seat, booked, &mut observed);
    let mut result = result.instrument(span).await;
    if let Ok(reply) = &mut result
        && reply.finish == FinishReason::Length
        && speaker.attempt.is_shorter(max_output_tokens)
    {
        reply.degraded.push(degraded::SHORTER_ANSWER.to_owned());
    }
    match &result {
        Ok(_) => booked.learn(&speaker.text),
        Err(Broken::Model(err)) => {
            booked.failed(err);
            if let Some(permit) = &mut seat.permit {
                permit.failed(err);
            }
        }
        Err(Broken::Stopped(_)) => {}
    }
    let outcome = match &result {
        Ok(_) => "ok",
        Err(Broken::Model(err)) => outcome(err),
        Err(Broken::Stopped(_)) => "stopped",
    };
    match &result {
        Ok(reply) => observed.ended(Some(reply.finish), reply.usage),
        Err(_) => observed.failed(outcome),
    }
    match &result {
        Ok(_) => seat.pass.ended(None),
        // A call that the job's own deadline cut short says nothing of its pool.
        Err(Broken::Model(ModelError::TimedOut)) if speaker.attempt.time_left().is_zero() => {}
        Err(Broken::Model(err)) => seat.pass.ended(Some(err)),
        Err(Broken::Stopped(_)) => {}
    }
    let name = pool.model().name().to_owned();
    metrics::counter!(telemetry::MODEL_CALLS, "model" => name.clone(), "pool" => pool.name().to_owned(), "outcome" => outcome)
        .increment(1);
    if let Err(Broken::Model(ModelError::RateLimited { limits, .. })) = &result {
        metrics::counter!(telemetry::MODEL_LIMITED, "model" => name).increment(1);
        show_limits(&pool, limits);
    }
    result
}

/// What the provider says of its limits, for its operators.
fn show_limits(pool: &Pool, limits: &LimitFacts) {
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
                let (model, pool) = (pool.model().name().to_owned(), pool.name().to_owned());
                metrics::gauge!(metric, "model" => model, "pool" => pool, "dimension" => dimension)
                    .set(units as f64);
            }
        }
    }
}

/// Says what the model writes until it ends.
async fn listen(
    speaker: &mut Speaker<'_>,
    pool: &Pool,
    request: ChatRequest,
    passages: &HashMap<String, Passage>,
    seat: &mut Seat,
    booked: &mut Call<'_>,
    observed: &mut Observed,
) -> Result<Reply, Broken> {
    let mut stream = pool.model().stream(request).await?;
    let mut writing = Writing::new(passages);
    let mut tool_calls = Vec::new();
    let (finish, usage) = loop {
        let next = stream.next().await;
        if let Some(Ok(delta)) = &next {
            booked.heard(delta);
        }
        match next {
            Some(Ok(ChatDelta::Limits(limits))) => {
                show_limits(pool, &limits);
                if let Some(permit) = &seat.permit {
                    permit.answered(&limits);
                }
            }
            Some(Ok(ChatDelta::Text(text))) => {
                seat.pass.answering();
                observed.heard();
                writing.hear(speaker, &text).await?;
            }
            Some(Ok(ChatDelta::ToolCall(call))) => {
                seat.pass.answering();
                observed.heard();
                tool_calls.push(call);
            }
            Some(Ok(ChatDelta::Finished { reason, usage })) => {
                if let Some(permit) = &mut seat.permit {
                    permit.ended(usage);
                }
                break (reason, usage);
            }
            Some(Err(err)) => return Err(err.into()),
            None => return Err(ModelError::Malformed("the stream ended early".to_owned()).into()),
        }
    };
    let writing = writing.end(speaker).await?;
    if speaker.text.trim().is_empty() && !writing.none && tool_calls.is_empty() {
        return Err(match finish {
            FinishReason::ContentFilter => ModelError::Filtered("it left nothing of the answer".to_owned()),
            FinishReason::Stop | FinishReason::Length | FinishReason::ToolCalls => {
                ModelError::Malformed("an empty answer".to_owned())
            }
        }
        .into());
    }
    if writing.unsupported_marks > 0 {
        tracing::info!(count = writing.unsupported_marks, "took out citations without support");
    }
    Ok(Reply { tool_calls, ..writing.reply(pool.model().name(), finish, usage) })
}

/// Turns the model's text into the answer, as it comes.
pub(super) struct Writing<'a> {
    passages: &'a HashMap<String, Passage>,
    /// Without passages there are no marks: whatever looks like one is the model's text.
    markers: Option<Markers>,
    raw: String,
    none: bool,
    unsupported_marks: u32,
}

impl<'a> Writing<'a> {
    pub(super) fn new(passages: &'a HashMap<String, Passage>) -> Self {
        let markers = (!passages.is_empty()).then(Markers::default);
        Self { passages, markers, raw: String::new(), none: false, unsupported_marks: 0 }
    }

    pub(super) async fn hear(&mut self, speaker: &mut Speaker<'_>, text: &str) -> Result<(), Stopped> {
        self.raw.push_str(text);
        let Some(markers) = &mut self.markers else { return speaker.say(text).await };
        for piece in markers.push(text) {
            self.write(speaker, piece).await?;
        }
        Ok(())
    }

    /// Nothing more comes.
    pub(super) async fn end(mut self, speaker: &mut Speaker<'_>) -> Result<Self, Stopped> {
        if let Some(piece) = self.markers.take().and_then(Markers::finish) {
            self.write(speaker, piece).await?;
        }
        Ok(self)
    }

    pub(super) fn reply(self, model: &str, finish: FinishReason, usage: Option<Usage>) -> Reply {
        let Self { none, unsupported_marks, raw, .. } = self;
        Reply { none, unsupported_marks, raw, ..Reply::of(model, finish, usage) }
    }

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
