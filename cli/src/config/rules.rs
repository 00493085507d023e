//! Rules that concern more than one key. Each message says what to do.

mod brownout;
mod routes;

use std::time::Duration;

use super::load::Setting;
use super::{
    AgentConfig, BrokerConfig, BrokerKind, CacheConfig, Config, ConfigError, IndexKind, LimitsConfig,
    ModelConfig, SearchModelConfig, StoreKind, TelemetryConfig,
};
use millhand_common::model::Share;
use millhand_common::ports::LimitPolicy;

/// Refuses what this version cannot serve and what contradicts itself.
pub(super) fn check(config: &Config, set: &[Setting]) -> Result<(), ConfigError> {
    kinds(config)?;
    broker(&config.broker)?;
    keys_are_not_in_the_file(set)?;
    model("model", &config.model)?;
    routes::names(config)?;
    for (name, pool) in &config.models {
        model(&format!("models.{name}"), pool)?;
    }
    routes::check(config)?;
    cache(&config.cache)?;
    for (name, config) in &config.agents {
        agent(name.as_str(), config)?;
    }
    search_model("embedder", &config.embedder, "to search by words only")?;
    search_model("reranker", &config.reranker, "to order passages without one")?;
    shares(config)?;
    admission(config)?;
    brownout::check(&config.brownout)?;
    telemetry(&config.telemetry)
}

fn telemetry(telemetry: &TelemetryConfig) -> Result<(), ConfigError> {
    let Some(endpoint) = &telemetry.otlp_endpoint else { return Ok(()) };
    match reqwest::Url::parse(endpoint) {
        Ok(url) if matches!(url.scheme(), "http" | "https") && url.host_str().is_some() => Ok(()),
        _ => Err(ConfigError::Rule(
            "`telemetry.otlp_endpoint` is no address of a collector: it takes OTLP over HTTP, e.g. at \
             http://localhost:4318"
                .to_owned(),
        )),
    }
}

fn kinds(config: &Config) -> Result<(), ConfigError> {
    let later = |key: &str, kind: &str| {
        Err(ConfigError::Rule(format!("`{key} = \"{kind}\"` comes with a later version")))
    };
    if config.index.kind == Some(IndexKind::Chroma) {
        return later("index.kind", "chroma");
    }
    let (broker, store, index) = (config.broker.kind, config.store.kind, config.index.kind);
    let broker_example = match broker {
        BrokerKind::Rabbitmq => "amqp://user:password@host:5672",
        BrokerKind::Embedded | BrokerKind::Kafka => "host:9092,host:9092",
    };
    let parts = [
        ("broker", broker != BrokerKind::Embedded, &config.broker.url, broker_example),
        ("store", store != StoreKind::Embedded, &config.store.url, "redis://host:6379"),
        (
            "index",
            matches!(index, Some(IndexKind::Pgvector | IndexKind::Chroma)),
            &config.index.url,
            "postgres://user:password@host/database",
        ),
    ];
    for (section, is_elsewhere, url, example) in parts {
        let upper = section.to_uppercase();
        match (is_elsewhere, url) {
            (true, None) => {
                return Err(ConfigError::Rule(format!(
                    "`{section}.kind` names a server, but `{section}.url` is not set: set it or MILLHAND_{upper}__URL, \
                     e.g. to {example}"
                )));
            }
            (false, Some(_)) => {
                return Err(ConfigError::Rule(format!(
                    "`{section}.url` is set, but this {section} has no address: remove it, or set `{section}.kind`"
                )));
            }
            _ => {}
        }
    }
    Ok(())
}

fn broker(broker: &BrokerConfig) -> Result<(), ConfigError> {
    let is_rabbit = broker.kind == BrokerKind::Rabbitmq;
    let is_amqp = |url: &str| url.starts_with("amqp://") || url.starts_with("amqps://");
    if is_rabbit && !broker.url.as_ref().is_some_and(|url| is_amqp(url.expose())) {
        return Err(ConfigError::Rule(
            "`broker.url` is not an address of RabbitMQ: it starts with amqp://, or amqps:// for TLS, e.g. \
             amqp://user:password@host:5672"
                .to_owned(),
        ));
    }
    match &broker.name {
        Some(_) if broker.kind == BrokerKind::Embedded => Err(ConfigError::Rule(
            "`broker.name` is set, but this broker has no queues to name: remove it, or set `broker.kind`"
                .to_owned(),
        )),
        // Kafka takes no other characters, and no longer names.
        Some(name)
            if name.is_empty()
                || name.len() > 200
                || !name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)) =>
        {
            Err(ConfigError::Rule(
                "`broker.name` is 1-200 characters of a-z, A-Z, 0-9, `.`, `_` and `-`: choose another"
                    .to_owned(),
            ))
        }
        _ => Ok(()),
    }
}

