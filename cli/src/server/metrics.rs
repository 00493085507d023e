//! The metrics of this process, as Prometheus reads them.
//!
//! The exporter that is usual with `metrics` would do, but the clock it times with (quanta 0.12) is measured at every
//! start, on a busy machine for 200 ms of processor time: as long as a new worker may take to be there at all.

mod buckets;
mod page;
mod recorder;

use anyhow::Context;
use millhand_common::telemetry;

pub(super) use recorder::Recorder;

/// Records from now on.
pub(super) fn start() -> anyhow::Result<Recorder> {
    let recorder = Recorder::default();
    metrics::set_global_recorder(recorder.clone()).ok().context("cannot record metrics")?;
    telemetry::begin();
    Ok(recorder)
}
