//! The whole configuration: one field per part, each part owning its section.
//!
//! Defaults, then the file, then the environment; reading it has no effects.

mod load;
mod money;
mod report;
mod rules;
mod sections;

use std::collections::BTreeMap;
use std::path::PathBuf;

use millhand_api::{AdminConfig, ApiConfig};
use millhand_common::brownout::BrownoutConfig;
use millhand_common::model::{Agent, AgentName, TenantId};
use millhand_worker::WorkerConfig;
use millhand_worker::routing::{Class, DEFAULT};
use serde::Deserialize;

pub(crate) use load::{Loaded, load};
pub(crate) use money::{BudgetsConfig, FairnessConfig, PriceConfig, TenantConfig};
pub(crate) use report::{answers, jobs, report, search};
pub(crate) use sections::{
    AgentConfig, BrokerConfig, BrokerKind, CacheConfig, IndexConfig, IndexKind, LimitsConfig, LimitsMode,
    ModelConfig, RetentionConfig, SearchModelConfig, Secret, StoreConfig, StoreKind, TelemetryConfig,
};

/// Everything that can be configured.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) api: ApiConfig,
    pub(crate) admin: AdminConfig,
    pub(crate) broker: BrokerConfig,
    pub(crate) store: StoreConfig,
    pub(crate) index: IndexConfig,
    pub(crate) worker: WorkerConfig,
    pub(crate) model: ModelConfig,
    /// Further pools; the one of `model` is called `default`.
    pub(crate) models: BTreeMap<String, ModelConfig>,
    /// Which pools answer for which class.
    pub(crate) routes: BTreeMap<String, Class>,
    pub(crate) cache: CacheConfig,
    /// Without it search goes by words only.
    pub(crate) embedder: SearchModelConfig,
    /// Without it what was found is ordered by how much of the question it has.
    pub(crate) reranker: SearchModelConfig,
    pub(crate) retention: RetentionConfig,
    pub(crate) agents: BTreeMap<AgentName, AgentConfig>,
    /// By the name of the model.
    pub(crate) prices: BTreeMap<String, PriceConfig>,
    pub(crate) budgets: BudgetsConfig,
    pub(crate) tenants: BTreeMap<TenantId, TenantConfig>,
    pub(crate) telemetry: TelemetryConfig,
    pub(crate) fairness: FairnessConfig,
    pub(crate) brownout: BrownoutConfig,
}

impl Config {
    /// The ladder, with the wait that admission allows unless it says its own.
    pub(crate) fn brownout(&self) -> BrownoutConfig {
        let longest_wait = self.brownout.longest_wait.or(self.api.admission.max_wait_interactive);
        BrownoutConfig { longest_wait, ..self.brownout.clone() }
    }

    /// Every pool that is configured, by its name.
    pub(crate) fn pools(&self) -> impl Iterator<Item = (&str, &ModelConfig)> {
        let default = self.model.name.as_ref().map(|_| (DEFAULT, &self.model));
        default.into_iter().chain(self.models.iter().map(|(name, model)| (name.as_str(), model)))
    }

    /// Whether agents that name no class have a model.
    pub(crate) fn has_default_model(&self) -> bool {
        self.model.name.is_some() || self.routes.contains_key(DEFAULT)
    }

    /// All that can be asked: the built-in agents, changed and joined by the configured ones.
    pub(crate) fn agents(&self) -> Vec<Agent> {
        let mut agents = Agent::built_in();
        for (name, config) in &self.agents {
            match agents.iter_mut().find(|agent| agent.name == *name) {
                Some(agent) => config.change(agent),
                None => agents.push(config.agent(name.clone())),
            }
        }
        agents
    }

    /// Names of agents whose answers are kept and given again.
    pub(crate) fn agents_with_cache(&self) -> Vec<AgentName> {
        if !self.cache.enabled || self.pools().next().is_none() {
            return Vec::new();
        }
        self.agents().into_iter().filter(Agent::shares_answers).map(|agent| agent.name).collect()
    }
}

/// Why the configuration is not taken. Says which key, where it comes from and what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConfigError {
    #[error("cannot read the configuration file {}", .path.display())]
    File { path: PathBuf, source: std::io::Error },
    #[error("{place} is not TOML: {reason}")]
    Syntax { place: String, reason: String },
    #[error("unknown key `{key}` in {place}: {hint}")]
    UnknownKey { key: String, place: String, hint: String },
    #[error("`{key}` in {place}: {reason}")]
    BadValue { key: String, place: String, reason: String },
    /// A whole sentence that says what to do.
    #[error("{0}")]
    Rule(String),
}

#[cfg(test)]
mod tests;
