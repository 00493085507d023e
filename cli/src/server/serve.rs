//! The life of a serving process: open, bind, start, wait for a signal, give everything back.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context;
use millhand_api::Stage;
use millhand_common::brownout::Brownout;
use millhand_common::model::WorkerId;
use millhand_common::scale::Settings;
use millhand_worker::routing::Routes;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::addresses::NO_KEYS;
use super::banner::Banner;
use super::parts::{DEFAULT_DATA, Parts};
use super::record::Running;
use super::role::Role;
use super::sample::{QUESTIONS, Sample};
use super::scale::Program;
use super::signals::Signals;
use super::stop::Stop;
use super::traces::Traces;
use super::wiring::Server;
use super::{addresses, alone, limits, metrics, models, start_logs};
use crate::args::{ApiArgs, ScaleArgs, ServerArgs, UpArgs, WorkerArgs};
use crate::config::{self, Config, IndexKind, StoreKind};
use crate::terminal::print;

/// Longest wait for the sample before a newcomer is told to go on without it.
const SAMPLE_PATIENCE: Duration = Duration::from_secs(60);
/// What stopping may take beyond the worker's own drain.
const STOP_PATIENCE: Duration = Duration::from_secs(15);
/// A worker that has not ended this long after it should have is killed by its supervisor.
const KILL_AFTER: Duration = Duration::from_secs(5);

/// `millhand up`: everything in one process.
pub(crate) fn up(args: UpArgs) -> anyhow::Result<ExitCode> {
    let data = args.data.unwrap_or_else(|| DEFAULT_DATA.into());
    let folder = Some(DataFolder { path: data, with_sample: !args.no_sample });
    let given = Given { listen: args.listen, slots: args.slots, folder, ..Given::default() };
    serve(Role::Up, &args.server, given)
}

/// `millhand api`: serves clients, on parts that other processes share.
pub(crate) fn api(args: &ApiArgs) -> anyhow::Result<ExitCode> {
    serve(Role::Api, &args.server, Given { listen: args.listen, ..Given::default() })
}

/// `millhand worker`: works on jobs, from parts that other processes share.
pub(crate) fn worker(args: &WorkerArgs) -> anyhow::Result<ExitCode> {
    let given = Given { slots: args.slots, supervised: args.supervised, ..Given::default() };
    serve(Role::Worker, &args.server, given)
}

/// `millhand scale`: runs workers, on parts that they and other processes share.
pub(crate) fn scale(args: &ScaleArgs) -> anyhow::Result<ExitCode> {
    let ScaleArgs { server, min, max, slots } = args;
    anyhow::ensure!(
        min <= max,
        "--min {min} is more than --max {max}: fewest workers cannot be more than most"
    );
    let bounds = Bounds { min: *min, max: *max, config: server.config.clone() };
    serve(Role::Scale, server, Given { slots: *slots, bounds: Some(bounds), ..Given::default() })
}

/// What the command line says of one role or another.
#[derive(Default)]
struct Given {
    listen: Option<SocketAddr>,
    slots: Option<u32>,
    folder: Option<DataFolder>,
    /// The worker's id, when a supervisor holds the other end of standard input.
    supervised: Option<WorkerId>,
    bounds: Option<Bounds>,
}

/// Between which a supervisor decides, and the file its workers read.
struct Bounds {
    min: u32,
    max: u32,
    config: Option<PathBuf>,
}

/// What belongs to this process alone.
struct DataFolder {
    path: PathBuf,
    with_sample: bool,
}

/// Serves until a signal; returns when everything is given back.
fn serve(role: Role, args: &ServerArgs, given: Given) -> anyhow::Result<ExitCode> {
    let mut config = config::load(args.config.as_deref(), std::env::vars())?.config;
    config.api.listen = given.listen.unwrap_or(config.api.listen);
    config.admin.listen = args.admin.unwrap_or(config.admin.listen);
    config.worker.slots = given.slots.unwrap_or(config.worker.slots);
    role.fit(&mut config)?;

    crate::install_crypto();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let endpoint = config.telemetry.otlp_endpoint.as_deref();
    let traces = endpoint.map(|endpoint| Traces::to(endpoint, role, runtime.handle())).transpose()?;
    start_logs(traces.as_ref());
    let connections = limits::raise_open_files();
    config.api.limits.connections = config.api.limits.connections.min(connections);

    let code = runtime.block_on(run(role, config, given, args.insecure));
    if let Some(traces) = traces {
        traces.end();
    }
    let code = code?;
    // Threads that still block on a disk or a name server do not hold up the end.
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(code)
}

