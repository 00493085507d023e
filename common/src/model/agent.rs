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
}

/// A named, configured pipeline.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
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
}

impl Agent {
    /// The agents that are there without configuration.
    #[must_use]
    pub fn built_in() -> Vec<Self> {
        let agent = |name, kind, description: &str| Self {
            name,
            kind,
            description: description.to_owned(),
            instructions: None,
            model: None,
        };
        vec![
            agent(AgentName::rag(), AgentKind::Rag, "Answers from your documents, with citations."),
            agent(AgentName::chat(), AgentKind::Chat, "Talks with the model, without documents."),
        ]
    }
}
