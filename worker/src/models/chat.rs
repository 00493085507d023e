//! Chat over OpenAI's protocol, streamed.

use std::collections::VecDeque;
use std::pin::Pin;

use async_trait::async_trait;
use bytes::Bytes;
use futures::{Stream, StreamExt};
use millhand_common::model::{Timestamp, Usage};
use millhand_common::ports::{ChatDelta, ChatModel, ChatRequest, ChatStream, FinishReason, ModelError};
use reqwest::header::CONTENT_TYPE;
use serde::Deserialize;
use serde_json::Value;
use tokio::time::{Instant, timeout_at};

use super::body::Body;
use super::client::{Client, read, unreachable};
use super::limits::limits;
use super::refusal::{ErrorObject, error_in_answer};
use super::sse::SseParser;
use super::tool_calls::{CallPiece, Calls};
use super::{Endpoint, SetupError, Timeouts};
use crate::observe::answered_by;

/// An answer that is not streamed is smaller than this.
const MAX_ANSWER_BYTES: usize = 16 << 20;

/// A [`ChatModel`] on any server that speaks OpenAI's protocol.
pub struct OpenAiModel {
    client: Client,
    name: String,
    timeouts: Timeouts,
}

impl OpenAiModel {
    /// Builds the client; sends nothing.
    pub fn new(endpoint: &Endpoint, timeouts: Timeouts) -> Result<Self, SetupError> {
        Ok(Self { client: Client::new(endpoint)?, name: endpoint.name.clone(), timeouts })
    }
}

#[async_trait]
impl ChatModel for OpenAiModel {
    fn name(&self) -> &str {
        &self.name
    }

    fn origin(&self) -> &str {
        self.client.base()
    }

    async fn stream(&self, request: ChatRequest) -> Result<ChatStream, ModelError> {
        let started = Instant::now();
        let deadline = Instant::from_std(request.deadline);
        let body = Body::of(&self.name, &request, self.client.is_openai());
        let first_token_by = deadline.min(started + self.timeouts.first_token);
        let call = self.client.post("chat/completions", &body, request.traceparent.as_deref());
        let response = timeout_at(first_token_by, call).await.map_err(|_| ModelError::TimedOut)??;
        let limits = Box::new(limits(response.headers(), Timestamp::now()));
        let content_type = response.headers().get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
        if content_type.is_some_and(|kind| kind.contains("json")) {
            let body = timeout_at(deadline, read(response, MAX_ANSWER_BYTES)).await;
            let answer = body.map_err(|_| ModelError::TimedOut).flatten().and_then(|body| whole(&body));
            // It was let in, whatever it answered.
            let deltas = match answer {
                Ok(deltas) => deltas.into_iter().map(Ok).collect(),
                Err(err) => vec![Err(err)],
            };
            let first = Ok(ChatDelta::Limits(limits));
            return Ok(Box::pin(futures::stream::iter(std::iter::once(first).chain(deltas))));
        }
        let reading = Reading {
            body: Box::pin(response.bytes_stream()),
            parser: SseParser::default(),
            ready: VecDeque::from([ChatDelta::Limits(limits)]),
            finish: None,
            usage: None,
            calls: Calls::default(),
            next_token_by: first_token_by,
            deadline,
            timeouts: self.timeouts,
            ended: false,
        };
        Ok(Box::pin(futures::stream::unfold(reading, Reading::step)))
    }
}

#[derive(Deserialize)]
struct Chunk {
    /// In place of everything else.
    #[serde(default)]
    error: Value,
    #[serde(default)]
    model: Option<String>,
    #[serde(default)]
    choices: Vec<Choice>,
    #[serde(default)]
    usage: Option<Tokens>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default, alias = "message")]
    delta: Delta,
    #[serde(default)]
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Delta {
    #[serde(default)]
    content: Option<String>,
    #[serde(default)]
    tool_calls: Option<Vec<CallPiece>>,
}

#[derive(Clone, Copy, Deserialize)]
struct Tokens {
    #[serde(default)]
    prompt_tokens: u64,
    #[serde(default)]
    completion_tokens: u64,
}

impl From<Tokens> for Usage {
    fn from(tokens: Tokens) -> Self {
        Self { input_tokens: tokens.prompt_tokens, output_tokens: tokens.completion_tokens, nano_usd: 0 }
    }
}

