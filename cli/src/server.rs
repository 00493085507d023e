//! The commands that serve.

mod addresses;
mod banner;
mod limits;
mod metrics;
mod models;
mod parts;
mod pipelines;
mod record;
mod sample;
mod signals;
mod stop;
mod up;
mod wiring;

pub(crate) use parts::{DEFAULT_DATA, back_up};
pub(crate) use record::Running;
pub(crate) use up::up;

use std::io;
use std::process::ExitCode;

use anyhow::bail;
use tracing_subscriber::EnvFilter;

use crate::args::{ApiArgs, WorkerArgs};
use crate::config;

/// `millhand api`: needs parts that several processes can share.
pub(crate) fn api(args: &ApiArgs) -> anyhow::Result<ExitCode> {
    config::load(args.server.config.as_deref(), std::env::vars())?;
    alone("api")
}

/// `millhand worker`: as [`api`].
pub(crate) fn worker(args: &WorkerArgs) -> anyhow::Result<ExitCode> {
    config::load(args.server.config.as_deref(), std::env::vars())?;
    alone("worker")
}

/// Every configuration that is taken today has embedded parts.
fn alone(command: &str) -> anyhow::Result<ExitCode> {
    bail!(
        "`millhand {command}` shares its store and queue with other processes, but an embedded store belongs to \
         one process: use `millhand up`, which serves and works in one (Redis, RabbitMQ and Kafka come with a \
         later version)"
    )
}

/// JSON lines on standard error; `RUST_LOG` chooses.
fn start_logs() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,tantivy=warn"));
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .init();
}
