//! `millhand config check`.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::Path;

use millhand_common::model::{AgentName, Usd};
use millhand_common::prices::{Price, Prices, VERSION};
use millhand_worker::routing::Class;
use serde_json::json;

use super::{
    BrokerKind, Config, IndexKind, LimitsConfig, LimitsMode, Loaded, ModelConfig, SearchModelConfig,
    StoreKind, load,
};
use crate::terminal::{print, print_json, table};

/// Prints what is set and from where, and what follows from it.
pub(crate) fn report(file: Option<&Path>, json: bool) -> anyhow::Result<()> {
    let loaded = load(file, std::env::vars())?;
    if json {
        let agents: Vec<_> = loaded.config.agents().into_iter().map(|agent| agent.name).collect();
        return print_json(&json!({
            "ok": true,
            "file": loaded.file,
            "set": loaded.set,
            "answers": answers(&loaded.config),
            "search": search(&loaded.config),
            "limits": limits(&loaded.config, loaded.config.model.own_limits()),
            "models": models(&loaded.config),
            "routes": routes(&loaded.config),
            "cache": cache(&loaded.config),
            "prices": prices(&loaded.config),
            "budgets": budgets(&loaded.config),
            "traces": traces(&loaded.config),
            "agents": agents,
        }));
    }
    print(&render(&loaded))
}

fn render(loaded: &Loaded) -> String {
    let mut text = String::new();
    let _ = match &loaded.file {
        Some(file) => writeln!(text, "The configuration is sound. File: {}", file.display()),
        None => writeln!(text, "The configuration is sound. No file: ./millhand.toml is not there."),
    };
    let _ = writeln!(text, "\nAnswers: {}", answers(&loaded.config));
    let _ = writeln!(text, "Search:  {}", search(&loaded.config));
    let _ = writeln!(text, "Limits:  {}", limits(&loaded.config, loaded.config.model.own_limits()));
    for (name, pool) in models(&loaded.config) {
        let _ = writeln!(text, "Pool {name}: {pool}");
    }
    for (name, route) in routes(&loaded.config) {
        let _ = writeln!(text, "Class {name}: {route}");
    }
    let _ = writeln!(text, "Cache:   {}", cache(&loaded.config));
    let _ = writeln!(text, "Prices:  {}", prices(&loaded.config));
    let _ = writeln!(text, "Budgets: {}", budgets(&loaded.config));
    let _ = writeln!(text, "Traces:  {}\n", traces(&loaded.config));
    if loaded.set.is_empty() {
        text.push_str("Every key has its default.\n");
    } else {
        let row = |setting: &super::load::Setting| {
            vec![setting.key.clone(), setting.value.clone(), setting.place.clone()]
        };
        text.push_str(&table(&["key", "value", "from"], &loaded.set.iter().map(row).collect::<Vec<_>>()));
    }
    text
}

/// Who writes the answers, as people are told.
pub(crate) fn answers(config: &Config) -> String {
    if config.model.name.is_none() && config.has_default_model() {
        return "by the class `default`".to_owned();
    }
    model(&config.model).unwrap_or_else(|| "no model: word-for-word quotations from the documents".to_owned())
}

fn model(model: &ModelConfig) -> Option<String> {
    Some(format!("{} at {}", model.name.as_ref()?, host(model.base_url.as_ref()?)))
}

/// The pools beside `[model]`, as people are told.
fn models(config: &Config) -> BTreeMap<&str, String> {
    let told = |pool: &ModelConfig| {
        format!("{}; {}", model(pool).unwrap_or_default(), limits(config, pool.own_limits()))
    };
    config.models.iter().map(|(name, pool)| (name.as_str(), told(pool))).collect()
}

/// Who serves which class, as people are told.
fn routes(config: &Config) -> BTreeMap<&str, String> {
    config.routes.iter().map(|(name, class)| (name.as_str(), route(class))).collect()
}

fn route(class: &Class) -> String {
    let weighed = |pools: &BTreeMap<String, u32>| match pools.len() {
        1 => pools.keys().cloned().collect(),
        _ => pools.iter().map(|(name, weight)| format!("{weight} {name}")).collect::<Vec<_>>().join(" : "),
    };
    let mut text = weighed(&class.pools);
    for rule in &class.rules {
        let tenants = rule.tenants.iter().map(ToString::to_string);
        let whom: Vec<String> =
            tenants.chain(rule.lanes.iter().map(|lane| lane.as_str().to_owned())).collect();
        let _ = write!(text, "; for {}: {}", whom.join(", "), weighed(&rule.pools));
        if let Some(fallback) = &rule.fallback {
            let then = if fallback.is_empty() { "none".to_owned() } else { fallback.join(", then ") };
            let _ = write!(text, ", then {then}");
        }
    }
    if !class.fallback.is_empty() {
        let _ = write!(text, "; then {}", class.fallback.join(", then "));
    }
    let _ = write!(text, "; else {}", class.on_unavailable.as_str());
    if let Some(smaller) = &class.under_load {
        let _ = write!(text, "; under load first {smaller}");
    }
    text
}

