//! The sections that no other crate owns.

use std::fmt;
use std::time::Duration;

use millhand_common::model::{Agent, AgentKind, AgentName};
use millhand_common::ports::{Dimension, LimitPolicy, QuotaMode};
use millhand_worker::models::Timeouts;
use serde::Deserialize;

/// Where hints of ready jobs wait.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct BrokerConfig {
    pub(crate) kind: BrokerKind,
    /// `"amqp://…"` or `"host:9092,…"`; the embedded one has none.
    pub(crate) url: Option<Secret>,
    /// Queues or topics are called `<name>.<lane>`; the embedded one has none. Two installations on one
    /// server need two names.
    pub(crate) name: Option<String>,
}

impl BrokerConfig {
    /// What queues or topics are called, before their lane.
    pub(crate) fn name(&self) -> String {
        self.name.clone().unwrap_or_else(|| "millhand.jobs".to_owned())
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum BrokerKind {
    #[default]
    Embedded,
    Rabbitmq,
    Kafka,
}

/// Where jobs, their logs and conversations are kept.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct StoreConfig {
    pub(crate) kind: StoreKind,
    /// `"redis://…"`; the embedded one has none.
    pub(crate) url: Option<Secret>,
    /// Serve on a server that can lose what it has confirmed.
    pub(crate) allow_unsafe: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum StoreKind {
    #[default]
    Embedded,
    Redis,
}

/// Where passages are found.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct IndexConfig {
    /// Absent: embedded under `up`, none under `api` and `worker`.
    pub(crate) kind: Option<IndexKind>,
    /// `"postgres://…"` or `"http://…"`; the embedded one has none.
    pub(crate) url: Option<Secret>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum IndexKind {
    Embedded,
    Pgvector,
    Chroma,
    /// No documents: only `chat` works.
    None,
}

/// A pool: a model that writes answers. Without `[model] base_url` and `name` answers are quotations.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct ModelConfig {
    /// Of an OpenAI-compatible server, with its version: `"https://api.openai.com/v1"`.
    pub(crate) base_url: Option<String>,
    pub(crate) name: Option<String>,
    /// From the environment only, never from the file.
    pub(crate) api_key: Option<Secret>,
    /// Longest wait for the first token of an answer. A model that reads long prompts slowly, as on a
    /// machine without a GPU, needs more.
    #[serde(with = "humantime_serde")]
    pub(crate) first_token_timeout: Duration,
    /// Longest silence between two tokens; after it the call is made again.
    #[serde(with = "humantime_serde")]
    pub(crate) idle_timeout: Duration,
    /// The longest answer, in tokens, of a job that says none, where output is limited.
    pub(crate) max_output_tokens: u32,
    /// What the provider allows; absent, calls are not limited here.
    pub(crate) limits: Option<LimitsConfig>,
}

impl Default for ModelConfig {
    fn default() -> Self {
        let Timeouts { first_token, idle } = Timeouts::default();
        Self {
            base_url: None,
            name: None,
            api_key: None,
            first_token_timeout: first_token,
            idle_timeout: idle,
            max_output_tokens: 2048,
            limits: None,
        }
    }
}

impl ModelConfig {
    /// What limits its calls, if there are any.
    pub(crate) fn own_limits(&self) -> Option<&LimitsConfig> {
        self.limits.as_ref().filter(|_| self.name.is_some())
    }
}

/// What the provider of the model allows, all workers together.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct LimitsConfig {
    pub(crate) requests_per_minute: Option<u64>,
    /// Input and output together.
    pub(crate) tokens_per_minute: Option<u64>,
    pub(crate) input_tokens_per_minute: Option<u64>,
    pub(crate) output_tokens_per_minute: Option<u64>,
    /// Calls that run at a time.
    pub(crate) concurrency: Option<u32>,
    /// How quota comes back: all the time, or all at once each minute.
    pub(crate) mode: LimitsMode,
    /// How much refill the provider's bucket holds, in seconds.
    pub(crate) burst_seconds: u32,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum LimitsMode {
    #[default]
    Bucket,
    Window,
}

impl Default for LimitsConfig {
    fn default() -> Self {
        Self {
            requests_per_minute: None,
            tokens_per_minute: None,
            input_tokens_per_minute: None,
            output_tokens_per_minute: None,
            concurrency: None,
            mode: LimitsMode::Bucket,
            burst_seconds: 1,
        }
    }
}

impl LimitsConfig {
    /// As limiters take it.
    pub(crate) fn policy(&self) -> LimitPolicy {
        LimitPolicy {
            per_minute: Dimension::ALL.map(|dimension| match dimension {
                Dimension::Requests => self.requests_per_minute,
                Dimension::InputTokens => self.input_tokens_per_minute,
                Dimension::OutputTokens => self.output_tokens_per_minute,
                Dimension::Tokens => self.tokens_per_minute,
            }),
            concurrency: self.concurrency,
            mode: match self.mode {
                LimitsMode::Bucket => QuotaMode::Bucket,
                LimitsMode::Window => QuotaMode::Window,
            },
            burst_seconds: self.burst_seconds,
        }
    }
}

/// Answers of agents with `temperature = 0`, kept for who asks the same.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct CacheConfig {
    /// `false`: every call is made.
    pub(crate) enabled: bool,
    /// How long an answer is given again.
    #[serde(with = "humantime_serde")]
    pub(crate) ttl: Duration,
}

