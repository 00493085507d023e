//! Model calls. Only the worker makes them.

use std::pin::Pin;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use futures::Stream;
use serde::{Deserialize, Serialize};

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
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ChatMessage {
    pub role: ChatRole,
    pub content: String,
}

#[derive(Clone, Debug, PartialEq)]
pub enum ChatDelta {
    /// What the provider said of its limits; at most once, before any text.
    Limits(Box<LimitFacts>),
    Text(String),
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
}

/// A model that turns texts into vectors.
#[async_trait]
pub trait Embedder: Send + Sync {
    /// Names the model; vectors of different names are never mixed.
    fn name(&self) -> &str;

    /// One vector per text, in order, all of one length. May be dropped.
    async fn embed(&self, texts: &[String], deadline: Instant) -> Result<Vec<Vec<f32>>, ModelError>;
}

/// A model that says how well texts answer a question.
#[async_trait]
pub trait Reranker: Send + Sync {
    /// One score per text, in order; the higher, the better it answers. Scores of one call order its texts and
    /// mean nothing beside those of another. A text that the model left out has the lowest. May be dropped.
    async fn rerank(&self, query: &str, texts: &[&str], deadline: Instant) -> Result<Vec<f32>, ModelError>;
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
    /// Key missing or not accepted.
    #[error("model refused the key")]
    Unauthorized,
}
