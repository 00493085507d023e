//! `millhand up`: everything in one process.

use std::path::Path;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::Context;
use millhand_api::Drain;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::banner::Banner;
use super::parts::{DEFAULT_DATA, Parts};
use super::record::Running;
use super::sample::{QUESTIONS, Sample};
use super::signals::Signals;
use super::stop::Stop;
use super::wiring::Server;
use super::{addresses, limits, metrics, models, start_logs};
use crate::args::UpArgs;
use crate::config::{self, Config};
use crate::terminal::print;

/// Longest wait for the sample before a newcomer is told to go on without it.
const SAMPLE_PATIENCE: Duration = Duration::from_secs(60);
/// What stopping may take beyond the worker's own drain.
const STOP_PATIENCE: Duration = Duration::from_secs(15);

/// Serves until a signal; returns when everything is given back.
pub(crate) fn up(args: UpArgs) -> anyhow::Result<ExitCode> {
    let loaded = config::load(args.server.config.as_deref(), std::env::vars())?;
    let mut config = loaded.config;
    config.api.listen = args.listen.unwrap_or(config.api.listen);
    config.admin.listen = args.server.admin.unwrap_or(config.admin.listen);
    config.worker.slots = args.slots.unwrap_or(config.worker.slots);
    addresses::check("--listen", config.api.listen, args.server.insecure)?;
    addresses::check("--admin", config.admin.listen, args.server.insecure)?;

    start_logs();
    crate::install_crypto();
    let connections = limits::raise_open_files();
    config.api.limits.connections = config.api.limits.connections.min(connections);

    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let data = args.data.unwrap_or_else(|| DEFAULT_DATA.into());
    let code = runtime.block_on(run(config, &data, !args.no_sample))?;
    // Threads that still block on a disk or a name server do not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(code)
}

async fn run(config: Config, data: &Path, with_sample: bool) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let mut signals = Signals::new().context("cannot wait for signals")?;
    let recorder = metrics::start()?;
    let embedder = models::embedder(&config)?;
    let parts = Parts::open(data, &config, embedder.clone()).await?;
    let api_listener = addresses::bind("--listen", config.api.listen).await?;
    let admin_listener = addresses::bind("--admin", config.admin.listen).await?;
    let (api_address, admin_address) = (api_listener.local_addr()?, admin_listener.local_addr()?);

    let server = Server { config, parts, embedder, drain: Drain::default(), stop: Stop::new() };
    let mut tasks = JoinSet::new();
    server.start(&mut tasks, api_listener, admin_listener, recorder)?;

    let Server { config, parts, drain, mut stop, .. } = server;
    let running = Running {
        pid: std::process::id(),
        url: format!("http://{api_address}"),
        admin_url: format!("http://{admin_address}"),
    };
    running.write(parts.folder.path()).context("cannot write to the data folder")?;
    tracing::info!(
        listen = %api_address,
        admin = %admin_address,
        data = %data.display(),
        connections = config.api.limits.connections,
        started_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        "ready"
    );
    let shown = data.canonicalize().unwrap_or_else(|_| data.to_owned());
    let banner = Banner {
        api: api_address,
        admin: admin_address,
        data: &shown,
        connections: config.api.limits.connections,
        config: &config,
    };
    // Whoever started us without a reader for this still wants the server.
    let _unread = print(&banner.render());

    let greet = greet(&parts, &banner, with_sample);
    let signal = stop.until_signal(&mut signals, &mut tasks, greet).await?;
    tracing::info!(signal, "stopping: jobs finish or are given back; a second signal ends at once");
    drain.begin();
    let patience = config.worker.drain_timeout.max(config.api.limits.drain_timeout) + STOP_PATIENCE;
    // Cancel-safe: after the second signal nothing is waited for any more.
    tokio::select! {
        signal = signals.next() => {
            tracing::warn!(signal, "stopped at once: unfinished jobs go on at the next start");
            std::process::exit(130);
        }
        stopped = timeout(patience, stop.finish(&mut tasks)) => {
            if stopped.is_err() {
                tracing::error!("parts of the server did not stop in time");
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    parts.close().await;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

/// Loads the sample where it is wanted, and tells what to try.
async fn greet(parts: &Parts, banner: &Banner<'_>, with_sample: bool) {
    let Some(documents) = parts.documents().filter(|_| with_sample) else { return };
    let sample = Sample {
        store: parts.store.clone(),
        reader: parts.store.clone(),
        broker: parts.broker.clone(),
        documents,
    };
    match timeout(SAMPLE_PATIENCE, sample.load(parts.folder.path())).await {
        Ok(Ok(())) => {
            let _unread = print(&banner.questions(QUESTIONS));
        }
        Ok(Err(err)) => tracing::warn!(error = format!("{err:#}"), "the sample collection is not loaded"),
        Err(_) => tracing::warn!("the sample collection is still being loaded"),
    }
}
