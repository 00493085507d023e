//! The commands that serve.

pub(crate) mod addresses;
mod alone;
mod banner;
mod limits;
mod metrics;
mod models;
mod observe;
mod parts;
mod pipelines;
mod record;
mod role;
mod sample;
mod scale;
mod scaler;
mod serve;
mod shared;
mod signals;
mod stop;
mod wiring;

pub(crate) use parts::{DEFAULT_DATA, back_up};
pub(crate) use record::Running;
pub(crate) use scaler::scaler;
pub(crate) use serve::{api, scale, up, worker};
pub(crate) use shared::{keys as shared_keys, migrate};
pub(crate) use signals::Signals;

use std::io;

use tracing_subscriber::EnvFilter;

/// JSON lines on standard error; `RUST_LOG` chooses.
pub(crate) fn start_logs() {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,tantivy=warn"));
    // It logs each error that it also returns, and at `trace` the password of RabbitMQ.
    let filter = filter.add_directive("lapin=off".parse().expect("a target and a level"));
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .init();
}
