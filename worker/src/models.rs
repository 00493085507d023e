//! Adapters of the model ports. Only the worker calls models.

mod body;
mod chat;
mod client;
mod embeddings;
mod limits;
mod refusal;
mod rerank;
mod sse;
mod tool_calls;

use std::fmt;
use std::time::Duration;

pub use chat::OpenAiModel;
pub use embeddings::OpenAiEmbedder;
pub use rerank::HttpReranker;

/// Where a model is served, by a server that speaks OpenAI's protocol.
#[derive(Clone)]
pub struct Endpoint {
    /// With its version, e.g. `https://api.openai.com/v1`; a bare host means its `/v1`.
    pub base_url: String,
    /// The model's name there.
    pub name: String,
    /// Bearer token. Never logged, never in an error.
    pub api_key: Option<String>,
}

impl fmt::Debug for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoint")
            .field("base_url", &self.base_url)
            .field("name", &self.name)
            .field("api_key", &self.api_key.as_ref().map(|_| "***"))
            .finish()
    }
}

/// Longest waits of one model call; its deadline ends it besides.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// From sending the request to the first token.
    pub first_token: Duration,
    /// From one token to the next.
    pub idle: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self { first_token: Duration::from_secs(20), idle: Duration::from_secs(20) }
    }
}

/// A model cannot be set up as configured.
#[derive(Debug, thiserror::Error)]
pub enum SetupError {
    #[error("model base_url `{0}` is not an http(s) URL")]
    Url(String),
    #[error("the model's api_key has characters that no header can carry")]
    Key,
    #[error("the HTTP client cannot be built")]
    Client(#[source] reqwest::Error),
}
