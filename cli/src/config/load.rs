//! Reads the file and the environment, and says which of them a value came from.

use std::path::{Path, PathBuf};

use figment::error::Kind;
use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Tag, Value};
use figment::{Figment, Metadata, Profile, Provider};

use super::{Config, ConfigError, rules};

/// What every variable that is configuration starts with; two underscores part its names.
const PREFIX: &str = "MILLHAND_";
/// Taken when it is there and `--config` names no other file.
const DEFAULT_FILE: &str = "millhand.toml";
/// Keys whose variable is taken as it stands: a key of digits is no number.
const TEXT_KEYS: &[&str] =
    &["api_key", "base_url", "description", "instructions", "model", "name", "otlp_endpoint", "url"];
/// Keys that are never printed.
const SECRET_KEYS: &[&str] = &["api_key", "otlp_endpoint", "url"];
/// What other programs call some keys: the variable, the section, the key.
const COMMON: &[(&str, &str, &str)] = &[
    ("OPENAI_BASE_URL", "model", "base_url"),
    ("OPENAI_API_KEY", "model", "api_key"),
    ("OTEL_EXPORTER_OTLP_ENDPOINT", "telemetry", "otlp_endpoint"),
];

/// The configuration, and where it came from.
#[derive(Debug)]
pub(crate) struct Loaded {
    pub(crate) config: Config,
    /// The file that was read, if any.
    pub(crate) file: Option<PathBuf>,
    /// Every key that is set, in order, fit to be printed.
    pub(crate) set: Vec<Setting>,
}

/// One key that is not at its default.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub(crate) struct Setting {
    pub(crate) key: String,
    /// As JSON; `***` for a secret.
    pub(crate) value: String,
    pub(crate) place: String,
}

/// Reads `file`, or `./millhand.toml` when it is there, and the variables of `environment`.
pub(crate) fn load(
    file: Option<&Path>,
    environment: impl IntoIterator<Item = (String, String)>,
) -> Result<Loaded, ConfigError> {
    let file = file.map(Path::to_owned).or_else(|| {
        let default = PathBuf::from(DEFAULT_FILE);
        default.exists().then_some(default)
    });
    let environment: Vec<_> = environment.into_iter().filter(|(_, value)| !value.is_empty()).collect();

    let mut figment = Figment::from(common(&environment));
    if let Some(path) = &file {
        figment = figment.merge(from_file(path)?);
    }
    let figment = figment.merge(variables(&environment));
    let config: Config = figment.extract().map_err(|err| explain(err, file.as_deref()))?;
    let set = settings(&figment, file.as_deref());
    rules::check(&config, &set)?;
    Ok(Loaded { config, file, set })
}

/// Values with the name of where they came from.
struct Named {
    name: &'static str,
    values: Dict,
}

const FILE: &str = "file";
const ENVIRONMENT: &str = "environment";
const COMMON_ENVIRONMENT: &str = "common environment";

impl Provider for Named {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name)
    }

    fn data(&self) -> figment::Result<Map<Profile, Dict>> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

fn from_file(path: &Path) -> Result<Named, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::File { path: path.to_owned(), source })?;
    let values = Toml::string(&text).data().map_err(|err| ConfigError::Syntax {
        place: path.display().to_string(),
        reason: err.kind.to_string().trim_end().to_owned(),
    })?;
    Ok(Named { name: FILE, values: values.into_values().next().unwrap_or_default() })
}

fn common(environment: &[(String, String)]) -> Named {
    let mut values = Dict::new();
    for (variable, section, key) in COMMON {
        if let Some((_, value)) = environment.iter().find(|(name, _)| name == variable) {
            let path = [(*section).to_owned(), (*key).to_owned()];
            insert(&mut values, &path, Value::from(value.as_str()));
        }
    }
    Named { name: COMMON_ENVIRONMENT, values }
}

