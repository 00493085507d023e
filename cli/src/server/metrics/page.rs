//! The text format of Prometheus: <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use std::collections::BTreeMap;
use std::fmt::Write;

use metrics::{Key, SharedString};

/// One row of numbers with one set of labels.
pub(super) enum Series {
    Counter(u64),
    Gauge(f64),
    /// How many values are at most each bound, the last without one.
    Histogram {
        at_most: Vec<(f64, u64)>,
        sum: f64,
    },
}

impl Series {
    fn kind(&self) -> &'static str {
        match self {
            Self::Counter(_) => "counter",
            Self::Gauge(_) => "gauge",
            Self::Histogram { .. } => "histogram",
        }
    }

    fn write(&self, page: &mut String, name: &str, labels: &str) {
        let braced = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        // Writing to a `String` does not fail.
        let _ = match self {
            Self::Counter(count) => writeln!(page, "{name}{braced} {count}"),
            Self::Gauge(value) => writeln!(page, "{name}{braced} {value}"),
            Self::Histogram { at_most, sum } => {
                let comma = if labels.is_empty() { "" } else { "," };
                for (bound, count) in at_most {
                    let bound = if bound.is_finite() { bound.to_string() } else { "+Inf".to_owned() };
                    let _ = writeln!(page, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}");
                }
                let count = at_most.last().map_or(0, |(_, count)| *count);
                writeln!(page, "{name}_sum{braced} {sum}\n{name}_count{braced} {count}")
            }
        };
    }
}

/// What is to be shown: names, each with its labels, in order.
#[derive(Default)]
pub(super) struct Page(BTreeMap<String, BTreeMap<String, Series>>);

impl Page {
    pub(super) fn add(&mut self, key: &Key, series: Series) {
        let labels: Vec<String> = key
            .labels()
            .map(|label| format!("{}=\"{}\"", label.key(), escaped(label.value(), true)))
            .collect();
        self.0.entry(key.name().to_owned()).or_default().insert(labels.join(","), series);
    }

    /// `meanings` are by name.
    pub(super) fn render(&self, meanings: &BTreeMap<String, SharedString>) -> String {
        let mut page = String::new();
        for (name, all) in &self.0 {
            let Some(first) = all.values().next() else { continue };
            if let Some(meaning) = meanings.get(name) {
                let _ = writeln!(page, "# HELP {name} {}", escaped(meaning, false));
            }
            let _ = writeln!(page, "# TYPE {name} {}", first.kind());
            for (labels, series) in all {
                series.write(&mut page, name, labels);
            }
            page.push('\n');
        }
        page
    }
}

/// Backslashes and line ends, and within quotes those as well.
fn escaped(text: &str, quoted: bool) -> String {
    let text = text.replace('\\', "\\\\").replace('\n', "\\n");
    if quoted { text.replace('"', "\\\"") } else { text }
}
