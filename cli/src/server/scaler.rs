//! `millhand scaler`: tells KEDA how many workers there should be, over KEDA's external scaler protocol, and
//! Kubernetes which of them are busy. It keeps nothing, so there may be several.

mod pods;
#[rustfmt::skip]
mod proto;
mod seen;
mod service;
mod tls;

use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use millhand_api::Stage;
use millhand_common::scale::Settings;
use millhand_worker::routing::Routes;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::addresses::NO_KEYS;
use super::banner::Banner;
use super::parts::Parts;
use super::role::Role;
use super::signals::Signals;
use super::stop::Stop;
use super::wiring::Server;
use super::{addresses, metrics, models, start_logs};
use crate::args::ScalerArgs;
use crate::config::{self, Config, IndexKind};
use crate::terminal::print;

/// What stopping may take: answers are given at once.
const STOP_PATIENCE: Duration = Duration::from_secs(5);
/// Why a scaler without TLS is for its own machine.
const NO_TLS: &str = "without --tls-cert anybody can read and change what is said";

/// Serves KEDA until a signal.
pub(crate) fn scaler(args: &ScalerArgs) -> anyhow::Result<ExitCode> {
    let mut config = config::load(args.server.config.as_deref(), std::env::vars())?.config;
    config.admin.listen = args.server.admin.unwrap_or(config.admin.listen);
    config.worker.slots = args.slots.unwrap_or(config.worker.slots);
    // It needs no documents, wherever they are.
    config.index.kind = Some(IndexKind::None);
    Role::Scaler.fit(&mut config)?;

    start_logs(None);
    crate::install_crypto();
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    let runtime = runtime.context("cannot start the runtime")?;
    let code = runtime.block_on(run(args, config))?;
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(code)
}

async fn run(args: &ScalerArgs, config: Config) -> anyhow::Result<ExitCode> {
    let mut signals = Signals::new().context("cannot wait for signals")?;
    let recorder = metrics::start()?;
    let insecure = args.server.insecure;
    let tls = tls::config(args)?;
    addresses::check("--listen", args.listen, insecure || tls.is_some(), NO_TLS)?;
    let pods = if args.pod_costs { Some(pods::Pods::of_this_cluster(&args.service_account)?) } else { None };
    let parts = Parts::open(None, &config, None).await?;
    let limiters = models::limiters(&config).await?;
    let open = insecure || !parts.keys.keys().await.context("cannot read the keys")?.is_empty();
    addresses::check("--admin", config.admin.listen, open, NO_KEYS)?;
    let listener = addresses::bind("--listen", args.listen).await?;
    let admin_listener = addresses::bind("--admin", config.admin.listen).await?;
    let (listen, admin) = (listener.local_addr()?, admin_listener.local_addr()?);

    let settings = Settings { start_up: args.start_up, ..Settings::new(0, u32::MAX, config.worker.slots) };
    let (stage, mut stop) = (Stage::default(), Stop::new());
    let (store, rest) = (parts.store.clone(), stop.rest.clone());
    let server = Server {
        config,
        parts,
        embedder: None,
        limiters,
        routes: Arc::new(Routes::default()),
        cache: None,
        brownout: Arc::default(),
        insecure,
        stage: stage.clone(),
        stop: stop.clone(),
    };
    let mut tasks = JoinSet::new();
    server.start_rest(&mut tasks, admin_listener, recorder);
    let (see, seen) = watch::channel(None);
    tasks.spawn(seen::watch(server.observer(), settings.clone(), see, rest.clone()));
    tasks.spawn(service::serve(listener, tls, settings.slots, seen, rest.clone()));
    if let Some(pods) = pods {
        tasks.spawn(pods.keep_told(store, rest));
    }

    tracing::info!(role = Role::Scaler.name(), %listen, %admin, slots = settings.slots, "ready");
    let banner = Banner {
        role: Role::Scaler,
        api: None,
        admin,
        data: None,
        connections: 0,
        config: &server.config,
        workers: None,
    };
    // Whoever started us without a reader for this still wants the server.
    let _unread = print(&format!("{}  {:<8} {listen} (gRPC)\n", banner.render(), "KEDA"));

    let signal = stop.until_signal(&mut signals, &mut tasks, std::future::ready(())).await?;
    tracing::info!(signal, "stopping");
    stage.drain();
    if timeout(STOP_PATIENCE, stop.finish(&mut tasks, 0)).await.is_err() {
        tracing::warn!("a reader did not let go in time");
    }
    Ok(ExitCode::SUCCESS)
}
