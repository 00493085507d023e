//! `millhand provider`: a model provider in a box. It speaks OpenAI's protocol, takes its time, enforces
//! limits as providers do, goes wrong on demand and writes down what everything would have cost.

mod answer;
mod chat;
mod control;
mod desk;
mod dialect;
mod embeddings;
mod faults;
mod ledger;
mod quota;
mod settings;
mod speech;
mod tokens;
mod vectors;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context;
use axum::Router;
use axum::extract::DefaultBodyLimit;
use axum::routing::{get, post};
use clap::Args;

use crate::server::{Signals, addresses, start_logs};
use crate::terminal::print;
use desk::Desk;
use settings::Settings;

/// A request is smaller than this.
const MAX_BODY_BYTES: usize = 16 << 20;

const AFTER_HELP: &str = "\
Modes, of --requests-per-minute and the like:
  bucket   refills all the time, holds --burst-seconds of refill; tokens cost what they are
  window   full again at each fixed minute, whose beginning nobody is told
  slices   a sixth of the minute in each ten seconds, while the headers tell of the minute
  arrival  a bucket; a call costs its prompt and its whole max_tokens at arrival

Faults: KIND[,key=value…]
  rate_limited  error  error_body  stall  drip  cut  garbage  long_line  no_end  no_usage  empty
  wrong_marks  invented_quotes
  p=SHARE of calls (1), times=N calls (all), when=TEXT in the last message, on=chat|embeddings|rerank,
  after=N tokens (stall, drip, cut, garbage, long_line), status=N (error), retry_after=SECONDS
  (rate_limited, error), every=SECONDS (drip), bytes=N (long_line)
  e.g. --fault rate_limited,p=0.1,retry_after=2 --fault cut,times=1,after=5

While it runs: GET and POST /control (settings; send what changes), GET /ledger (every call: who, when, how
long, tokens, what it would have billed, which bodies came twice). A question may say how it wants to be
answered: tokens=200 gap=5 stall=3.";

#[derive(Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub(crate) struct ProviderArgs {
    /// Address to serve; port 0 = any
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8090")]
    listen: SocketAddr,
    /// Serve addresses other than loopback; whoever reaches it may read its ledger and change it
    #[arg(long)]
    insecure: bool,
    /// Decides when windows begin and which calls faults hit [default: another one each time]
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    #[command(flatten)]
    settings: Settings,
}

/// Serves until a signal.
pub(crate) fn run(args: ProviderArgs) -> anyhow::Result<ExitCode> {
    addresses::check("--listen", args.listen, args.insecure, "it asks for no key")?;
    if let Err(reason) = args.settings.check() {
        anyhow::bail!(reason);
    }
    start_logs(None);
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(serve(args))?;
    Ok(ExitCode::SUCCESS)
}

async fn serve(args: ProviderArgs) -> anyhow::Result<()> {
    let mut signals = Signals::new().context("cannot wait for signals")?;
    let listener = addresses::bind("--listen", args.listen).await?;
    let address = listener.local_addr()?;
    let seed = args.seed.unwrap_or_else(|| fastrand::u64(..));
    let desk = Desk::new(args.settings, seed);
    tracing::info!(listen = %address, seed, "ready");
    // Whoever started us without a reader for this still wants the server.
    let _unread = print(&format!(
        "millhand provider is ready\n\n  API      http://{address}/v1\n  Control  http://{address}/control\n  \
         Ledger   http://{address}/ledger\n\nPoint anything that speaks OpenAI's protocol at it, e.g.:\n\n  \
         MILLHAND_MODEL__BASE_URL=http://{address}/v1 MILLHAND_MODEL__NAME=millhand-chat millhand up\n"
    ));
    let served = axum::serve(listener, router(desk)).into_future();
    // Cancel-safe: after the signal nothing is owed to anyone.
    tokio::select! {
        served = served => served.context("serving failed"),
        signal = signals.next() => {
            tracing::info!(signal, "stopped");
            Ok(())
        }
    }
}

fn router(desk: Arc<Desk>) -> Router {
    Router::new()
        .route("/v1/chat/completions", post(chat::complete))
        .route("/v1/embeddings", post(embeddings::embeddings))
        .route("/v1/rerank", post(embeddings::rerank))
        .route("/v1/models", get(control::models))
        .route("/control", get(control::show).post(control::change))
        .route("/ledger", get(control::ledger))
        .layer(DefaultBodyLimit::max(MAX_BODY_BYTES))
        .with_state(desk)
}
