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
pub(crate) mod probe;
mod record;
mod role;
mod sample;
mod scale;
mod scaler;
mod serve;
mod shared;
mod signals;
mod stop;
mod traces;
mod wiring;

pub(crate) use parts::{DEFAULT_DATA, back_up};
pub(crate) use record::Running;
pub(crate) use scaler::scaler;
pub(crate) use serve::{api, scale, up, worker};
pub(crate) use shared::{keys as shared_keys, migrate};
pub(crate) use signals::Signals;

use std::io;

use tracing_subscriber::{EnvFilter, Layer, filter, fmt, layer::SubscriberExt, util::SubscriberInitExt};

use millhand_common::trace;
use traces::Traces;

/// JSON lines on standard error; `RUST_LOG` chooses. Spans go to `traces`, where there is somebody to have
/// them: no log line shows those.
pub(crate) fn start_logs(traces: Option<&Traces>) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info,tantivy=warn"));
    // It logs each error that it also returns, and at `trace` the password of RabbitMQ.
    let filter = filter.add_directive("lapin=off".parse().expect("a target and a level"));
    let untraced = filter::filter_fn(|metadata| metadata.target() != trace::TARGET);
    let lines = fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(true)
        .with_span_list(false)
        .with_writer(io::stderr)
        .with_filter(untraced)
        .with_filter(filter);
    tracing_subscriber::registry().with(lines).with(traces.map(Traces::layer)).init();
}
