//! `millhand doctor`: what is wrong with the parts, and what to type.

mod models;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use millhand_common::adapters::embedded::{EmbeddedStore, Folder, StoreOptions};
use millhand_common::ports::JobStore;
use serde::Serialize;
use tokio::time::timeout;

use crate::args::{ClientArgs, DoctorArgs};
use crate::client::Client;
use crate::config::{self, BrokerKind, Config, IndexKind, StoreKind};
use crate::folder::{data, in_use};
use crate::server::{Running, probe};
use crate::terminal::{print, print_json, printable};

/// A part that has not answered by then is as good as away.
const PATIENCE: Duration = Duration::from_secs(10);
/// Clocks further apart than this make waits and ages look wrong.
const SKEW_MS: i64 = 500;

/// What one look found.
#[derive(Debug, Serialize)]
struct Finding {
    part: String,
    ok: bool,
    detail: String,
    /// What to do; nothing where all is well. With `ok` it is a warning: it may work, nobody could see.
    fix: Option<String>,
}

/// Looks at every part that is configured. Fails with 1 when something is wrong.
pub(crate) async fn run(args: DoctorArgs) -> anyhow::Result<ExitCode> {
    let mut found = Vec::new();
    match config::load(args.folder.config.as_deref(), std::env::vars()) {
        Ok(loaded) => {
            found.push(well("settings", "every key is known and in range".to_owned()));
            found.extend(parts(&args, &loaded.config).await);
        }
        Err(err) => {
            found.push(wrong("settings", &err.into(), "change that key, then: millhand config check"))
        }
    }
    let is_well = found.iter().all(|finding| finding.ok);
    if args.json {
        print_json(&serde_json::json!({ "ok": is_well, "findings": found }))?;
    } else {
        print(&render(&found))?;
    }
    Ok(if is_well { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

async fn parts(args: &DoctorArgs, config: &Config) -> Vec<Finding> {
    let mut found = Vec::new();
    if config.store.kind == StoreKind::Redis {
        shared_store(config, &mut found).await;
    } else {
        let fix = "stop what holds the folder, or name another one with --data";
        found.push(judge("store", look(own_store(args)).await, fix));
    }
    if config.broker.kind != BrokerKind::Embedded {
        let seen = look(probe::broker(config)).await.map(|hints| format!("it answers; {hints} hints wait"));
        found.push(judge("broker", seen, "start it, or correct broker.url (MILLHAND_BROKER__URL)"));
    }
    if config.index.kind == Some(IndexKind::Pgvector) {
        let seen = look(probe::index(config)).await.map(|()| "the tables are there".to_owned());
        found.push(judge(
            "index",
            seen,
            "start it, correct index.url (MILLHAND_INDEX__URL), or: millhand migrate",
        ));
    }
    found.extend(models::all(config).await);
    found
}

async fn shared_store(config: &Config, found: &mut Vec<Finding>) {
    match look(probe::store(config)).await {
        Ok(skew) => {
            found.push(well("store", "it can be written".to_owned()));
            let apart = format!("the store's is {skew} ms ahead of this machine's");
            found.push(if skew.abs() <= SKEW_MS {
                well("clocks", apart)
            } else {
                let fix = "have both machines follow a time server, e.g.: timedatectl set-ntp true";
                wrong("clocks", &anyhow::anyhow!(apart), fix)
            });
        }
        Err(err) => {
            found.push(wrong("store", &err, "start it, or correct store.url (MILLHAND_STORE__URL)"));
        }
    }
}

/// The folder itself, or the server that has it.
async fn own_store(args: &DoctorArgs) -> anyhow::Result<String> {
    let path = data(&args.folder)?;
    match Folder::open(&path).map_err(anyhow::Error::from) {
        Ok(folder) => {
            let store = EmbeddedStore::open(&Arc::new(folder), StoreOptions::default())?;
            store.ready().await.context("it cannot be written")?;
            Ok(format!("{} can be written; no server uses it", path.display()))
        }
        Err(err) if in_use(&err) => {
            let running = Running::read(&path).context(err)?;
            let client = ClientArgs { url: running.admin_url.clone(), key: None, json: false };
            let client = Client::new(&client)?;
            client.send(client.request(reqwest::Method::GET, client.url(["readyz"]))).await?;
            Ok(format!("{} is used by the server at {}, which is ready", path.display(), running.url))
        }
        Err(err) => Err(err),
    }
}

async fn look<T>(at: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    timeout(PATIENCE, at).await.unwrap_or_else(|_| bail!("no answer within {} s", PATIENCE.as_secs()))
}

fn judge(part: &str, seen: anyhow::Result<String>, fix: &str) -> Finding {
    match seen {
        Ok(detail) => well(part, detail),
        Err(err) => wrong(part, &err, fix),
    }
}

fn well(part: &str, detail: String) -> Finding {
    Finding { part: part.to_owned(), ok: true, detail, fix: None }
}

fn doubtful(part: &str, detail: String, fix: &str) -> Finding {
    Finding { part: part.to_owned(), ok: true, detail, fix: Some(fix.to_owned()) }
}

fn wrong(part: &str, err: &anyhow::Error, fix: &str) -> Finding {
    Finding { part: part.to_owned(), ok: false, detail: format!("{err:#}"), fix: Some(fix.to_owned()) }
}

fn render(found: &[Finding]) -> String {
    let mut text = String::new();
    for Finding { part, ok, detail, fix } in found {
        let mark = match (ok, fix) {
            (false, _) => "WRONG",
            (true, Some(_)) => "warn ",
            (true, None) => "ok   ",
        };
        text.push_str(&printable(&format!("{mark}  {part:<10} {detail}\n")));
        if let Some(fix) = fix {
            text.push_str(&printable(&format!("       {:<10} → {fix}\n", "")));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_comes_with_what_to_do() {
        let found = [
            well("settings", "every key is known and in range".to_owned()),
            wrong("broker", &anyhow::anyhow!("connection refused").context("[broker]"), "start it"),
            doubtful("model", "it lists no m".to_owned(), "see that the name is right"),
        ];
        insta::assert_snapshot!(render(&found), @r"
        ok     settings   every key is known and in range
        WRONG  broker     [broker]: connection refused
                          → start it
        warn   model      it lists no m
                          → see that the name is right
        ");
    }
}
