//! `compose/`: no engine runs here, so the files are held to the schema of the Compose Specification, to
//! each other, and to what the binary takes.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use serde_json::{Value, json};

use millhand_tests::server::binary;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../compose");
const BROKERS: [&str; 2] = ["kafka", "rabbitmq"];
/// What a process may take to stop beyond the worker's drain.
const BEYOND_THE_DRAIN: Duration = Duration::from_secs(15);

/// Checks a file against the schema and prints it as JSON.
const CHECK: &str = r#"
import json, sys, jsonschema, yaml
schema, path = json.load(open(sys.argv[1])), sys.argv[2]
document = yaml.safe_load(open(path))
jsonschema.Draft202012Validator.check_schema(schema)
jsonschema.Draft202012Validator(schema).validate(document)
json.dump(document, sys.stdout)
"#;

fn read(name: &str) -> String {
    fs::read_to_string(Path::new(FOLDER).join(name)).unwrap_or_else(|err| panic!("compose/{name}: {err}"))
}

/// One of the files, held to the schema. `text` in place of what it says.
fn checked(text: &str) -> Result<Value, String> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("compose.yaml");
    fs::write(&path, text).unwrap();
    let schema = concat!(env!("CARGO_MANIFEST_DIR"), "/data/compose-spec.json");
    // Debian's, which has Debian's packages.
    let output = Command::new("/usr/bin/python3").args(["-c", CHECK, schema]).arg(&path).output();
    let output = output.expect("python3 runs; ./tests/run installs it");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("ModuleNotFoundError"), "run ./tests/run, which installs it: {said}");
    if !output.status.success() {
        return Err(said);
    }
    Ok(serde_json::from_slice(&output.stdout).unwrap())
}

/// Both files; the second includes the first.
static FILES: LazyLock<[Value; 2]> = LazyLock::new(|| {
    let files = ["services.yaml", "millhand.yaml"].map(|name| checked(&read(name)).unwrap());
    assert_eq!(files[1]["include"], json!(["services.yaml"]));
    files
});

/// All that the two files declare under `key`: `services`, `networks`, `volumes`.
fn declared(key: &str) -> HashMap<String, Value> {
    let all = FILES.iter().filter_map(|file| file[key].as_object()).flatten();
    all.map(|(name, value)| (name.clone(), value.clone())).collect()
}

fn strings(value: &Value) -> Vec<String> {
    let of = |value: &Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
    value.as_array().map(|all| all.iter().map(of).collect()).unwrap_or_default()
}

fn is_ours(service: &Value) -> bool {
    service["build"].is_object()
}

#[test]
fn the_schema_refuses_what_compose_would_refuse() {
    let fine = read("millhand.yaml");
    checked(&fine).unwrap();
    for (from, to) in [
        ("restart: \"no\"", "restartt: \"no\""),
        ("read_only: true", "read_only: [1]"),
        ("condition: service_completed_successfully", "condition: some_day"),
    ] {
        assert!(fine.contains(from), "{from}");
        let refused = checked(&fine.replace(from, to)).unwrap_err();
        assert!(refused.contains("ValidationError"), "{to}: {refused}");
    }
}

#[test]
fn every_name_means_something_that_is_there() {
    let services = declared("services");
    let (networks, volumes) = (declared("networks"), declared("volumes"));
    for (name, service) in &services {
        let profiles = strings(&service["profiles"]);
        for (wanted, how) in service["depends_on"].as_object().into_iter().flatten() {
            let Some(other) = services.get(wanted) else {
                panic!("{name} depends on {wanted}, which is not there")
            };
            let theirs = strings(&other["profiles"]);
            let optional = how["required"] == false;
            assert!(
                theirs.is_empty() || optional || theirs == profiles,
                "{name} needs {wanted} of another profile"
            );
            match how["condition"].as_str().unwrap() {
                // Of ours, the Dockerfile has one.
                "service_healthy" => assert!(
                    (other["healthcheck"]["test"].is_array() || is_ours(other))
                        && other["healthcheck"]["disable"] != true,
                    "nobody knows whether {wanted} is healthy"
                ),
                "service_completed_successfully" => assert_eq!(other["restart"], "no", "{wanted} never ends"),
                other => panic!("{name} waits for {wanted} to be {other}"),
            }
        }
        for network in strings(&service["networks"]) {
            assert!(networks.contains_key(&network), "{name} is on {network}, which is not there");
        }
        for volume in strings(&service["volumes"]) {
            let source = volume.split(':').next().unwrap();
            let there = match source.strip_prefix("./") {
                Some(path) => Path::new(FOLDER).join(path).exists(),
                None => volumes.contains_key(source),
            };
            assert!(there, "{name} mounts {source}, which is not there");
        }
    }
    for broker in BROKERS {
        assert_eq!(services[broker]["profiles"], json!([broker]));
        let environment = read(&format!("{broker}.env"));
        assert!(environment.contains(&format!("MILLHAND_BROKER__KIND={broker}\n")), "{environment}");
        assert!(
            environment.contains(&format!("{broker}:")),
            "its address is the service's name: {environment}"
        );
    }
    let servers = read("nginx/servers.conf");
    for api in ["api-1", "api-2"] {
        assert!(servers.contains(&format!("server {api}:8080 ")), "{servers}");
        assert!(strings(&services[api]["command"]).contains(&"0.0.0.0:8080".to_owned()));
    }
    assert!(read("nginx/listen.conf").contains("listen 8080;"));
    let prometheus = read("prometheus/prometheus.yaml");
    assert!(prometheus.contains("names: [api-1, api-2, worker], type: A, port: 8081"), "{prometheus}");
    assert_eq!(services["worker"]["environment"]["MILLHAND_ADMIN__LISTEN"], "0.0.0.0:8081");
    for (file, address) in [
        ("prometheus/prometheus.yaml", "alertmanager:9093"),
        ("grafana/provisioning/datasources/prometheus.yaml", "http://prometheus:9090"),
        ("grafana/provisioning/dashboards/millhand.yaml", "/etc/grafana/dashboards"),
    ] {
        assert!(read(file).contains(address), "{file}");
    }
}

