//! `millhand config check`.

use std::fmt::Write as _;
use std::path::Path;

use serde_json::json;

use super::{BrokerKind, Config, IndexKind, LimitsMode, Loaded, StoreKind, load};
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
            "limits": limits(&loaded.config),
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
    let _ = writeln!(text, "Limits:  {}\n", limits(&loaded.config));
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
    match (&config.model.name, &config.model.base_url) {
        (Some(name), Some(url)) => format!("{name} at {}", host(url)),
        _ => "no model: word-for-word quotations from the documents".to_owned(),
    }
}

/// What model calls are held to, as people are told.
fn limits(config: &Config) -> String {
    let (Some(limits), Some(_)) = (&config.model.limits, &config.model.name) else {
        return "none on model calls".to_owned();
    };
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
    match (config.index.kind, &config.embedder.name) {
        (Some(IndexKind::None), _) => "none: documents are not served".to_owned(),
        (_, Some(name)) => format!("by words, and by vectors of {name}"),
        (_, None) => "by words".to_owned(),
    }
}

/// Scheme, host and port of an address: its other parts may hold a secret.
fn host(url: &str) -> String {
    match reqwest::Url::parse(url) {
        Ok(url) => url.origin().ascii_serialization(),
        Err(_) => "***".to_owned(),
    }
}
