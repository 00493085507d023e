//! The best stack of another kind: Fastify and BullMQ on a Redis that syncs once a second. It keeps no log
//! of events and promises less; what it costs is what ours is held against.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use anyhow::{Context, ensure};
use millhand_tests::servers::Redis;

use crate::client::Pool;
use crate::jobs::{CLIENTS, QUICK, Side, across};
use crate::load::{Target, full_load};
use crate::median;
use crate::peer::Peer;
use crate::table::Table;

/// Jobs of a worker at a time; there are two workers, as ours.
const SLOTS: &str = "64";
/// As ours.
const ROUNDS: usize = 2;

/// What it reached, as ratios to the floor server in the same minutes.
pub(super) struct Node {
    pub(super) p50: f64,
    pub(super) p99: f64,
    pub(super) cpu: f64,
    pub(super) rate: f64,
    pub(super) hop_p50: f64,
    pub(super) hop_p99: f64,
}

pub(super) async fn measure(table: &mut Table) -> anyhow::Result<Node> {
    let folder = install()?;
    let provider = Peer::start(&["provider"]).await?;
    let floor = Peer::start(&["floor", &provider.address.to_string()]).await?;
    let redis = Redis::start_with(&["--appendfsync", "everysec"]).await;
    let (url, model) = (redis.url(), provider.address.to_string());
    let api = Peer::of(script(&folder, "api.js", &[&url])).await?;
    let mut parts = vec![api.pid()];
    let mut workers = Vec::new();
    for _ in 0..2 {
        let worker = Peer::of(script(&folder, "worker.js", &[&url, &model, SLOTS])).await?;
        parts.push(worker.pid());
        workers.push(worker);
    }
    let count = parts.len();
    parts.push(redis.process().pid());
    let theirs_at = Target::Ours(Arc::new(Pool::new(api.address)));
    let floor_at = Target::Floor(Arc::new(Pool::new(floor.address)));
    for target in [&floor_at, &theirs_at] {
        full_load(target, QUICK, CLIENTS, 1.0).await?;
    }
    let (mut theirs, mut bare) = (Side::default(), Side::default());
    for _ in 0..ROUNDS {
        bare.round(&floor_at, &[floor.pid()]).await?;
        theirs.round(&theirs_at, &parts).await?;
    }
    let mut row = |what: &str, unit, them: f64, it: f64| {
        table.row(&format!("Node: {what}"), (them, Some(it), unit), "", None);
        them / it
    };
    let node = Node {
        p50: row("job at 50/s p50", "ms", across(&theirs.busy, 0.5), across(&bare.busy, 0.5)),
        p99: row("job at 50/s p99", "ms", across(&theirs.busy, 0.99), across(&bare.busy, 0.99)),
        cpu: row(
            "processor time of a job, api and workers",
            "ms",
            theirs.cpu_of(0..count),
            bare.cpu_of(0..1),
        ),
        rate: row("20-token jobs, sustained", "/s", median(theirs.rate.clone()), median(bare.rate.clone())),
        hop_p50: row("token to reader p50", "ms", across(&theirs.hops, 0.5), across(&bare.hops, 0.5)),
        hop_p99: row("token to reader p99", "ms", across(&theirs.hops, 0.99), across(&bare.hops, 0.99)),
    };
    table.row("Node: the same, Redis", (theirs.cpu_of(count..count + 1), None, "ms"), "", None);
    Ok(node)
}

/// Fetches its packages, once.
fn install() -> anyhow::Result<PathBuf> {
    let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/bin/bench/node");
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/servers/node");
    std::fs::create_dir_all(&folder)?;
    for file in ["package.json", "api.js", "worker.js"] {
        std::fs::copy(from.join(file), folder.join(file))?;
    }
    if !folder.join("node_modules/bullmq").exists() {
        let mut npm = Command::new("npm");
        npm.args(["install", "--no-audit", "--no-fund", "--silent"]).current_dir(&folder);
        let status = npm.status().context("npm is missing: install Node 20 or newer (apt: nodejs npm)")?;
        ensure!(status.success(), "npm could not fetch what the Node stack is made of");
    }
    Ok(folder)
}

fn script(folder: &Path, name: &str, args: &[&str]) -> tokio::process::Command {
    let mut command = tokio::process::Command::new("node");
    command.arg(name).args(args).current_dir(folder).env("NODE_ENV", "production");
    command
}
