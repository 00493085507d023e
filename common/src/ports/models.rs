//! Model calls. Only the worker makes them.

use std::pin::Pin;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::Stream;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::model::{Sampling, Usage};

/// A model that writes text.
#[async_trait]
pub trait ChatModel: Send + Sync {
    /// The model's name, as usage is counted.
    fn name(&self) -> &str;

    /// Where it is served: models of one name at two places may be two models.
    fn origin(&self) -> &str;

    /// Sends the request; the stream ends after `ChatDelta::Finished` or an error. Dropping the
    /// future or the stream closes the call.
    async fn stream(&self, request: ChatRequest) -> Result<ChatStream, ModelError>;
}

pub type ChatStream = Pin<Box<dyn Stream<Item = Result<ChatDelta, ModelError>> + Send>>;

#[derive(Clone, Debug, PartialEq)]
pub struct ChatRequest {
    pub messages: Vec<ChatMessage>,
    /// What the model may ask for instead of an answer.
    pub tools: Vec<ToolSpec>,
    /// `false`: it has to answer now, though it has been given tools before.
    pub may_call: bool,
    pub max_output_tokens: Option<u32>,
    pub sampling: Sampling,
    /// The call ends by then, whatever the model does.
    pub deadline: Instant,
    /// W3C trace context to send along.
    pub traceparent: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ChatRole {
    System,
    User,
    Assistant,
    /// What a tool returned.
    Tool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    pub role: ChatRole,
    pub content: String,
    /// What an assistant asked for beside its text.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tool_calls: Vec<ToolCall>,
    /// Which of them a tool's message answers.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tool_call_id: Option<String>,
}

impl ChatMessage {
    /// A message of text alone.
    #[must_use]
    pub fn new(role: ChatRole, content: String) -> Self {
        Self { role, content, tool_calls: Vec::new(), tool_call_id: None }
    }

    /// All of it that a model reads.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        let calls = self.tool_calls.iter().flat_map(|call| [call.name.as_str(), call.arguments.as_str()]);
        std::iter::once(self.content.as_str()).chain(calls)
    }
}

/// A tool as a model is told of it.
#[derive(Clone, Debug, PartialEq)]
pub struct ToolSpec {
    pub name: String,
    pub description: String,
    parameters: Value,
    schema: String,
}

impl ToolSpec {
    /// `parameters` is a JSON schema of an object.
    #[must_use]
    pub fn new(name: &str, description: &str, parameters: Value) -> Self {
        let schema = parameters.to_string();
        Self { name: name.to_owned(), description: description.to_owned(), parameters, schema }
    }

    #[must_use]
    pub fn parameters(&self) -> &Value {
        &self.parameters
    }

    /// All of it that a model reads.
    pub fn texts(&self) -> impl Iterator<Item = &str> {
        [self.name.as_str(), self.description.as_str(), self.schema.as_str()].into_iter()
    }
}

/// A model asks for a tool.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ToolCall {
    /// The provider's, or one of our own where it gives none.
    pub id: String,
    pub name: String,
    /// JSON, as the model wrote it: it may be no JSON at all.
    pub arguments: String,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ChatDelta {
    /// What the provider said of its limits; at most once, before any text.
    Limits(Box<LimitFacts>),
    Text(String),
    /// A whole one; before the end.
    ToolCall(ToolCall),
    Finished {
        reason: FinishReason,
        usage: Option<Usage>,
    },
}

/// What a provider says of its limits with an answer or a refusal. All of it is hearsay: what remains is
/// at most what it says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitFacts {
    pub requests: LimitFact,
    pub tokens: LimitFact,
    pub input_tokens: LimitFact,
    pub output_tokens: LimitFact,
}

/// One limit; what was not said is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LimitFact {
    /// Per minute, where the provider has no other period.
    pub limit: Option<u64>,
    pub remaining: Option<u64>,
    /// Until it is whole again.
    pub resets_in: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FinishReason {
    Stop,
    /// Cut by `max_output_tokens`.
    Length,
    ContentFilter,
    /// It asks for tools.
    ToolCalls,
}

/// A model that turns texts into vectors.
#[async_trait]
pub trait Embedder: Send + Sync {
    /// Names the model; vectors of different names are never mixed.
    fn name(&self) -> &str;

    /// One vector per text, in order, all of one length, in one call: [`crate::search::one_call`] says how many
    /// texts it takes. May be dropped.
    async fn embed(&self, texts: &[String], deadline: Instant) -> Result<Reading<Vec<Vec<f32>>>, ModelError>;
}

/// A model that says how well texts answer a question.
#[async_trait]
pub trait Reranker: Send + Sync {
    /// Names the model.
    fn name(&self) -> &str;

    /// One score per text, in order; the higher, the better it answers. Scores of one call order its texts and
    /// mean nothing beside those of another. A text that the model left out has the lowest. May be dropped.
    async fn rerank(
        &self,
        query: &str,
        texts: &[&str],
        deadline: Instant,
    ) -> Result<Reading<Vec<f32>>, ModelError>;
}

/// What a model that reads, and does not write, made of what it was given.
#[derive(Clone, Debug, PartialEq)]
pub struct Reading<T> {
    pub value: T,
    /// As the provider counted; absent when it did not.
    pub usage: Option<Usage>,
    /// What it said of its limits.
    pub limits: LimitFacts,
}

impl<T> Reading<T> {
    /// Of a model that counts nothing and has no limits.
    #[must_use]
    pub fn uncounted(value: T) -> Self {
        Self { value, usage: None, limits: LimitFacts::default() }
    }
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum ModelError {
    /// The provider's own limit; `retry_after` as it said.
    #[error("model refused for its rate limit")]
    RateLimited { retry_after: Option<Duration>, limits: Box<LimitFacts> },
    /// The provider takes no more calls for now, whoever makes them; `retry_after` as it said.
    #[error("model has no capacity now")]
    Overloaded { retry_after: Option<Duration> },
    #[error("model is unavailable: {0}")]
    Unavailable(String),
    /// No first token, no next token, or the deadline.
    #[error("model did not answer in time")]
    TimedOut,
    /// What came is not what the protocol says, or ended early.
    #[error("model sent an answer that makes no sense: {0}")]
    Malformed(String),
    /// The account takes no calls until somebody pays or raises its limit.
    #[error("model's account has no credit: {0}")]
    NoCredit(String),
    /// More than the model, or its rate limit, can ever take in one call.
    #[error("the request is too large for the model: {0}")]
    TooLarge(String),
    /// The request itself is refused; sending it again changes nothing.
    #[error("model refused the request: {0}")]
    Rejected(String),
    /// The provider's content filter took the question or the answer; another call may pass.
    #[error("the model's content filter refused: {0}")]
    Filtered(String),
    /// Key missing or not accepted.
    #[error("model refused the key")]
    Unauthorized,
}
