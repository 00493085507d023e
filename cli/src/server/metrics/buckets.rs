//! Histograms with fixed buckets.

use std::sync::atomic::{AtomicU64, Ordering};

use metrics::HistogramFn;
use millhand_common::telemetry;

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
/// How many times too much: from exact to a bound that nothing comes near.
const RATIOS: &[f64] = &[1.0, 1.1, 1.25, 1.5, 2.0, 3.0, 5.0, 10.0, 20.0, 50.0, 100.0];

/// Where the buckets of the histogram of that name end.
fn bounds(name: &str) -> &'static [f64] {
    match name {
        telemetry::CLIENT_TOKENS => TOKENS,
        telemetry::CLIENT_DURATION | telemetry::CLIENT_FIRST_CHUNK => CALL_SECONDS,
        telemetry::LIMITER_ASKED => RATIOS,
        _ if name.ends_with("_seconds") => SECONDS,
        _ => COUNTS,
    }
}

/// One histogram.
#[derive(Debug)]
pub(super) struct Buckets {
    bounds: &'static [f64],
    /// Of each bucket, and of what is above them all.
    counts: Vec<AtomicU64>,
    /// The bits of a float.
    sum: AtomicU64,
}

impl Buckets {
    pub(super) fn of(name: &str) -> Self {
        let bounds = bounds(name);
        let counts = std::iter::repeat_with(AtomicU64::default).take(bounds.len() + 1).collect();
        Self { bounds, counts, sum: AtomicU64::default() }
    }

    /// Each bound with how many values are at most that, the last without a bound; and the sum of all values.
    pub(super) fn read(&self) -> (Vec<(f64, u64)>, f64) {
        let bounds = self.bounds.iter().copied().chain([f64::INFINITY]);
        let mut so_far = 0;
        let at_most = bounds.zip(&self.counts).map(|(bound, count)| {
            so_far += count.load(Ordering::Relaxed);
            (bound, so_far)
        });
        (at_most.collect(), f64::from_bits(self.sum.load(Ordering::Relaxed)))
    }
}

impl HistogramFn for Buckets {
    fn record(&self, value: f64) {
        if value.is_nan() {
            return;
        }
        let at = self.bounds.partition_point(|bound| *bound < value);
        self.counts[at].fetch_add(1, Ordering::Relaxed);
        let add = |sum| Some((f64::from_bits(sum) + value).to_bits());
        // It is tried until it is done.
        let _done = self.sum.fetch_update(Ordering::Relaxed, Ordering::Relaxed, add);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_in_the_first_bucket_that_ends_at_it_or_above() {
        let buckets = Buckets::of(telemetry::LIMITER_ASKED);
        for value in [0.5, 1.0, 1.05, 100.0, 1e9, f64::NAN] {
            buckets.record(value);
        }
        let (at_most, sum) = buckets.read();
        let of = |bound: f64| at_most.iter().find(|(end, _)| *end == bound).map(|(_, count)| *count);
        assert_eq!([1.0, 1.1, 50.0, 100.0, f64::INFINITY].map(of), [2, 3, 3, 4, 5].map(Some));
        assert_eq!(sum, 1_000_000_102.55);
    }

    #[test]
    fn a_name_tells_what_is_measured() {
        assert_eq!(bounds(telemetry::JOB_DURATION), SECONDS);
        assert_eq!(bounds(telemetry::CLIENT_OUTPUT_CHUNK), SECONDS);
        assert_eq!(bounds(telemetry::CLIENT_DURATION), CALL_SECONDS);
        assert_eq!(bounds(telemetry::STORE_BATCH), COUNTS);
    }
}
