//! The models that are configured: whether they answer to their names.

use anyhow::{Context, bail};
use millhand_common::ports::ModelError;
use reqwest::StatusCode;
use serde_json::Value;

use super::{Finding, doubtful, look, well, wrong};
use crate::config::{Config, Secret};
use crate::server::probe;

/// One model, as its section of the configuration has it.
struct Model<'a> {
    part: String,
    section: String,
    url: &'a str,
    name: &'a str,
    key: Option<&'a Secret>,
}

/// What an endpoint says of a model.
enum Listed {
    Yes,
    No,
    /// It keeps no list.
    Unknown,
}

pub(super) async fn all(config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    for (pool, of) in config.pools() {
        let (part, section) = if pool == "default" {
            ("model".to_owned(), "model".to_owned())
        } else {
            (format!("model {pool}"), format!("models.{pool}"))
        };
        if let (Some(url), Some(name)) = (&of.base_url, &of.name) {
            let model = Model { part, section, url, name, key: of.api_key.as_ref() };
            found.push(model.finding(probe::chat(of)).await);
        }
    }
    for (part, of) in [("embedder", &config.embedder), ("reranker", &config.reranker)] {
        if let (Some(url), Some(name)) = (&of.base_url, &of.name) {
            let (part, section) = (part.to_owned(), part.to_owned());
            let model = Model { part, section, url, name, key: of.key(&config.model) };
            found.push(match model.part.as_str() {
                "embedder" => model.finding(probe::embedder(config)).await,
                _ => model.finding(probe::reranker(config)).await,
            });
        }
    }
    found
}

impl Model<'_> {
    /// `call` is made only if the endpoint's list lacks the name: many serve models that they do not list.
    async fn finding(&self, call: impl Future<Output = anyhow::Result<()>>) -> Finding {
        let Self { part, section, url, name, .. } = self;
        let fix = format!("correct {section}.base_url, {section}.name or its api_key");
        match look(self.listed()).await {
            Err(err) => wrong(part, &err, &fix),
            Ok(Listed::Yes) => well(part, format!("{url} has {name}")),
            Ok(Listed::Unknown) => well(part, format!("{url} answers, and lists no models")),
            Ok(Listed::No) => match look(call).await {
                Ok(()) => well(part, format!("{url} answers as {name}, which it does not list")),
                Err(err) if is_refusal(&err) => wrong(
                    part,
                    &err.context(format!("{url} does not list {name}, and refuses calls of it")),
                    &fix,
                ),
                Err(err) => doubtful(
                    part,
                    format!("{url} does not list {name}, and whether it knows it could not be seen: {err:#}"),
                    &format!("look whether {section}.name is what {url} calls it, then: millhand doctor"),
                ),
            },
        }
    }

    async fn listed(&self) -> anyhow::Result<Listed> {
        let Self { url, name, key, .. } = self;
        let mut request = reqwest::Client::new().get(format!("{}/models", url.trim_end_matches('/')));
        if let Some(key) = key {
            request = request.bearer_auth(key.expose());
        }
        let answer = request.send().await.with_context(|| format!("{url} does not answer"))?;
        match answer.status() {
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => bail!("{url} refuses the key"),
            status if status.is_server_error() => bail!("{url} is in trouble: {status}"),
            status if !status.is_success() => return Ok(Listed::Unknown),
            _ => {}
        }
        let list: Value = answer.json().await.unwrap_or_default();
        let Some(models) = list["data"].as_array() else { return Ok(Listed::Unknown) };
        let has = models.iter().any(|model| model["id"] == *name);
        Ok(if has { Listed::Yes } else { Listed::No })
    }
}

/// Whether the same call would be refused again, so that something has to be changed first.
fn is_refusal(err: &anyhow::Error) -> bool {
    match err.downcast_ref::<ModelError>() {
        Some(
            ModelError::RateLimited { .. }
            | ModelError::Overloaded { .. }
            | ModelError::Unavailable(_)
            | ModelError::TimedOut
            | ModelError::Filtered(_),
        )
        | None => false,
        Some(
            ModelError::Malformed(_)
            | ModelError::NoCredit(_)
            | ModelError::TooLarge(_)
            | ModelError::Rejected(_)
            | ModelError::Unauthorized,
        ) => true,
    }
}
