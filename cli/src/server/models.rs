//! The models that the configuration names.

use std::sync::Arc;

use anyhow::Context;
use millhand_api::{Allowance, NamedLimiter};
use millhand_common::adapters::local::{LocalAnswers, LocalLimiter};
use millhand_common::ports::{AnswerCache, Budget, ChatModel, Embedder, RateLimiter, Reranker};
use millhand_worker::cache::Cache;
use millhand_worker::costs::Costs;
use millhand_worker::models::{Endpoint, HttpReranker, OpenAiEmbedder, OpenAiModel, Timeouts};
use millhand_worker::quota::{Limited, Quota};
use millhand_worker::routing::{DEFAULT, Pool, Routes};

use super::shared;
use crate::config::{Config, LimitsConfig, ModelConfig, SearchModelConfig, Secret, StoreKind};

/// What answers may take in the memory of one process: some ten thousand of the usual length.
const ANSWERS_BYTES: usize = 32 << 20;

/// The models that write answers, and who is sent to which.
pub(super) fn routes(config: &Config, limiters: &[NamedLimiter]) -> anyhow::Result<Routes> {
    let mut pools = Vec::new();
    for (name, model) in config.pools() {
        let chat = chat(model).with_context(|| section(name))?;
        let quota = quota(limiters, name, model.limits.as_ref(), model.max_output_tokens);
        pools.extend(chat.map(|chat| Pool::new(name, chat, quota)));
    }
    Ok(Routes::new(pools, config.routes.clone()))
}

/// The quota of each model that is limited.
pub(super) async fn limiters(config: &Config) -> anyhow::Result<Vec<NamedLimiter>> {
    let pools = config.pools().map(|(name, model)| {
        let endpoint = endpoint(&model.base_url, &model.name, model.api_key.as_ref());
        (name, section(name), endpoint, model.limits.as_ref())
    });
    let search = [("embedder", &config.embedder), ("reranker", &config.reranker)];
    let search = search.map(|(name, model)| {
        (name, format!("[{name}]"), search_endpoint(config, model), model.limits.as_ref())
    });
    let mut limiters = Vec::new();
    for (name, section, endpoint, limits) in pools.chain(search) {
        if let Some((endpoint, limits)) = endpoint.zip(limits) {
            let limiter = limiter(config, &endpoint, limits).await.context(section)?;
            limiters.push(NamedLimiter { name: name.to_owned(), limiter });
        }
    }
    Ok(limiters)
}

fn section(pool: &str) -> String {
    if pool == DEFAULT { "[model]".to_owned() } else { format!("[models.{pool}]") }
}

/// `None` where it is not configured.
pub(super) fn chat(model: &ModelConfig) -> anyhow::Result<Option<Arc<dyn ChatModel>>> {
    let Some(endpoint) = endpoint(&model.base_url, &model.name, model.api_key.as_ref()) else {
        return Ok(None);
    };
    let timeouts = Timeouts { first_token: model.first_token_timeout, idle: model.idle_timeout };
    Ok(Some(Arc::new(OpenAiModel::new(&endpoint, timeouts)?)))
}

async fn limiter(
    config: &Config,
    endpoint: &Endpoint,
    limits: &LimitsConfig,
) -> anyhow::Result<Arc<dyn RateLimiter>> {
    let policy = limits.policy();
    if config.store.kind == StoreKind::Embedded {
        return Ok(Arc::new(LocalLimiter::new(policy)));
    }
    // Processes with one model of one account share its quota; the key itself is told to nobody.
    let Endpoint { base_url, name, api_key } = endpoint;
    let key = api_key.as_deref().unwrap_or_default();
    let pool = blake3::hash(format!("{base_url}\n{name}\n{key}").as_bytes()).to_hex();
    shared::limiter(config, &pool[..16], &policy).await
}

fn quota(
    limiters: &[NamedLimiter],
    name: &str,
    limits: Option<&LimitsConfig>,
    longest: u32,
) -> Option<Arc<Quota>> {
    let limiter = limiters.iter().find(|limiter| limiter.name == name)?;
    Some(Quota::new(Arc::clone(&limiter.limiter), limits?.policy(), longest))
}

/// Answers that are given again; `None` when every call is made.
pub(super) async fn cache(config: &Config) -> anyhow::Result<Option<Arc<Cache>>> {
    if config.agents_with_cache().is_empty() {
        return Ok(None);
    }
    let answers: Arc<dyn AnswerCache> = match config.store.kind {
        StoreKind::Embedded => Arc::new(LocalAnswers::new(ANSWERS_BYTES)),
        StoreKind::Redis => shared::answers(config).await?,
    };
    Ok(Some(Cache::new(answers, config.cache.ttl)))
}

/// What their calls cost, and may.
pub(super) fn costs(config: &Config, budget: &Arc<dyn Budget>) -> Arc<Costs> {
    let budgets = config.budgets().map(|limits| (Arc::clone(budget), limits));
    Arc::new(Costs::new(config.prices(), budgets, config.model.max_output_tokens))
}

/// What an ingress refuses for want of money; `None` when it refuses nothing.
pub(super) fn allowance(config: &Config, budget: &Arc<dyn Budget>) -> Option<Allowance> {
    let table = config.prices();
    let models = config.pools().filter_map(|(_, model)| model.name.as_ref());
    let prices: Vec<_> = models.map(|model| table.of(model).unwrap_or_else(|| table.ceiling())).collect();
    if prices.is_empty() {
        return None;
    }
    Some(Allowance {
        budget: Arc::clone(budget),
        limits: config.budgets()?,
        prices,
        max_output_tokens: config.model.max_output_tokens,
    })
}

/// The model that makes vectors; `None` when search goes by words.
pub(super) fn embedder(
    config: &Config,
    limiters: &[NamedLimiter],
) -> anyhow::Result<Option<Arc<Limited<dyn Embedder>>>> {
    let Some(endpoint) = search_endpoint(config, &config.embedder) else { return Ok(None) };
    let model = Arc::new(OpenAiEmbedder::new(&endpoint).context("[embedder]")?);
    Ok(Some(Limited::new(model, quota(limiters, "embedder", config.embedder.limits.as_ref(), 0))))
}

/// The model that orders what was found; `None` when the pipeline does.
pub(super) fn reranker(
    config: &Config,
    limiters: &[NamedLimiter],
) -> anyhow::Result<Option<Arc<Limited<dyn Reranker>>>> {
    let Some(endpoint) = search_endpoint(config, &config.reranker) else { return Ok(None) };
    let model = Arc::new(HttpReranker::new(&endpoint).context("[reranker]")?);
    Ok(Some(Limited::new(model, quota(limiters, "reranker", config.reranker.limits.as_ref(), 0))))
}

fn search_endpoint(config: &Config, of: &SearchModelConfig) -> Option<Endpoint> {
    endpoint(&of.base_url, &of.name, of.key(&config.model))
}

fn endpoint(base_url: &Option<String>, name: &Option<String>, key: Option<&Secret>) -> Option<Endpoint> {
    Some(Endpoint {
        base_url: base_url.clone()?,
        name: name.clone()?,
        api_key: key.map(|key| key.expose().to_owned()),
    })
}
