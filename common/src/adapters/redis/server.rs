//! What is asked of a server before it is trusted, and how full it is.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::{Value, cmd};

use crate::ports::StoreError;

use super::link::Link;
use super::options::{OpenError, RedisOptions};

/// The layout of keys and records that this program reads and writes.
pub(super) const FORMAT: &str = "1";
/// New work is refused when this share of `maxmemory` is used: accepted work needs the rest.
const FULL_PERCENT: u64 = 85;
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Refuses a server that is too old, cannot keep P1-P3, or holds data of another format.
pub(super) async fn check(link: &Link, options: &RedisOptions, format_key: String) -> Result<(), OpenError> {
    for (node, info) in link.on_masters(cmd("INFO").arg("server")).await? {
        let found = info_fields(&info).remove("redis_version").unwrap_or_default();
        let major = found.split('.').next().and_then(|major| major.parse::<u32>().ok());
        if major.is_none_or(|major| major < 7) {
            return Err(OpenError::TooOld { address: address(link, node), found });
        }
    }
    let mut ask = cmd("CONFIG");
    ask.arg("GET").arg("appendonly").arg("appendfsync").arg("maxmemory-policy");
    let reasons: Vec<(String, String)> = match link.on_masters(&ask).await {
        Ok(answers) => weak(link, answers),
        Err(StoreError::Unreachable(reason)) => return Err(StoreError::Unreachable(reason).into()),
        Err(err) => vec![(address(link, String::new()), format!("its settings cannot be read ({err})"))],
    };
    if let Some((address, reason)) = reasons.into_iter().next() {
        if !options.allow_unsafe {
            return Err(OpenError::Unsafe { address, reason });
        }
        tracing::warn!(%address, %reason, "redis can lose what it has confirmed; allow_unsafe is set");
    }
    let mut claim = cmd("SET");
    claim.arg(&format_key).arg(FORMAT).arg("NX");
    link.command(claim).await?;
    let mut get = cmd("GET");
    get.arg(format_key);
    let found: String = redis::from_redis_value(link.command(get).await?)
        .map_err(|err| StoreError::Damaged(err.to_string()))?;
    if found != FORMAT {
        return Err(OpenError::Format { prefix: options.prefix.clone(), found, ours: FORMAT });
    }
    Ok(())
}

/// Which nodes can lose what they have confirmed, and what to set there.
fn weak(link: &Link, answers: Vec<(String, Value)>) -> Vec<(String, String)> {
    let reason = |(node, answer)| unsafe_settings(&answer).map(|reason| (address(link, node), reason));
    answers.into_iter().filter_map(reason).collect()
}

/// Where a node is; a single server has no other name than its address.
fn address(link: &Link, node: String) -> String {
    if node.is_empty() { link.address().to_owned() } else { node }
}

/// What to set, when a server with these settings can lose what it has confirmed.
fn unsafe_settings(answer: &Value) -> Option<String> {
    let found = pairs(answer);
    let wrong: Vec<String> =
        [("appendonly", "yes"), ("appendfsync", "always"), ("maxmemory-policy", "noeviction")]
            .into_iter()
            .filter_map(|(key, needed)| {
                let value = found.get(key).map_or("unknown", String::as_str);
                (value != needed).then(|| format!("set `{key} {needed}` (it is {value})"))
            })
            .collect();
    (!wrong.is_empty()).then(|| wrong.join(", "))
}

fn pairs(value: &Value) -> HashMap<String, String> {
    redis::from_redis_value(value.clone()).unwrap_or_default()
}

fn info_fields(value: &Value) -> HashMap<String, String> {
    let text: String = redis::from_redis_value(value.clone()).unwrap_or_default();
    text.lines()
        .filter_map(|line| line.trim().split_once(':'))
        .map(|(key, value)| (key.to_owned(), value.to_owned()))
        .collect()
}

/// Whether there is room for new work, looked at once a second at most.
#[derive(Default)]
pub(super) struct Room {
    seen: Mutex<Option<(Instant, bool)>>,
}

impl Room {
    pub(super) async fn is_full(&self, link: &Link) -> Result<bool, StoreError> {
        let seen = *self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        match seen {
            Some((at, is_full)) if at.elapsed() < LOOK_EVERY => Ok(is_full),
            _ => {
                let nodes = link.on_masters(cmd("INFO").arg("memory")).await?;
                let is_full = nodes.iter().any(|(_, info)| is_full(&info_fields(info)));
                *self.seen.lock().unwrap_or_else(PoisonError::into_inner) = Some((Instant::now(), is_full));
                Ok(is_full)
            }
        }
    }
}

fn is_full(memory: &HashMap<String, String>) -> bool {
    let bytes = |key: &str| memory.get(key).and_then(|value| value.parse::<u64>().ok()).unwrap_or(0);
    let limit = bytes("maxmemory");
    limit > 0 && bytes("used_memory").saturating_mul(100) >= limit.saturating_mul(FULL_PERCENT)
}
