//! The commands on a data folder: `backup`, `migrate`.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use millhand_common::adapters::embedded::{FORMAT, Folder, OpenError};
use serde_json::json;

use crate::args::{BackupArgs, ClientArgs, FolderArgs};
use crate::client::Client;
use crate::config::{self, IndexKind, StoreKind};
use crate::server::{self, DEFAULT_DATA, Running, back_up};
use crate::terminal::print;

pub(crate) fn data(args: &FolderArgs) -> anyhow::Result<PathBuf> {
    config::load(args.config.as_deref(), std::env::vars())?;
    Ok(args.data.clone().unwrap_or_else(|| DEFAULT_DATA.into()))
}

/// Copies the folder; through the running server when one uses it.
pub(crate) async fn backup(args: BackupArgs) -> anyhow::Result<()> {
    let data = data(&args.folder)?;
    if !data.exists() && args.admin_url.is_none() {
        bail!("there is no data folder {}: name it with --data", data.display());
    }
    let target = std::path::absolute(&args.target).context("the target has no absolute path")?;
    let copied = match args.admin_url {
        Some(url) => through_server(url, &target).await,
        None => match back_up(&data, &target).await {
            Err(err) if in_use(&err) => match Running::read(&data) {
                Some(running) => through_server(running.admin_url, &target).await,
                None => Err(err.context("name the server's admin address with --admin-url")),
            },
            copied => copied,
        },
    };
    copied?;
    print(&format!(
        "Copied to {}. To use the copy: millhand up --data {}\n",
        target.display(),
        target.display()
    ))
}

pub(crate) fn in_use(err: &anyhow::Error) -> bool {
    matches!(err.downcast_ref(), Some(OpenError::InUse(_)))
}

async fn through_server(admin_url: String, target: &Path) -> anyhow::Result<()> {
    // Copying takes as long as the folder is large.
    let client = Client::patient(&ClientArgs { url: admin_url, key: None, json: false })?;
    let request = client.request(reqwest::Method::POST, client.url(["v1", "backup"]));
    client.send(request.json(&json!({ "dir": target }))).await?;
    Ok(())
}

/// Sets up the tables of a shared index, and opens the folder, which brings it to this version's format.
pub(crate) async fn migrate(args: FolderArgs) -> anyhow::Result<()> {
    let config = config::load(args.config.as_deref(), std::env::vars())?.config;
    let is_shared = config.index.kind == Some(IndexKind::Pgvector);
    if is_shared {
        let steps = server::migrate(&config.index).await?;
        match steps.as_slice() {
            [] => print("The database is up to date: nothing to migrate.\n")?,
            steps => print(&format!("The database is set up: {}.\n", steps.join(", ")))?,
        }
    }
    if config.store.kind == StoreKind::Redis && is_shared && args.data.is_none() {
        return Ok(());
    }
    let data = args.data.unwrap_or_else(|| DEFAULT_DATA.into());
    let folder = Folder::open(&data)?;
    let state = if folder.is_fresh() { "made, with" } else { "has" };
    print(&format!(
        "{} {state} format {FORMAT}, the newest this millhand knows: nothing to migrate.\n",
        data.display()
    ))
}