fn keys_are_not_in_the_file(set: &[Setting]) -> Result<(), ConfigError> {
    let found = set
        .iter()
        .find(|setting| setting.key.ends_with(".api_key") && !setting.place.contains("environment variable"));
    match found {
        Some(Setting { key, place, .. }) => {
            let variable = key.replace('.', "__").to_uppercase();
            Err(ConfigError::Rule(format!(
                "`{key}` stands in {place}, but keys come from the environment only: remove it there and set MILLHAND_{variable}"
            )))
        }
        None => Ok(()),
    }
}

fn model(section: &str, model: &ModelConfig) -> Result<(), ConfigError> {
    let times = [("first_token_timeout", model.first_token_timeout), ("idle_timeout", model.idle_timeout)];
    if let Some((key, _)) = times.iter().find(|(_, time)| time.is_zero()) {
        return Err(ConfigError::Rule(format!(
            "`{section}.{key}` is zero, so no model could ever answer: say how long to wait, e.g. \"20s\""
        )));
    }
    model.limits.as_ref().map_or(Ok(()), |of| limits(section, of))?;
    match (&model.base_url, &model.name) {
        (Some(url), Some(_)) => base_url(&format!("{section}.base_url"), url),
        (None, None) if section == "model" => Ok(()),
        (Some(_), None) if section == "model" => Err(ConfigError::Rule(
            "`model.base_url` is set (in the file, as MILLHAND_MODEL__BASE_URL or OPENAI_BASE_URL) but \
             `model.name` is not: set MILLHAND_MODEL__NAME to the model to call, or remove the base URL to \
             answer without a model"
                .to_owned(),
        )),
        (None, Some(_)) if section == "model" => Err(ConfigError::Rule(
            "`model.name` is set but `model.base_url` is not: set MILLHAND_MODEL__BASE_URL or OPENAI_BASE_URL, \
             e.g. to https://api.openai.com/v1, or remove the name to answer without a model"
                .to_owned(),
        )),
        _ => Err(ConfigError::Rule(format!(
            "`{section}` needs both `base_url` and `name`: set them, or remove the section"
        ))),
    }
}

fn limits(section: &str, limits: &LimitsConfig) -> Result<(), ConfigError> {
    let most = LimitPolicy::MOST_PER_MINUTE;
    let all = [
        ("requests_per_minute", limits.requests_per_minute, most),
        ("tokens_per_minute", limits.tokens_per_minute, most),
        ("input_tokens_per_minute", limits.input_tokens_per_minute, most),
        ("output_tokens_per_minute", limits.output_tokens_per_minute, most),
        ("concurrency", limits.concurrency.map(u64::from), u64::from(u32::MAX)),
        ("burst_seconds", Some(u64::from(limits.burst_seconds)), 60),
    ];
    let wrong =
        all.into_iter().find(|(_, value, most)| value.is_some_and(|value| !(1..=*most).contains(&value)));
    match wrong {
        Some((key, _, most)) => Err(ConfigError::Rule(format!(
            "`{section}.limits.{key}` is between 1 and {most}; leave it out where the provider has no such limit"
        ))),
        None => Ok(()),
    }
}

fn cache(cache: &CacheConfig) -> Result<(), ConfigError> {
    const LONGEST: Duration = Duration::from_secs(7 * 86_400);
    if (Duration::from_secs(1)..=LONGEST).contains(&cache.ttl) {
        return Ok(());
    }
    Err(ConfigError::Rule(
        "`cache.ttl` is between 1 second and 7 days, e.g. \"1h\"; to make every call set `cache.enabled = false`"
            .to_owned(),
    ))
}

