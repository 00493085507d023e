//! Where `metrics` keeps what it is told.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use metrics::{Counter, Gauge, Histogram, Key, KeyName, Metadata, SharedString, Unit};
use metrics_util::registry::{Registry, Storage};

use super::buckets::Buckets;
use super::page::{Page, Series};

/// All metrics of a process; clones are the same.
#[derive(Clone)]
pub(crate) struct Recorder(Arc<Inner>);

struct Inner {
    registry: Registry<Key, Kept>,
    /// What each name means.
    meanings: Mutex<BTreeMap<String, SharedString>>,
}

/// Numbers that anybody may change at any time.
struct Kept;

impl Storage<Key> for Kept {
    type Counter = Arc<AtomicU64>;
    type Gauge = Arc<AtomicU64>;
    type Histogram = Arc<Buckets>;

    fn counter(&self, _: &Key) -> Arc<AtomicU64> {
        Arc::default()
    }

    fn gauge(&self, _: &Key) -> Arc<AtomicU64> {
        Arc::default()
    }

    fn histogram(&self, key: &Key) -> Arc<Buckets> {
        Arc::new(Buckets::of(key.name()))
    }
}

impl Default for Recorder {
    fn default() -> Self {
        Self(Arc::new(Inner { registry: Registry::new(Kept), meanings: Mutex::default() }))
    }
}

impl Recorder {
    /// All of it in the text format of Prometheus, 0.0.4.
    pub(crate) fn render(&self) -> String {
        let Inner { registry, meanings } = &*self.0;
        let mut page = Page::default();
        registry.visit_counters(|key, count| page.add(key, Series::Counter(count.load(Ordering::Relaxed))));
        registry.visit_gauges(|key, bits| {
            page.add(key, Series::Gauge(f64::from_bits(bits.load(Ordering::Relaxed))));
        });
        registry.visit_histograms(|key, buckets| {
            let (at_most, sum) = buckets.read();
            page.add(key, Series::Histogram { at_most, sum });
        });
        page.render(&meanings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn means(&self, name: KeyName, meaning: SharedString) {
        let mut meanings = self.0.meanings.lock().unwrap_or_else(PoisonError::into_inner);
        meanings.insert(name.as_str().to_owned(), meaning);
    }
}

impl metrics::Recorder for Recorder {
    fn describe_counter(&self, name: KeyName, _: Option<Unit>, meaning: SharedString) {
        self.means(name, meaning);
    }

    fn describe_gauge(&self, name: KeyName, _: Option<Unit>, meaning: SharedString) {
        self.means(name, meaning);
    }

    fn describe_histogram(&self, name: KeyName, _: Option<Unit>, meaning: SharedString) {
        self.means(name, meaning);
    }

    fn register_counter(&self, key: &Key, _: &Metadata<'_>) -> Counter {
        self.0.registry.get_or_create_counter(key, |counter| Arc::clone(counter).into())
    }

    fn register_gauge(&self, key: &Key, _: &Metadata<'_>) -> Gauge {
        self.0.registry.get_or_create_gauge(key, |gauge| Arc::clone(gauge).into())
    }

    fn register_histogram(&self, key: &Key, _: &Metadata<'_>) -> Histogram {
        self.0.registry.get_or_create_histogram(key, |buckets| Arc::clone(buckets).into())
    }
}

#[cfg(test)]
mod tests {
    use metrics::{counter, describe_counter, describe_gauge, gauge, histogram};

    use super::*;

    #[test]
    fn what_was_told_is_on_the_page() {
        let recorder = Recorder::default();
        metrics::with_local_recorder(&recorder, || {
            describe_counter!("jobs_total", "Jobs, with a \\ and\na second line.");
            describe_gauge!("waiting", "Nobody ever set it.");
            counter!("jobs_total", "lane" => "batch").increment(2);
            counter!("jobs_total", "lane" => "batch").increment(1);
            counter!("jobs_total", "lane" => "say \"甲\"\\\n").increment(0);
            gauge!("depth").set(1.5);
            histogram!("time_seconds", "of" => "x").record(0.2);
            histogram!("time_seconds", "of" => "x").record(700.0);
        });
        let page = recorder.render();
        let begin = "# TYPE depth gauge\ndepth 1.5\n\n\
             # HELP jobs_total Jobs, with a \\\\ and\\na second line.\n# TYPE jobs_total counter\n\
             jobs_total{lane=\"batch\"} 3\njobs_total{lane=\"say \\\"甲\\\"\\\\\\n\"} 0\n\n\
             # TYPE time_seconds histogram\ntime_seconds_bucket{of=\"x\",le=\"0.0005\"} 0\n";
        assert!(page.starts_with(begin), "{page}");
        let end = "time_seconds_bucket{of=\"x\",le=\"0.2\"} 1\ntime_seconds_bucket{of=\"x\",le=\"0.5\"} 1\n";
        assert!(page.contains(end), "{page}");
        let end = "time_seconds_bucket{of=\"x\",le=\"+Inf\"} 2\ntime_seconds_sum{of=\"x\"} 700.2\n\
             time_seconds_count{of=\"x\"} 2\n\n";
        assert!(page.ends_with(end), "{page}");
    }
}