#[test]
fn only_nginx_and_grafana_can_be_reached_and_only_from_this_machine() {
    for (name, service) in declared("services") {
        let ports = strings(&service["ports"]);
        assert_eq!(
            ports.len(),
            usize::from(["nginx", "grafana"].contains(&name.as_str())),
            "{name}: {ports:?}"
        );
        assert!(ports.iter().all(|port| port.starts_with("127.0.0.1:")), "{ports:?}");
        assert!(service["network_mode"].is_null() && service["privileged"].is_null(), "{name}");
        if is_ours(&service) || name == "nginx" {
            assert_eq!(
                (&service["read_only"], &service["cap_drop"][0]),
                (&Value::Bool(true), &"ALL".into()),
                "{name}"
            );
        }
        if strings(&service["command"]).contains(&"--insecure".to_owned()) {
            assert!(name.starts_with("api-") || name == "worker", "{name}");
        }
    }
    assert_eq!(declared("networks")["servers"]["internal"], true);
}

/// `45s`, `1m30s` → how long.
fn duration(text: &str) -> Duration {
    let (mut total, mut number) = (0, 0);
    for letter in text.chars() {
        match (letter, letter.to_digit(10)) {
            (_, Some(digit)) => number = number * 10 + u64::from(digit),
            ('m', _) => total += std::mem::take(&mut number) * 60,
            ('s', _) => total += std::mem::take(&mut number),
            _ => panic!("{text} is not a duration"),
        }
    }
    Duration::from_secs(total)
}

/// What a service's processes get with this broker.
fn environment(service: &Value, broker: &str) -> HashMap<String, String> {
    let file = strings(&service["env_file"]).remove(0);
    assert!(file.starts_with("${COMPOSE_PROFILES:?") && file.ends_with("}.env"), "{file}");
    let lines = read(&format!("{broker}.env"));
    let lines = lines
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| line.split_once('='))
        .map(|(key, value)| (key, value.to_owned()));
    let own = service["environment"].as_object().unwrap().iter();
    let own = own.map(|(key, value)| (key.as_str(), value.as_str().unwrap().to_owned()));
    // `${NAME:-}` with nothing set.
    let plain =
        |value: String| if value.starts_with("${") && value.ends_with(":-}") { String::new() } else { value };
    lines.chain(own).map(|(key, value)| (key.to_owned(), plain(value))).collect()
}

#[test]
fn the_binary_takes_every_key_and_has_time_to_stop() {
    for (name, service) in
        declared("services").iter().filter(|(name, service)| is_ours(service) && *name != "sample")
    {
        for broker in BROKERS {
            let environment = environment(service, broker);
            let mut check = Command::new(binary());
            check.args(["config", "check"]).env_clear().envs(&environment).current_dir("/");
            let output = check.output().unwrap();
            assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
            let said = String::from_utf8_lossy(&output.stdout);
            let set = environment.values().filter(|value| !value.is_empty()).count();
            assert_eq!(said.matches("environment variable MILLHAND_").count(), set, "{said}");
            let drain = duration(&environment["MILLHAND_WORKER__DRAIN_TIMEOUT"]);
            let grace = duration(service["stop_grace_period"].as_str().unwrap());
            assert!(drain + BEYOND_THE_DRAIN < grace, "{name} is killed while it drains");
        }
    }
}

#[test]
fn the_image_is_built_from_what_is_there_and_does_not_run_as_root() {
    let (dockerfile, root) = (read("Dockerfile"), PathBuf::from(FOLDER).join(".."));
    let ignored = read("Dockerfile.dockerignore");
    let copies = dockerfile
        .lines()
        .filter_map(|line| line.strip_prefix("COPY "))
        .filter(|copy| !copy.starts_with("--from"));
    let mut copied = Vec::new();
    for copy in copies {
        let mut sources: Vec<&str> = copy.split_whitespace().collect();
        sources.pop();
        for source in sources {
            assert!(root.join(source).exists(), "{source} is not there");
            let top = source.split('/').next().unwrap();
            assert!(
                ignored.lines().any(|line| line == format!("!{top}")),
                "{source} is kept out of the context"
            );
            copied.push(source.to_owned());
        }
    }
    // cargo reads every member, also those it does not build.
    let workspace = fs::read_to_string(root.join("Cargo.toml")).unwrap();
    let members = workspace.lines().find_map(|line| line.strip_prefix("members = ")).unwrap();
    for member in members.split('"').skip(1).step_by(2) {
        assert!(copied.iter().any(|source| source == member), "{member} is not copied");
    }
    let toolchain = fs::read_to_string(root.join("rust-toolchain.toml")).unwrap();
    let version = toolchain.split('"').nth(1).unwrap();
    assert!(dockerfile.contains(&format!("RUSTUP_TOOLCHAIN={version}\n")), "{version}");
    let minor = version.rsplit_once('.').unwrap().0;
    assert!(dockerfile.contains(&format!("FROM rust:{minor}-bookworm AS build\n")));
    let user = dockerfile.lines().rfind(|line| line.starts_with("USER ")).unwrap();
    assert!(!user.contains("root") && user != "USER 0", "{user}");
    assert!(dockerfile.contains("\nHEALTHCHECK ") && dockerfile.contains("\nENTRYPOINT [\"millhand\"]"));
}