fn agent(name: &str, agent: &AgentConfig) -> Result<(), ConfigError> {
    if agent.temperature.is_some_and(|temperature| !(0.0..=2.0).contains(&temperature)) {
        return Err(ConfigError::Rule(format!(
            "`agents.{name}.temperature` is between 0 and 2; leave it out to have the model's own"
        )));
    }
    if agent.cache == Some(true) && agent.temperature != Some(0.0) {
        return Err(ConfigError::Rule(format!(
            "`agents.{name}.cache` is true, but only answers at temperature 0 are kept: set \
             `agents.{name}.temperature = 0`, or remove `cache`"
        )));
    }
    Ok(())
}

fn shares(config: &Config) -> Result<(), ConfigError> {
    let none = |key: String| {
        Err(ConfigError::Rule(format!(
            "`{key}` is 0, so no job of the tenant could ever run: leave it out to have no limit"
        )))
    };
    let limits = [("max_running", config.fairness.max_running), ("max_queued", config.fairness.max_queued)];
    if let Some((key, _)) = limits.into_iter().find(|(_, limit)| *limit == Some(0)) {
        return none(format!("fairness.{key}"));
    }
    for (tenant, of) in &config.tenants {
        let limits = [("max_running", of.max_running), ("max_queued", of.max_queued)];
        if let Some((key, _)) = limits.into_iter().find(|(_, limit)| *limit == Some(0)) {
            return none(format!("tenants.{tenant}.{key}"));
        }
        if of.weight.is_some_and(|weight| !Share::WEIGHTS.contains(&weight)) {
            return Err(ConfigError::Rule(format!(
                "`tenants.{tenant}.weight` is between {} and {}: 1 is the weight of every other tenant",
                Share::WEIGHTS.start(),
                Share::WEIGHTS.end()
            )));
        }
    }
    Ok(())
}

fn admission(config: &Config) -> Result<(), ConfigError> {
    let of = &config.api.admission;
    if of.expected_jobs_per_second == 0 {
        return Err(ConfigError::Rule(
            "`api.admission.expected_jobs_per_second` is 0, so nothing could be let in: say how many jobs all workers \
             together may end in a second, e.g. 200; it counts until that is measured"
                .to_owned(),
        ));
    }
    let named =
        config.tenants.iter().map(|(tenant, of)| (format!("tenants.{tenant}"), of.submits_per_minute));
    let mut paces = std::iter::once(("api.admission".to_owned(), of.submits_per_minute)).chain(named);
    if let Some((section, _)) = paces.find(|(_, pace)| *pace == Some(0)) {
        return Err(ConfigError::Rule(format!(
            "`{section}.submits_per_minute` is 0, so nothing could ever be submitted: leave it out to have no limit"
        )));
    }
    let waits = [("max_wait_interactive", of.max_wait_interactive), ("max_wait_batch", of.max_wait_batch)];
    match waits.into_iter().find(|(_, wait)| wait.is_some_and(|wait| wait.is_zero())) {
        Some((key, _)) => Err(ConfigError::Rule(format!(
            "`api.admission.{key}` is zero, so no job could ever wait: leave it out to wait up to half the deadline"
        ))),
        None => Ok(()),
    }
}

fn search_model(section: &str, model: &SearchModelConfig, without: &str) -> Result<(), ConfigError> {
    if let Some(limited) = &model.limits {
        limits(section, limited)?;
        if limited.output_tokens_per_minute.is_some() {
            return Err(ConfigError::Rule(format!(
                "`{section}.limits.output_tokens_per_minute` is set, but this model writes nothing: leave it out"
            )));
        }
    }
    match (&model.base_url, &model.name) {
        (Some(url), Some(_)) => base_url(&format!("{section}.base_url"), url),
        (None, None) => Ok(()),
        _ => Err(ConfigError::Rule(format!(
            "`{section}.base_url` and `{section}.name` go together: set both, or neither {without}"
        ))),
    }
}

fn base_url(key: &str, url: &str) -> Result<(), ConfigError> {
    let parsed = reqwest::Url::parse(url).ok();
    if parsed.is_some_and(|url| matches!(url.scheme(), "http" | "https") && url.host_str().is_some()) {
        return Ok(());
    }
    Err(ConfigError::Rule(format!(
        "`{key}` is not an address that starts with http:// or https://, e.g. https://api.openai.com/v1"
    )))
}