async fn run(role: Role, mut config: Config, given: Given, insecure: bool) -> anyhow::Result<ExitCode> {
    let started = Instant::now();
    let Given { folder, supervised, bounds, .. } = given;
    let mut signals = Signals::new().context("cannot wait for signals")?;
    if supervised.is_some() {
        signals = signals.with_supervisor().context("standard input is no pipe to a supervisor")?;
    }
    let recorder = metrics::start()?;
    let limiters = models::limiters(&config).await?;
    let embedder = models::embedder(&config, &limiters)?;
    let path = folder.as_ref().map(|folder| folder.path.as_path());
    let parts = Parts::open(path, &config, embedder.clone().map(|embedder| embedder as _)).await?;
    if config.store.kind == StoreKind::Redis {
        config.worker.own_index = config.index.kind == Some(IndexKind::Embedded);
        alone::check(&*parts.store, config.worker.own_index).await?;
    }
    let routes = if role.works() { models::routes(&config, &limiters)? } else { Routes::default() };
    let routes = Arc::new(routes);
    let cache = if role.works() { models::cache(&config).await? } else { None };
    let open = insecure || !parts.keys.keys().await.context("cannot read the keys")?.is_empty();
    if role.serves() {
        addresses::check("--listen", config.api.listen, open, NO_KEYS)?;
    }
    addresses::check("--admin", config.admin.listen, open, NO_KEYS)?;
    let api_listener = match role.serves() {
        true => Some(addresses::bind("--listen", config.api.listen).await?),
        false => None,
    };
    let admin_listener = addresses::bind("--admin", config.admin.listen).await?;
    let api_address = api_listener.as_ref().map(TcpListener::local_addr).transpose()?;
    let admin_address = admin_listener.local_addr()?;

    let (stage, stop) = (Stage::default(), Stop::new());
    let with_sample = folder.as_ref().is_some_and(|folder| folder.with_sample);
    stage.set_loading(with_sample);
    let brownout = Arc::new(Brownout::new(config.brownout()));
    let server = Server { config, parts, embedder, limiters, routes, cache, brownout, insecure, stage, stop };
    let mut tasks = JoinSet::new();
    server.start_rest(&mut tasks, admin_listener, recorder);
    if role.works() || role.serves() {
        server.start_brownout(&mut tasks);
    }
    if role.works() {
        server.start_worker(&mut tasks, supervised)?;
    }
    if let Some(Bounds { min, max, config: file }) = &bounds {
        let settings = Settings::new(*min, *max, server.config.worker.slots);
        let program = Program {
            exe: std::env::current_exe().context("cannot find this program's own file")?,
            config: file.clone(),
            slots: server.config.worker.slots,
            patience: server.config.worker.drain_timeout + STOP_PATIENCE + KILL_AFTER,
        };
        server.start_supervisor(&mut tasks, settings, program);
    }
    if let Some(listener) = api_listener {
        server.start_api(&mut tasks, listener);
    }

    let Server { config, parts, stage, mut stop, .. } = server;
    if let (Some(api), Some(folder)) = (api_address, &parts.embedded.folder) {
        let (url, admin_url) = (format!("http://{api}"), format!("http://{admin_address}"));
        let running = Running { pid: std::process::id(), url, admin_url };
        running.write(folder.path()).context("cannot write to the data folder")?;
    }
    tracing::info!(
        role = role.name(),
        listen = api_address.map(tracing::field::display),
        admin = %admin_address,
        data = path_of(&folder).map(tracing::field::display),
        connections = config.api.limits.connections,
        started_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
        "ready"
    );
    let shown = path_of(&folder).map(|path| path.to_string());
    let banner = Banner {
        role,
        api: api_address,
        admin: admin_address,
        data: shown.as_deref().map(Path::new),
        connections: config.api.limits.connections,
        config: &config,
        workers: bounds.map(|bounds| (bounds.min, bounds.max)),
    };
    // Whoever started us without a reader for this still wants the server.
    let _unread = print(&banner.render());

    let greet = async {
        if with_sample {
            load_sample(&parts, &banner).await;
        }
        stage.set_loading(false);
    };
    let signal = stop.until_signal(&mut signals, &mut tasks, greet).await?;
    tracing::info!(signal, "stopping: jobs finish or are given back; a second signal ends at once");
    stage.drain();
    let mut patience = config.worker.drain_timeout.max(config.api.limits.drain_timeout) + STOP_PATIENCE;
    if role == Role::Scale {
        // It outlives its workers, also one that has to be killed.
        patience += 2 * KILL_AFTER;
    }
    // Cancel-safe: after the second signal nothing is waited for any more.
    tokio::select! {
        signal = signals.next() => {
            tracing::warn!(signal, "stopped at once: unfinished jobs go on at the next start");
            std::process::exit(130);
        }
        stopped = timeout(patience, stop.finish(&mut tasks, role.parts())) => {
            if stopped.is_err() {
                tracing::error!("parts of the server did not stop in time");
                return Ok(ExitCode::FAILURE);
            }
        }
    }
    parts.embedded.close().await;
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

fn path_of(folder: &Option<DataFolder>) -> Option<String> {
    let path = &folder.as_ref()?.path;
    Some(path.canonicalize().unwrap_or_else(|_| path.clone()).display().to_string())
}

/// Loads the sample, where documents go into a folder, and tells what to try.
async fn load_sample(parts: &Parts, banner: &Banner<'_>) {
    let (Some(documents), Some(folder)) = (parts.documents.clone(), &parts.embedded.folder) else { return };
    let sample = Sample {
        store: parts.store.clone(),
        reader: parts.reader.clone(),
        broker: parts.broker.clone(),
        documents,
    };
    match timeout(SAMPLE_PATIENCE, sample.load(folder.path())).await {
        Ok(Ok(())) => {
            let _unread = print(&banner.questions(QUESTIONS));
        }
        Ok(Err(err)) => tracing::warn!(error = format!("{err:#}"), "the sample collection is not loaded"),
        Err(_) => tracing::warn!("the sample collection is still being loaded"),
    }
}
