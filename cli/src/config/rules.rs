//! Rules that concern more than one key. Each message says what to do.

use super::load::Setting;
use super::{BrokerKind, Config, ConfigError, IndexKind, ModelConfig, StoreKind};

/// Refuses what this version cannot serve and what contradicts itself.
pub(super) fn check(config: &Config, set: &[Setting]) -> Result<(), ConfigError> {
    kinds(config)?;
    keys_are_not_in_the_file(set)?;
    model(&config.model)?;
    embedder(config)
}

fn kinds(config: &Config) -> Result<(), ConfigError> {
    let later = |key: &str, kind: &str| {
        let text = format!(
            "`{key} = \"{kind}\"` comes with a later version: this one serves `\"embedded\"`, in one process, with `millhand up`"
        );
        Err(ConfigError::Rule(text))
    };
    match config.broker.kind {
        BrokerKind::Embedded => {}
        BrokerKind::Rabbitmq => return later("broker.kind", "rabbitmq"),
        BrokerKind::Kafka => return later("broker.kind", "kafka"),
    }
    match config.store.kind {
        StoreKind::Embedded => {}
        StoreKind::Redis => return later("store.kind", "redis"),
    }
    match config.index.kind {
        None | Some(IndexKind::Embedded | IndexKind::None) => {}
        Some(IndexKind::Pgvector) => return later("index.kind", "pgvector"),
        Some(IndexKind::Chroma) => return later("index.kind", "chroma"),
    }
    let urls = [
        ("broker", config.broker.url.is_some()),
        ("store", config.store.url.is_some()),
        ("index", config.index.url.is_some()),
    ];
    match urls.iter().find(|(_, set)| *set) {
        Some((section, _)) => Err(ConfigError::Rule(format!(
            "`{section}.url` is set, but the embedded {section} has no address: remove it"
        ))),
        None => Ok(()),
    }
}

fn keys_are_not_in_the_file(set: &[Setting]) -> Result<(), ConfigError> {
    let found = set
        .iter()
        .find(|setting| setting.key.ends_with(".api_key") && !setting.place.contains("environment variable"));
    match found {
        Some(Setting { key, place, .. }) => {
            let section = key.split('.').next().unwrap_or_default().to_uppercase();
            Err(ConfigError::Rule(format!(
                "`{key}` stands in {place}, but keys come from the environment only: remove it there and set MILLHAND_{section}__API_KEY"
            )))
        }
        None => Ok(()),
    }
}

fn model(model: &ModelConfig) -> Result<(), ConfigError> {
    let times = [("first_token_timeout", model.first_token_timeout), ("idle_timeout", model.idle_timeout)];
    if let Some((key, _)) = times.iter().find(|(_, time)| time.is_zero()) {
        return Err(ConfigError::Rule(format!(
            "`model.{key}` is zero, so no model could ever answer: say how long to wait, e.g. \"20s\""
        )));
    }
    match (&model.base_url, &model.name) {
        (Some(_), None) => Err(ConfigError::Rule(
            "`model.base_url` is set (in the file, as MILLHAND_MODEL__BASE_URL or OPENAI_BASE_URL) but \
             `model.name` is not: set MILLHAND_MODEL__NAME to the model to call, or remove the base URL to \
             answer without a model"
                .to_owned(),
        )),
        (None, Some(_)) => Err(ConfigError::Rule(
            "`model.name` is set but `model.base_url` is not: set MILLHAND_MODEL__BASE_URL or OPENAI_BASE_URL, \
             e.g. to https://api.openai.com/v1, or remove the name to answer without a model"
                .to_owned(),
        )),
        (Some(url), Some(_)) => base_url("model.base_url", url),
        (None, None) => Ok(()),
    }
}

fn embedder(config: &Config) -> Result<(), ConfigError> {
    match (&config.embedder.base_url, &config.embedder.name) {
        (Some(url), Some(_)) => base_url("embedder.base_url", url),
        (None, None) => Ok(()),
        _ => Err(ConfigError::Rule(
            "`embedder.base_url` and `embedder.name` go together: set both, or neither to search by words only"
                .to_owned(),
        )),
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
