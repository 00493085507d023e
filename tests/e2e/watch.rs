//! What `compose/` ships for watching: metrics, rules, routing, dashboards. Checked by Prometheus's own
//! tools, and by a Prometheus that scrapes a running system while things go wrong in it.

mod alerts;
mod dashboards;
mod load;
mod system;

use std::fs;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use millhand_tests::{Launch, Provider, wait_for};
use serde_json::json;

/// A file or folder of the project.
fn path(name: &str) -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/..")).join(name)
}

/// What one of Prometheus's tools says; it must be content.
fn run(tool: &str, args: &[&str], input: Option<&str>) -> String {
    let mut command = Command::new(tool);
    command.args(args).current_dir(path("."));
    let file = input.map(|text| {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("input"), text).unwrap();
        dir
    });
    if let Some(dir) = &file {
        command.stdin(fs::File::open(dir.path().join("input")).unwrap());
    } else {
        command.stdin(Stdio::null());
    }
    let output = command.output().unwrap_or_else(|err| panic!("{tool}: {err}; ./tests/run installs it"));
    let said =
        format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{tool} {args:?}: {said}");
    said
}

/// Names of the alerts, and who is to hear of each.
fn alerts() -> Vec<(String, String)> {
    let text = fs::read_to_string(path("compose/prometheus/alerts.yaml")).unwrap();
    let mut alerts = Vec::new();
    for line in text.lines() {
        if let Some(name) = line.trim().strip_prefix("- alert: ") {
            alerts.push((name.to_owned(), String::new()));
        }
        if let Some(severity) = line.trim().strip_prefix("labels: {severity: ") {
            alerts.last_mut().unwrap().1 = severity.trim_end_matches('}').to_owned();
        }
    }
    assert!(alerts.iter().all(|(_, severity)| !severity.is_empty()), "{alerts:?}");
    alerts
}

#[test]
fn the_rules_are_sound_and_fire_when_they_should() {
    let rules = ["compose/prometheus/recording.yaml", "compose/prometheus/alerts.yaml"];
    run("promtool", &["check", "rules", "--lint-fatal", rules[0], rules[1]], None);
    run("promtool", &["check", "config", "--syntax-only", "compose/prometheus/prometheus.yaml"], None);
    run("promtool", &["test", "rules", "tests/data/alerts.yaml"], None);
    let tests = fs::read_to_string(path("tests/data/alerts.yaml")).unwrap();
    for (alert, _) in alerts() {
        assert!(tests.contains(&format!("alertname: {alert}\n")), "no rule test has {alert} firing");
    }
}

#[test]
fn every_alert_has_somebody_to_hear_of_it() {
    let file = "compose/alertmanager/alertmanager.yaml";
    run("amtool", &["check-config", file], None);
    for (alert, severity) in alerts() {
        let labels = [format!("alertname={alert}"), format!("severity={severity}")];
        let config = format!("--config.file={file}");
        let said = run("amtool", &["config", "routes", "test", &config, &labels[0], &labels[1]], None);
        assert!(said.lines().any(|line| line == severity), "{alert}: {said}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_metric_is_one_that_prometheus_likes() {
    let (dir, model) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let limited = Launch::new(dir.path()).model(&model.base_url());
    let server = limited.env("MILLHAND_MODEL__LIMITS__TOKENS_PER_MINUTE", "100000").start().await;
    let job = server.client.chat("问 tokens=5 gap=10").await;
    server.client.finished(&job).await;
    server.client.log(&job, 0).await;
    // The limiter hears of a call's end a moment later.
    wait_for("the quota to be known", async || {
        (server.metric("millhand_limiter_used_ratio").await > 0.0).then_some(())
    })
    .await;
    let pools = server.operator().get("/v1/limits").await.json();
    let limit = &pools["data"][0]["limits"][0];
    assert_eq!((&limit["dimension"], &limit["limit"]), (&json!("tokens"), &json!(100_000)), "{pools}");
    assert!(limit["left"].as_u64() > Some(0) && limit["debt"] == 0, "{pools}");
    let metrics = server.metrics().await;
    run("promtool", &["check", "metrics"], Some(&metrics));
    for (name, words) in [
        ("gen_ai_client_token_usage_bucket", "gen_ai_token_type=\"output\""),
        ("gen_ai_client_operation_duration_seconds_bucket", "gen_ai_request_model=\"fake-1\""),
        ("gen_ai_client_operation_time_to_first_chunk_seconds_bucket", "gen_ai_operation_name=\"chat\""),
        ("gen_ai_client_operation_time_per_output_chunk_seconds_count", "gen_ai_operation_name=\"chat\""),
        ("gen_ai_invoke_agent_duration_seconds_count", "gen_ai_agent_name=\"chat\""),
        ("millhand_limiter_reserve_time_seconds_count", ""),
        ("millhand_limiter_asked_ratio_count", ""),
        ("millhand_limiter_used_ratio", "dimension=\"tokens\""),
        ("millhand_limiter_limit_units{", "} 100000"),
        ("millhand_limiter_left_units", "dimension=\"tokens\""),
        ("millhand_limiter_debt_units", "pool=\"default\",dimension=\"tokens\"} 0"),
        ("millhand_limiter_active_leases", "pool=\"default\"} 0"),
        ("millhand_limiter_expired_leases_total", "pool=\"default\"} 0"),
        ("millhand_store_tenant_share_ratio", "of=\"least\"} 1"),
        ("gen_ai_workflow_duration_seconds_count", "gen_ai_workflow_name=\"chat\""),
        ("millhand_store_live_workers", "state=\"working\""),
        ("millhand_broker_hints", "lane=\"batch\""),
    ] {
        let line = metrics.lines().find(|line| line.starts_with(name) && line.contains(words));
        assert!(line.is_some(), "{name} with {words}: {metrics}");
    }
    let named = metrics.lines().filter_map(|line| line.strip_prefix("# HELP ")).count();
    let typed = metrics.lines().filter_map(|line| line.strip_prefix("# TYPE ")).count();
    assert_eq!(named, typed, "every metric is explained");
}
