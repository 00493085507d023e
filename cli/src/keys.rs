//! `millhand keys`: on the store itself, or through the server that uses it.

use std::sync::Arc;

use anyhow::{Context, bail};
use millhand_common::adapters::embedded::{EmbeddedStore, Folder, StoreOptions};
use millhand_common::model::{ApiKey, Scope, Timestamp};
use millhand_common::ports::Keys;
use reqwest::Method;
use serde_json::{Value, json};

use crate::args::{ClientArgs, KeysArgs, KeysCommand, KeysStoreArgs};
use crate::client::Client;
use crate::config::{self, StoreKind};
use crate::folder::{data, in_use};
use crate::server::{Running, shared_keys};
use crate::terminal::{print, print_json, table};

pub(crate) async fn run(args: KeysArgs) -> anyhow::Result<()> {
    match args.command {
        KeysCommand::Create(args) => {
            let (key, secret) = ApiKey::new(args.tenant, unique(args.scopes));
            Keeper::open(&args.store).await?.add(&key).await?;
            if args.store.json {
                return print_json(&json!({"id": key.id, "key": secret, "tenant": key.tenant}));
            }
            let of = format!("of the tenant {}, for {}", key.tenant, scopes(&key));
            print(&format!("{} {of}. It is shown once:\n\n  {secret}\n", key.id))
        }
        KeysCommand::List(args) => {
            let keys = Keeper::open(&args.store).await?.list().await?;
            if args.store.json {
                return print_json(&keys.iter().map(view).collect::<Vec<_>>());
            }
            print(&render(&keys))
        }
        KeysCommand::Revoke(args) => {
            if !Keeper::open(&args.store).await?.revoke(&args.id).await? {
                bail!("there is no key {}: `millhand keys list` shows them", args.id);
            }
            if args.store.json {
                return print_json(&json!({"revoked": args.id}));
            }
            print(&format!("{} opens nothing any more, everywhere within seconds.\n", args.id))
        }
    }
}

fn unique(mut scopes: Vec<Scope>) -> Vec<Scope> {
    scopes.sort();
    scopes.dedup();
    scopes
}

fn scopes(key: &ApiKey) -> String {
    key.scopes.iter().map(|scope| scope.as_str()).collect::<Vec<_>>().join(",")
}

fn view(key: &ApiKey) -> Value {
    let ApiKey { id, tenant, scopes, created_at, revoked_at, digest: _ } = key;
    json!({"id": id, "tenant": tenant, "scopes": scopes, "created_at": created_at, "revoked_at": revoked_at})
}

fn render(keys: &[ApiKey]) -> String {
    if keys.is_empty() {
        return "No keys: the API serves this machine only, and asks nobody.\n".to_owned();
    }
    let row = |key: &ApiKey| {
        let revoked = key.revoked_at.map_or_else(|| "-".to_owned(), |at| at.to_string());
        vec![key.id.clone(), key.tenant.to_string(), scopes(key), key.created_at.to_string(), revoked]
    };
    let rows: Vec<_> = keys.iter().map(row).collect();
    table(&["id", "tenant", "scopes", "made", "revoked"], &rows)
}

/// The way to the keys.
enum Keeper {
    Store(Arc<dyn Keys>),
    Server(Client),
}

impl Keeper {
    /// Opens the configured store; an embedded one that a server uses is reached through it.
    async fn open(args: &KeysStoreArgs) -> anyhow::Result<Self> {
        if let Some(url) = &args.admin_url {
            return Self::server(url.clone());
        }
        let config = config::load(args.folder.config.as_deref(), std::env::vars())?.config;
        if config.store.kind == StoreKind::Redis {
            return Ok(Self::Store(shared_keys(&config).await?));
        }
        let path = data(&args.folder)?;
        match Folder::open(&path).map_err(anyhow::Error::from) {
            Ok(folder) => {
                let store = EmbeddedStore::open(&Arc::new(folder), StoreOptions::default())?;
                Ok(Self::Store(store))
            }
            Err(err) if in_use(&err) => {
                let running = Running::read(&path).context(err);
                Self::server(running.context("name the server's admin address with --admin-url")?.admin_url)
            }
            Err(err) => Err(err),
        }
    }

    fn server(admin_url: String) -> anyhow::Result<Self> {
        let key = std::env::var("MILLHAND_KEY").ok();
        Ok(Self::Server(Client::new(&ClientArgs { url: admin_url, key, json: false })?))
    }

    async fn add(&self, key: &ApiKey) -> anyhow::Result<()> {
        match self {
            Self::Store(keys) => Ok(keys.add_key(key).await?),
            Self::Server(client) => {
                client.post(client.url(["v1", "keys"]), &serde_json::to_value(key)?).await?;
                Ok(())
            }
        }
    }

    async fn list(&self) -> anyhow::Result<Vec<ApiKey>> {
        match self {
            Self::Store(keys) => Ok(keys.keys().await?),
            Self::Server(client) => {
                let mut page = client.get(client.url(["v1", "keys"])).await?;
                Ok(serde_json::from_value(page["data"].take())?)
            }
        }
    }

    async fn revoke(&self, id: &str) -> anyhow::Result<bool> {
        match self {
            Self::Store(keys) => Ok(keys.revoke_key(id, Timestamp::now()).await?),
            Self::Server(client) => {
                if !self.list().await?.iter().any(|key| key.id == id) {
                    return Ok(false);
                }
                let url = client.url(["v1", "keys", id, "revoke"]);
                client.send(client.request(Method::POST, url)).await?;
                Ok(true)
            }
        }
    }
}
