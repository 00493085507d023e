//! Agents: what one can ask.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::AgentName;

/// The pipeline behind an agent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgentKind {
    /// Answers from documents, with citations.
    Rag,
    /// History and model, no retrieval.
    Chat,
    /// Answers from documents, which the model searches by itself, as often as it needs.
    React,
}

impl AgentKind {
    /// Whether documents are of use to it.
    #[must_use]
    pub fn reads_documents(self) -> bool {
        matches!(self, Self::Rag | Self::React)
    }

    /// Whether it can do nothing without a model.
    #[must_use]
    pub fn needs_model(self) -> bool {
        matches!(self, Self::Chat | Self::React)
    }
}

/// How a model draws the next token; what is absent is the provider's to choose.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Sampling {
    /// 0 to 2; at 0 the likeliest is taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub temperature: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seed: Option<i64>,
}

impl Sampling {
    /// Whether the same request is meant to get the same answer.
    #[must_use]
    pub fn is_deterministic(&self) -> bool {
        self.temperature == Some(0.0)
    }
}

/// A named, configured pipeline.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Agent {
    #[schema(value_type = String)]
    pub name: AgentName,
    pub kind: AgentKind,
    pub description: String,
    /// Put before the question for the model; the built-in text when absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instructions: Option<String>,
    /// The class of models that it asks; absent, the one that needs no configuration.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    #[serde(flatten)]
    pub sampling: Sampling,
    /// Its deterministic answers may be kept and given again.
    pub cache: bool,
}

impl Agent {
    /// An agent of this name with nothing configured.
    #[must_use]
    pub fn new(name: AgentName, kind: AgentKind) -> Self {
        Self {
            name,
            kind,
            description: String::new(),
            instructions: None,
            model: None,
            sampling: Sampling::default(),
            cache: true,
        }
    }

    /// Whether one answer may serve all who ask the same.
    #[must_use]
    pub fn shares_answers(&self) -> bool {
        self.cache && self.sampling.is_deterministic()
    }

    /// The agents that are there without configuration.
    #[must_use]
    pub fn built_in() -> Vec<Self> {
        let agent = |name, kind, description: &str| Self {
            description: description.to_owned(),
            ..Self::new(name, kind)
        };
        vec![
            agent(AgentName::rag(), AgentKind::Rag, "Answers from your documents, with citations."),
            agent(AgentName::chat(), AgentKind::Chat, "Talks with the model, without documents."),
            agent(
                AgentName::react(),
                AgentKind::React,
                "Searches your documents step by step, as the model decides, and answers with citations.",
            ),
        ]
    }
}