fn variables(environment: &[(String, String)]) -> Named {
    let mut values = Dict::new();
    for (variable, value) in environment {
        let Some(name) = variable.strip_prefix(PREFIX).filter(|name| name.contains("__")) else { continue };
        let path: Vec<String> = name.split("__").map(str::to_lowercase).collect();
        let text = path.last().is_some_and(|key| TEXT_KEYS.contains(&key.as_str()));
        let value = if text {
            Value::from(value.as_str())
        } else {
            value.parse().unwrap_or_else(|never: std::convert::Infallible| match never {})
        };
        insert(&mut values, &path, value);
    }
    Named { name: ENVIRONMENT, values }
}

fn insert(values: &mut Dict, path: &[String], value: Value) {
    match path {
        [] => {}
        [key] => {
            values.insert(key.clone(), value);
        }
        [key, rest @ ..] => {
            let inner = values.entry(key.clone()).or_insert_with(|| Value::from(Dict::new()));
            if let Value::Dict(_, inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

/// The error with its key, its place and the nearest thing that would be taken.
fn explain(err: figment::Error, file: Option<&Path>) -> ConfigError {
    let key = err.path.join(".");
    let place = place(err.metadata.as_ref(), &err.path, file);
    match err.kind {
        Kind::UnknownField(field, known) => {
            let parent = err.path.split_last().map_or(String::new(), |(_, parent)| parent.join("."));
            ConfigError::UnknownKey { place, hint: nearest(&parent, &field, known), key }
        }
        Kind::UnknownVariant(found, known) => {
            let reason = format!("`{found}` is none of {}", known.join(", "));
            ConfigError::BadValue { key, place, reason }
        }
        kind => ConfigError::BadValue { key, place, reason: kind.to_string() },
    }
}

fn nearest(parent: &str, field: &str, known: &[&str]) -> String {
    let close = known
        .iter()
        .map(|name| (strsim::damerau_levenshtein(field, name), name))
        .filter(|(distance, name)| *distance <= name.chars().count().max(3) / 2)
        .min();
    match close {
        Some((_, name)) if parent.is_empty() => format!("did you mean `{name}`?"),
        Some((_, name)) => format!("did you mean `{parent}.{name}`?"),
        None => format!("known here are {}", known.join(", ")),
    }
}

fn place(metadata: Option<&Metadata>, path: &[String], file: Option<&Path>) -> String {
    let variable = || format!("{PREFIX}{}", path.join("__").to_uppercase());
    match metadata.map(|metadata| metadata.name.as_ref()) {
        Some(ENVIRONMENT) => format!("the environment variable {}", variable()),
        Some(COMMON_ENVIRONMENT) => {
            let known = COMMON.iter().find(|(_, section, key)| path == [*section, *key]);
            let name = known.map_or_else(|| path.join("."), |(variable, _, _)| (*variable).to_owned());
            format!("the environment variable {name}")
        }
        _ => file.map_or_else(|| "the configuration".to_owned(), |file| file.display().to_string()),
    }
}

fn settings(figment: &Figment, file: Option<&Path>) -> Vec<Setting> {
    let mut found = Vec::new();
    let describe = |tag: Tag, path: &[String]| place(figment.get_metadata(tag), path, file);
    for values in figment.data().unwrap_or_default().into_values() {
        walk(&mut Vec::new(), &values, &describe, &mut found);
    }
    found
}

fn walk(
    path: &mut Vec<String>,
    values: &Dict,
    describe: &impl Fn(Tag, &[String]) -> String,
    found: &mut Vec<Setting>,
) {
    for (key, value) in values {
        path.push(key.clone());
        match value {
            Value::Dict(_, inner) => walk(path, inner, describe, found),
            value => {
                let secret = SECRET_KEYS.contains(&key.as_str());
                let text = serde_json::to_string(value).unwrap_or_default();
                found.push(Setting {
                    key: path.join("."),
                    value: if secret { "***".to_owned() } else { text },
                    place: describe(value.tag(), path),
                });
            }
        }
        path.pop();
    }
}
