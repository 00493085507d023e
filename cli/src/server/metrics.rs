//! The recorder behind /metrics.

use std::time::Duration;

use anyhow::Context;
use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use millhand_common::telemetry;
use tokio_util::sync::CancellationToken;

/// From a fast disk's sync to the longest deadline people wait for.
const SECONDS: &[f64] = &[
    0.000_5, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 1.5, 2.0, 5.0, 10.0, 30.0, 60.0,
    120.0, 600.0,
];
const COUNTS: &[f64] = &[1.0, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0, 200.0, 500.0, 1000.0];
/// As OpenTelemetry asks for `gen_ai.client.token.usage`: powers of four.
const TOKENS: &[f64] = &[
    1.0,
    4.0,
    16.0,
    64.0,
    256.0,
    1024.0,
    4096.0,
    16_384.0,
    65_536.0,
    262_144.0,
    1_048_576.0,
    4_194_304.0,
    16_777_216.0,
    67_108_864.0,
];
/// As OpenTelemetry asks for durations of model calls: powers of two from 10 ms.
const CALL_SECONDS: &[f64] =
    &[0.01, 0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.28, 2.56, 5.12, 10.24, 20.48, 40.96, 81.92];
/// Histograms gather samples until this moves them into their buckets.
const UPKEEP_EVERY: Duration = Duration::from_secs(5);

pub(super) fn start() -> anyhow::Result<PrometheusHandle> {
    let buckets = [
        (Matcher::Suffix("_seconds".to_owned()), SECONDS),
        (Matcher::Full(telemetry::JOB_ATTEMPTS.to_owned()), COUNTS),
        (Matcher::Full(telemetry::STORE_BATCH.to_owned()), COUNTS),
        (Matcher::Full(telemetry::CLIENT_TOKENS.to_owned()), TOKENS),
        (Matcher::Full(telemetry::CLIENT_DURATION.to_owned()), CALL_SECONDS),
        (Matcher::Full(telemetry::CLIENT_FIRST_CHUNK.to_owned()), CALL_SECONDS),
    ];
    let builder = buckets
        .into_iter()
        .try_fold(PrometheusBuilder::new(), |builder, (which, bounds)| {
            builder.set_buckets_for_metric(which, bounds)
        })
        .context("metric buckets")?;
    let handle = builder.install_recorder().context("cannot record metrics")?;
    telemetry::begin();
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
