//! Prometheus and Alertmanager, with the rules that `compose/` ships. What takes minutes there takes
//! seconds here: the times in the files are changed, and nothing else.

use std::fs;
use std::path::Path;
use std::process::Command;

use serde_json::{Value, json};
use tempfile::TempDir;

use super::{Process, free_port};
use crate::client::Client;

const CONFIGURATION: &str = include_str!("../../../compose/prometheus/prometheus.yaml");
const RECORDING: &str = include_str!("../../../compose/prometheus/recording.yaml");
const ALERTS: &str = include_str!("../../../compose/prometheus/alerts.yaml");
const ROUTING: &str = include_str!("../../../compose/alertmanager/alertmanager.yaml");
/// How Prometheus finds the processes in containers; here a file names them.
const DISCOVERY: &str =
    "dns_sd_configs: [{names: [api-1, api-2, worker], type: A, port: 8081, refresh_interval: 15s}]";
const TARGETS: &str = "targets.json";

/// A running Prometheus that tells a running Alertmanager.
pub struct Prometheus {
    process: Process,
    client: Client,
    alertmanager: Alertmanager,
}

impl Prometheus {
    /// One that scrapes nothing yet.
    ///
    /// # Panics
    ///
    /// When it is not installed (`./tests/run` does it), or does not start.
    pub async fn start() -> Self {
        let alertmanager = Alertmanager::start().await;
        let (folder, port) = (tempfile::tempdir().expect("a folder for Prometheus"), free_port());
        assert!(CONFIGURATION.contains(DISCOVERY), "prometheus.yaml has {DISCOVERY}");
        let configuration = CONFIGURATION
            .replace(DISCOVERY, &format!("file_sd_configs: [{{files: [{TARGETS}], refresh_interval: 1s}}]"))
            .replace("alertmanager:9093", &format!("127.0.0.1:{}", alertmanager.port));
        write(&folder, "prometheus.yaml", &quick(&configuration));
        write(&folder, "recording.yaml", &quick(RECORDING));
        write(&folder, "alerts.yaml", &quick(ALERTS));
        write(&folder, TARGETS, "[]");
        let client = Client::new(&format!("http://127.0.0.1:{port}"));
        let process = Process::start("prometheus", folder, |folder| {
            let mut command = Command::new("prometheus");
            command.arg("--config.file").arg(folder.join("prometheus.yaml"));
            command.arg("--storage.tsdb.path").arg(folder.join("data"));
            command.args(["--web.listen-address", &format!("127.0.0.1:{port}"), "--log.level", "warn"]);
            // The first alert comes before it knows of Alertmanager.
            command.args(["--rules.alert.resend-delay", "2s"]);
            command
        });
        let mut started = Self { process, client, alertmanager };
        let client = &started.client;
        started.process.until(async || is_ready(client).await).await;
        started
    }

    /// Scrapes these operators' addresses (`http://…`) from now on, and no others.
    ///
    /// # Panics
    ///
    /// When they cannot be written down.
    pub fn scrape(&self, addresses: &[&str]) {
        let targets: Vec<&str> =
            addresses.iter().map(|address| address.trim_start_matches("http://")).collect();
        let groups = if targets.is_empty() { json!([]) } else { json!([{"targets": targets}]) };
        // Read whole or not at all.
        let folder = self.process.folder();
        fs::write(folder.join("targets.new"), groups.to_string()).expect("targets can be written");
        fs::rename(folder.join("targets.new"), folder.join(TARGETS)).expect("targets can be replaced");
    }

    /// What a query gives now: the samples, each with `metric` and `value`.
    ///
    /// # Panics
    ///
    /// When it is no query.
    pub async fn query(&self, query: &str) -> Vec<Value> {
        self.ask("/api/v1/query", &[("query", query)]).await
    }