impl Default for CacheConfig {
    fn default() -> Self {
        Self { enabled: true, ttl: Duration::from_secs(3600) }
    }
}

/// A model that helps search: the one that turns passages into vectors, or the one that orders what was found.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct SearchModelConfig {
    /// Of an OpenAI-compatible server, with its version.
    pub(crate) base_url: Option<String>,
    pub(crate) name: Option<String>,
    /// From the environment only; absent, the model's key when both have one `base_url`.
    pub(crate) api_key: Option<Secret>,
    /// What the provider allows; absent, calls are not limited here.
    pub(crate) limits: Option<LimitsConfig>,
}

impl SearchModelConfig {
    /// Its own key, or the chat model's where both are served at one place.
    pub(crate) fn key<'a>(&'a self, model: &'a ModelConfig) -> Option<&'a Secret> {
        let shared = model.api_key.as_ref().filter(|_| model.base_url == self.base_url);
        self.api_key.as_ref().or(shared)
    }
}

/// How long ended jobs are kept. Both count from the terminal state.
#[derive(Clone, Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct RetentionConfig {
    /// Input and output; afterwards the job answers 410.
    #[serde(with = "humantime_serde")]
    pub(crate) jobs: Duration,
    /// The log; it goes with its job at the latest.
    #[serde(with = "humantime_serde")]
    pub(crate) events: Duration,
}

impl Default for RetentionConfig {
    fn default() -> Self {
        Self { jobs: Duration::from_secs(7 * 86_400), events: Duration::from_secs(86_400) }
    }
}

/// What leaves the process beside logs and metrics.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TelemetryConfig {
    /// Of an OpenTelemetry collector that takes OTLP over HTTP, without `/v1/traces`:
    /// `"http://localhost:4318"`. Absent: no traces are exported.
    pub(crate) otlp_endpoint: Option<String>,
}

/// An agent, or a change of a built-in one of that name.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct AgentConfig {
    /// `"rag"` (default: answers from documents), `"chat"` or `"react"`.
    pub(crate) kind: Option<AgentKind>,
    pub(crate) description: Option<String>,
    /// Put before the question for the model.
    pub(crate) instructions: Option<String>,
    /// The class of models that it asks, one of `[routes]`.
    pub(crate) model: Option<String>,
    /// 0 to 2, as the model is told; at 0 the same question gets the same answer, which may be kept.
    pub(crate) temperature: Option<f64>,
    pub(crate) seed: Option<i64>,
    /// `false`: every call is made, at `temperature = 0` too.
    pub(crate) cache: Option<bool>,
}

impl AgentConfig {
    /// A new agent of this name.
    pub(crate) fn agent(&self, name: AgentName) -> Agent {
        let mut agent = Agent::new(name, AgentKind::Rag);
        self.change(&mut agent);
        agent
    }

    /// Puts what is configured over what `agent` has.
    pub(crate) fn change(&self, agent: &mut Agent) {
        if let Some(kind) = self.kind {
            agent.kind = kind;
        }
        if let Some(description) = &self.description {
            agent.description.clone_from(description);
        }
        if self.instructions.is_some() {
            agent.instructions.clone_from(&self.instructions);
        }
        if self.model.is_some() {
            agent.model.clone_from(&self.model);
        }
        agent.sampling.temperature = self.temperature.or(agent.sampling.temperature);
        agent.sampling.seed = self.seed.or(agent.sampling.seed);
        agent.cache = self.cache.unwrap_or(agent.cache);
    }
}

/// Text that is never printed.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub(crate) struct Secret(String);

impl Secret {
    pub(crate) fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
