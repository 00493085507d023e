//! The recorder behind /metrics.

use std::time::Duration;

use anyhow::Context;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use millhand_common::telemetry;
use tokio_util::sync::CancellationToken;

/// From a fast disk's sync to the longest deadline people wait for.
const SECONDS: &[f64] = &[
    0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0, 30.0, 60.0, 120.0,
    600.0,
];
const COUNTS: &[f64] = &[1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0];
/// Histograms gather samples until this moves them into their buckets.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

pub(super) fn start() -> anyhow::Result<PrometheusHandle> {
    let handle = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), SECONDS)
        .and_then(|builder| builder.set_buckets_for_metric(Matcher::Suffix("_count".to_owned()), COUNTS))
        .context("metric buckets")?
        .install_recorder()
        .context("cannot record metrics")?;
    telemetry::describe();
    Ok(handle)
}

/// Keeps the recorder small until shutdown.
pub(super) async fn upkeep(handle: PrometheusHandle, shutdown: CancellationToken) {
    loop {
        // Cancel-safe: both branches only wait.
        tokio::select! {
            () = shutdown.cancelled() => return,
            () = tokio::time::sleep(UPKEEP_EVERY) => handle.run_upkeep(),
        }
    }
}