    /// What it gave in the last `seconds`: series, each with `metric` and `values`.
    ///
    /// # Panics
    ///
    /// When it is no query.
    pub async fn query_range(&self, query: &str, seconds: u64) -> Vec<Value> {
        let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).expect("a clock");
        let (start, end) = ((now.as_secs() - seconds).to_string(), now.as_secs().to_string());
        self.ask("/api/v1/query_range", &[("query", query), ("start", &start), ("end", &end), ("step", "1")])
            .await
    }

    async fn ask(&self, path: &str, parameters: &[(&str, &str)]) -> Vec<Value> {
        let url = reqwest::Url::parse_with_params(&self.client.url, parameters).expect("an address");
        let answer = self.client.get(&format!("{path}?{}", url.query().unwrap_or_default())).await;
        assert_eq!(answer.status, 200, "{parameters:?}: {}", answer.text);
        answer.json()["data"]["result"].as_array().expect("a list").clone()
    }

    /// Names of all alerts that have fired so far.
    pub async fn fired(&self) -> Vec<String> {
        let query = "group by (alertname) (last_over_time(ALERTS{alertstate=\"firing\"}[1h]))";
        let alerts = self.query(query).await;
        alerts.iter().filter_map(|one| one["metric"]["alertname"].as_str().map(str::to_owned)).collect()
    }

    /// Who was told of an alert, as far as Alertmanager still knows.
    pub async fn told(&self, alert: &str) -> Vec<String> {
        let answer = self.alertmanager.client.get("/api/v2/alerts").await.json();
        let all = answer.as_array().expect("a list").iter();
        all.filter(|one| one["labels"]["alertname"] == alert)
            .flat_map(|one| one["receivers"].as_array().expect("a list"))
            .filter_map(|receiver| receiver["name"].as_str().map(str::to_owned))
            .collect()
    }
}

struct Alertmanager {
    _process: Process,
    client: Client,
    port: u16,
}

impl Alertmanager {
    async fn start() -> Self {
        let (folder, port) = (tempfile::tempdir().expect("a folder for Alertmanager"), free_port());
        write(&folder, "alertmanager.yaml", ROUTING);
        let client = Client::new(&format!("http://127.0.0.1:{port}"));
        let mut process = Process::start("alertmanager", folder, |folder| {
            let mut command = Command::new("prometheus-alertmanager");
            command.arg("--config.file").arg(folder.join("alertmanager.yaml"));
            command.arg("--storage.path").arg(folder.join("data"));
            command.args(["--web.listen-address", &format!("127.0.0.1:{port}"), "--log.level", "warn"]);
            // No others to find.
            command.args(["--cluster.listen-address", ""]);
            command
        });
        process.until(async || is_ready(&client).await).await;
        Self { _process: process, client, port }
    }
}

async fn is_ready(client: &Client) -> bool {
    client.try_get("/-/ready").await.is_ok_and(|answer| answer.status == 200)
}

fn write(folder: &TempDir, name: &str, text: &str) {
    fs::write(Path::new(folder.path()).join(name), text).expect("its files can be written");
}

/// The file with short times: two seconds between scrapes, one until an alert fires, and rates over 15.
fn quick(text: &str) -> String {
    let line = |line: &str| {
        let (key, value) = line.split_once(": ").unwrap_or((line, ""));
        match key.trim() {
            "for" | "evaluation_interval" if is_time(value) => return format!("{key}: 1s\n"),
            // A scrape may take as long, and a broker that is away takes a second of it.
            "scrape_interval" if is_time(value) => return format!("{key}: 2s\n"),
            _ => {}
        }
        let parts = line.split('[').enumerate().map(|(at, part)| match part.split_once(']') {
            Some((time, rest)) if 0 < at && is_time(time) => format!("15s]{rest}"),
            _ => part.to_owned(),
        });
        parts.collect::<Vec<_>>().join("[") + "\n"
    };
    text.lines().map(line).collect()
}

/// `5m`, `1d`.
fn is_time(text: &str) -> bool {
    text.strip_suffix(['s', 'm', 'h', 'd'])
        .is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_times_are_changed() {
        let text = "for: 10m\nrule_files: [a.yaml]\nexpr: sum(rate(x_total{a=\"[b]\"}[5m])) > 30\n  scrape_interval: 15s\n";
        let short = "for: 1s\nrule_files: [a.yaml]\nexpr: sum(rate(x_total{a=\"[b]\"}[15s])) > 30\n  scrape_interval: 2s\n";
        assert_eq!(quick(text), short);
    }
}