fn finish(reason: &str) -> FinishReason {
    match reason {
        "length" | "max_tokens" => FinishReason::Length,
        "content_filter" => FinishReason::ContentFilter,
        "tool_calls" | "function_call" => FinishReason::ToolCalls,
        _ => FinishReason::Stop,
    }
}

fn parse(data: &[u8]) -> Result<Chunk, ModelError> {
    let chunk = serde_json::from_slice::<Chunk>(data);
    // What is no chunk at all may still be an error.
    let error = match &chunk {
        Ok(chunk) => ErrorObject::of(&chunk.error),
        Err(_) => ErrorObject::find(data),
    };
    if let Some(error) = error {
        return Err(error_in_answer(&error));
    }
    chunk.map_err(|err| {
        // The reason names places in the JSON, not its text.
        ModelError::Malformed(format!(
            "an event is not a chat chunk ({:?}, column {})",
            err.classify(),
            err.column()
        ))
    })
}

/// An answer of a server that does not stream: all that it would have said.
fn whole(body: &[u8]) -> Result<Vec<ChatDelta>, ModelError> {
    let chunk = parse(body)?;
    if let Some(model) = &chunk.model {
        answered_by(model);
    }
    let Some(choice) = chunk.choices.into_iter().next() else {
        return Err(ModelError::Malformed("no choices".to_owned()));
    };
    let Some(reason) = choice.finish_reason else {
        return Err(ModelError::Malformed("no finish_reason".to_owned()));
    };
    let mut deltas = vec![ChatDelta::Text(choice.delta.content.unwrap_or_default())];
    let mut calls = Calls::default();
    calls.take(choice.delta.tool_calls.unwrap_or_default());
    deltas.extend(calls.finish(finish(&reason), chunk.usage.map(Usage::from)));
    Ok(deltas)
}

/// A stream half read.
struct Reading {
    body: Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>>,
    parser: SseParser,
    ready: VecDeque<ChatDelta>,
    finish: Option<FinishReason>,
    usage: Option<Usage>,
    calls: Calls,
    next_token_by: Instant,
    deadline: Instant,
    timeouts: Timeouts,
    ended: bool,
}

impl Reading {
    async fn step(mut self) -> Option<(Result<ChatDelta, ModelError>, Self)> {
        loop {
            if let Some(delta) = self.ready.pop_front() {
                return Some((Ok(delta), self));
            }
            if self.ended {
                return None;
            }
            if let Err(err) = self.read().await {
                self.ended = true;
                return Some((Err(err), self));
            }
        }
    }

    async fn read(&mut self) -> Result<(), ModelError> {
        // Once the reason is there only the usage can still come: it is not worth a failed answer.
        let read = timeout_at(self.next_token_by, self.body.next()).await;
        let bytes = match read {
            Ok(Some(Ok(bytes))) => bytes,
            Ok(None) | Ok(Some(Err(_))) | Err(_) if self.finish.is_some() => return self.end(),
            Ok(None) => return Err(ModelError::Malformed("the stream ended early".to_owned())),
            Ok(Some(Err(err))) => return Err(unreachable(err)),
            Err(_) => return Err(ModelError::TimedOut),
        };
        let events = self
            .parser
            .push(&bytes)
            .map_err(|_| ModelError::Malformed("an event is too large".to_owned()))?;
        for event in events {
            if event.trim_ascii() == b"[DONE]" {
                return self.end();
            }
            self.take(parse(&event)?);
        }
        Ok(())
    }

    fn take(&mut self, chunk: Chunk) {
        if let Some(tokens) = chunk.usage {
            self.usage = Some(tokens.into());
        }
        // Comments and empty events are no sign of life: only chunks with choices move the timer.
        if let Some(choice) = chunk.choices.into_iter().next() {
            self.next_token_by = self.deadline.min(Instant::now() + self.timeouts.idle);
            if let Some(text) = choice.delta.content.filter(|text| !text.is_empty()) {
                self.ready.push_back(ChatDelta::Text(text));
            }
            self.calls.take(choice.delta.tool_calls.unwrap_or_default());
            if let Some(reason) = choice.finish_reason {
                self.finish = Some(finish(&reason));
                if let Some(model) = &chunk.model {
                    answered_by(model);
                }
            }
        }
    }

    fn end(&mut self) -> Result<(), ModelError> {
        self.ended = true;
        let Some(reason) = self.finish else {
            return Err(ModelError::Malformed("no finish_reason".to_owned()));
        };
        self.ready.extend(std::mem::take(&mut self.calls).finish(reason, self.usage));
        Ok(())
    }
}
