//! The dashboards: each of their queries is run where it would be.

use std::fs;

use millhand_tests::servers::Prometheus;
use serde_json::Value;

/// Title and query of every panel.
fn queries() -> Vec<(String, String)> {
    let mut queries = Vec::new();
    for name in ["service", "model", "load"] {
        let text =
            fs::read_to_string(super::path(&format!("compose/grafana/dashboards/{name}.json"))).unwrap();
        let dashboard: Value = serde_json::from_str(&text).unwrap();
        for panel in dashboard["panels"].as_array().unwrap().iter().filter(|panel| panel["type"] != "row") {
            let targets = panel["targets"].as_array().unwrap();
            assert!(!targets.is_empty(), "{panel}");
            for target in targets {
                let title = format!("{name}: {}", panel["title"].as_str().unwrap());
                queries.push((title, target["expr"].as_str().unwrap().to_owned()));
            }
        }
    }
    queries
}

/// Runs every query over the last minutes, in which something of everything has happened.
pub(super) async fn every_query_has_data(prometheus: &Prometheus) {
    let queries = queries();
    assert!(queries.len() > 60, "{}", queries.len());
    let mut empty = Vec::new();
    for (title, query) in &queries {
        let query = query.replace("$__rate_interval", "15s").replace("$__range", "5m");
        let series = prometheus.query_range(&query, 600).await;
        let is_number = |sample: &Value| sample[1].as_str().is_some_and(|value| value != "NaN");
        let samples = series.iter().flat_map(|one| one["values"].as_array().unwrap());
        if !samples.into_iter().any(is_number) {
            empty.push(format!("{title}: {query}"));
        }
    }
    assert!(empty.is_empty(), "no data: {empty:#?}");
    println!("{} queries of the dashboards have data", queries.len());
}