/// What model calls are held to, as people are told.
fn limits(config: &Config, limits: Option<&LimitsConfig>) -> String {
    let Some(limits) = limits else { return "none on model calls".to_owned() };
    let per_minute = [
        ("requests", limits.requests_per_minute),
        ("tokens", limits.tokens_per_minute),
        ("input tokens", limits.input_tokens_per_minute),
        ("output tokens", limits.output_tokens_per_minute),
    ];
    let mut all: Vec<String> =
        per_minute.iter().filter_map(|(name, limit)| Some(format!("{} {name}/min", (*limit)?))).collect();
    all.extend(limits.concurrency.map(|calls| format!("{calls} calls at a time")));
    if all.is_empty() {
        all.push("as the provider's headers tell".to_owned());
    }
    let mode = match limits.mode {
        LimitsMode::Bucket => format!("a bucket of {} s", limits.burst_seconds),
        LimitsMode::Window => "a window of a minute".to_owned(),
    };
    let workers = match config.store.kind {
        StoreKind::Embedded => "this process",
        StoreKind::Redis => "all workers together",
    };
    format!("{}; {mode}, {workers}", all.join(", "))
}

/// Whose answers are given again, as people are told.
fn cache(config: &Config) -> String {
    let agents = config.agents_with_cache();
    if agents.is_empty() {
        return "every model call is made".to_owned();
    }
    let names: Vec<&str> = agents.iter().map(AgentName::as_str).collect();
    let place = match config.store.kind {
        StoreKind::Embedded => "in this process",
        StoreKind::Redis => "in Redis",
    };
    let ttl = humantime::format_duration(config.cache.ttl);
    format!("answers of {} are given again for {ttl}, {place}", names.join(", "))
}

/// What the models' tokens cost, and who says so, as people are told.
fn prices(config: &Config) -> String {
    let prices = config.prices();
    let table = match prices.own() {
        0 => format!("table of {VERSION}"),
        own => format!("{own} of your own over the table of {VERSION}"),
    };
    let write = config.pools().map(|(_, model)| (&model.name, prices.ceiling()));
    let read = [&config.embedder.name, &config.reranker.name].map(|name| (name, Prices::reader_ceiling()));
    let mut models: Vec<_> =
        write.chain(read).filter_map(|(name, dearest)| Some((name.as_ref()?, dearest))).collect();
    models.sort_by_key(|(name, _)| *name);
    models.dedup_by_key(|(name, _)| *name);
    let mut all: Vec<String> =
        models.into_iter().map(|(model, dearest)| price(&prices, model, dearest)).collect();
    all.push(table);
    all.join("; ")
}

fn price(prices: &Prices, model: &str, dearest: Price) -> String {
    let (price, how) = match prices.of(model) {
        Some(price) => (price, String::new()),
        None => (
            dearest,
            format!(", the dearest of its kind, because it is not listed: set [prices.\"{model}\"]"),
        ),
    };
    let [input, output] = [price.input, price.output].map(Usd::from_nano);
    format!("{model} {input} in, {output} out for a million tokens{how}")
}

/// What may be spent, as people are told.
fn budgets(config: &Config) -> String {
    let Some(limits) = config.budgets() else { return "none".to_owned() };
    let day = |who: &str, nano| format!("{who} {} a day", Usd::from_nano(nano));
    let mut own: Vec<String> =
        limits.of_tenants.iter().map(|(tenant, nano)| day(&format!("tenant `{tenant}`"), *nano)).collect();
    own.sort();
    let job = limits.per_job.map(|nano| format!("{} a job", Usd::from_nano(nano)));
    let all = limits.per_day.map(|nano| day("each tenant", nano));
    job.into_iter().chain(all).chain(own).collect::<Vec<_>>().join(", ")
}

/// Where traces go, as people are told.
fn traces(config: &Config) -> String {
    let endpoint = config.telemetry.otlp_endpoint.as_ref();
    endpoint.map_or_else(|| "not exported".to_owned(), |url| format!("to {}", host(url)))
}

/// Where jobs are kept and queued, as people are told.
pub(crate) fn jobs(config: &Config) -> String {
    let store = match config.store.kind {
        StoreKind::Embedded => "in the data folder",
        StoreKind::Redis => "in Redis",
    };
    match config.broker.kind {
        BrokerKind::Embedded => store.to_owned(),
        BrokerKind::Rabbitmq => format!("{store}, spread by RabbitMQ"),
        BrokerKind::Kafka => format!("{store}, spread by Kafka"),
    }
}

/// How passages are found, as people are told.
pub(crate) fn search(config: &Config) -> String {
    if config.index.kind == Some(IndexKind::None) {
        return "none: documents are not served".to_owned();
    }
    let told = |model: &SearchModelConfig, how: &str| {
        let Some(name) = &model.name else { return String::new() };
        let limits = model.limits.as_ref().map(|own| format!(" ({})", limits(config, Some(own))));
        format!(", {how} {name}{}", limits.unwrap_or_default())
    };
    let (vectors, order) =
        (told(&config.embedder, "and by vectors of"), told(&config.reranker, "ordered by"));
    format!("by words{vectors}{order}")
}

/// Scheme, host and port of an address: its other parts may hold a secret.
fn host(url: &str) -> String {
    match reqwest::Url::parse(url) {
        Ok(url) => url.origin().ascii_serialization(),
        Err(_) => "***".to_owned(),
    }
}
