//! Pools and classes fit together: whatever is named is there.

use std::collections::BTreeMap;

use millhand_worker::routing::{Class, DEFAULT, OnUnavailable};

use super::{Config, ConfigError};

/// Weights are small numbers: shares of a whole.
const MAX_WEIGHT: u32 = 1_000_000;

pub(super) fn names(config: &Config) -> Result<(), ConfigError> {
    if config.models.contains_key(DEFAULT) {
        return rule("`models.default` is another name of `[model]`: set its keys there".to_owned());
    }
    if let Some(name) = ["embedder", "reranker"].into_iter().find(|name| config.models.contains_key(*name)) {
        return rule(format!("`models.{name}` is called as the model of `[{name}]` is: choose another name"));
    }
    config.models.keys().try_for_each(|name| name_of("models", name))?;
    config.routes.keys().try_for_each(|name| name_of("routes", name))
}

/// Every pool is sound by itself.
pub(super) fn check(config: &Config) -> Result<(), ConfigError> {
    no_pool_twice(config)?;
    for (name, class) in &config.routes {
        pools_are_there(config, name, class)?;
        pools_have_weight(name, class)?;
        class_under_load(config, name, class)?;
    }
    agents(config)
}

fn rule<T>(text: String) -> Result<T, ConfigError> {
    Err(ConfigError::Rule(text))
}

/// The environment has no other characters, and its names are lower-cased.
fn name_of(section: &str, name: &str) -> Result<(), ConfigError> {
    let valid = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_';
    if (1..=64).contains(&name.len()) && name.chars().all(valid) && !name.contains("__") {
        return Ok(());
    }
    rule(format!(
        "`{section}.{name}`: such a name is 1-64 of a-z, 0-9 and single `_`, so that it can be part of \
         MILLHAND_{}__NAME__…: choose another",
        section.to_uppercase()
    ))
}

/// Two pools of one quota would each use all of it.
fn no_pool_twice(config: &Config) -> Result<(), ConfigError> {
    let mut seen = BTreeMap::new();
    for (name, model) in config.pools() {
        let key = model.api_key.as_ref().map(|key| key.expose());
        if let Some(other) = seen.insert((&model.base_url, &model.name, key), name) {
            return rule(format!(
                "the pools `{other}` and `{name}` are the same model of the same account, which has one quota: \
                 remove one of them and name the other in `[routes]`"
            ));
        }
    }
    Ok(())
}

fn pools_are_there(config: &Config, name: &str, class: &Class) -> Result<(), ConfigError> {
    let known: Vec<&str> = config.pools().map(|(pool, _)| pool).collect();
    match class.named().find(|pool| !known.contains(pool)) {
        Some(DEFAULT) => rule(format!(
            "`routes.{name}` names the pool `default`, which is `[model]`: set its base_url and name"
        )),
        Some(pool) => rule(format!(
            "`routes.{name}` names the pool `{pool}`, but there is no `[models.{pool}]`: add it; {}",
            there(&known)
        )),
        None => Ok(()),
    }
}

fn pools_have_weight(name: &str, class: &Class) -> Result<(), ConfigError> {
    if class.rules.iter().any(|rule| rule.tenants.is_empty() && rule.lanes.is_empty()) {
        return rule(format!(
            "a rule of `routes.{name}.rules` names neither tenants nor lanes: say whom it is for, or move its \
             pools to `routes.{name}.pools`"
        ));
    }
    let all = [("pools", &class.pools)].into_iter();
    for (key, pools) in all.chain(class.rules.iter().map(|rule| ("rules", &rule.pools))) {
        if pools.values().any(|weight| *weight > MAX_WEIGHT) {
            return rule(format!(
                "a weight of `routes.{name}.{key}` is above {MAX_WEIGHT}: weights are shares"
            ));
        }
        if pools.values().all(|weight| *weight == 0) {
            return rule(format!(
                "`routes.{name}.{key}` gives no pool any weight: name one at least, e.g. pools = {{ default = 1 }}"
            ));
        }
    }
    Ok(())
}

fn class_under_load(config: &Config, name: &str, class: &Class) -> Result<(), ConfigError> {
    let Some(smaller) = class.under_load.as_deref() else { return Ok(()) };
    if smaller == name || !config.routes.contains_key(smaller) {
        let classes: Vec<&str> =
            config.routes.keys().map(String::as_str).filter(|class| *class != name).collect();
        return rule(format!(
            "`routes.{name}.under_load` names no other class: `{smaller}` is to be one of `[routes]`, and not itself; \
             {}",
            there(&classes)
        ));
    }
    Ok(())
}

fn agents(config: &Config) -> Result<(), ConfigError> {
    let classes: Vec<&str> = config.routes.keys().map(String::as_str).collect();
    for agent in config.agents() {
        let name = agent.model.as_deref().unwrap_or(DEFAULT);
        match config.routes.get(name) {
            None if agent.model.is_some() && (name != DEFAULT || config.model.name.is_none()) => {
                return rule(format!(
                    "`agents.{}.model` names the class `{name}`, but there is no `[routes.{name}]`: add it; {}",
                    agent.name,
                    there(&classes)
                ));
            }
            Some(class)
                if !agent.kind.reads_documents()
                    && agent.model.is_some()
                    && class.on_unavailable == OnUnavailable::Extractive =>
            {
                return rule(format!(
                    "the agent `{}` talks without documents, so its class `{name}` cannot answer with quotations: \
                     set `routes.{name}.on_unavailable` to \"wait\" or \"fail\", or give it another class",
                    agent.name
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

fn there(names: &[&str]) -> String {
    match names {
        [] => "there is none yet".to_owned(),
        [name] => format!("there is only `{name}`"),
        names => format!("there are {}", names.join(", ")),
    }
}
