//! `compose/k8s`: no cluster runs here, so what kustomize makes of the files is held to the schemas of Kubernetes
//! and of KEDA, to each other, and to what the binary takes.

use std::collections::HashMap;
use std::path::Path;
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use serde_json::{Value, json};

use millhand_tests::server::binary;

const FOLDER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../compose/k8s/overlays");
const OVERLAYS: [&str; 4] = ["rabbitmq", "rabbitmq-plain", "kafka", "kafka-plain"];
/// What a process may take to stop beyond its drain.
const BEYOND_THE_DRAIN: u64 = 15;
/// Secrets that docs/kubernetes.md has people make.
const MADE_BY_HAND: [&str; 3] = ["millhand", "millhand-rabbitmq-http", "millhand-scaler-tls"];
/// What the first of them holds.
const SECRETS: [(&str, &str); 4] = [
    ("MILLHAND_STORE__URL", "redis://redis:6379"),
    ("MILLHAND_BROKER__URL", "broker:9092"),
    ("MILLHAND_INDEX__URL", "postgres://millhand:secret@postgres/millhand"),
    ("MILLHAND_MODEL__API_KEY", "sk-canary-key-5f1c"),
];

/// Reads documents from standard input, checks each against the schema of its kind, and prints them.
const CHECK: &str = r#"
import json, sys, jsonschema, yaml
schemas = [json.load(open(path)) for path in sys.argv[1:]]
documents = [document for document in yaml.load_all(sys.stdin, yaml.CSafeLoader) if document]
for document in documents:
    found = [schema for schema in schemas if document['kind'] in schema['kinds']]
    schema = {**found[0]['kinds'][document['kind']], '$defs': found[0].get('$defs', {})}
    jsonschema.Draft202012Validator(schema).validate(document)
json.dump(documents, sys.stdout)
"#;

/// What kustomize makes of an overlay. It is in no package that every machine has, so a script of ours renders what
/// the files use of it.
fn rendered(overlay: &str) -> String {
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/servers/kustomize.py");
    // Debian's, which has Debian's packages.
    let mut kustomize = Command::new("/usr/bin/python3");
    let output = kustomize.arg(script).arg(Path::new(FOLDER).join(overlay)).output();
    let output = output.expect("python3 runs; ./tests/run installs it");
    assert!(output.status.success(), "{overlay}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn checked(text: &str) -> Result<Vec<Value>, String> {
    let data = |name: &str| format!("{}/data/kubernetes/{name}.json", env!("CARGO_MANIFEST_DIR"));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("objects.yaml");
    std::fs::write(&path, text).unwrap();
    // Debian's, which has Debian's packages.
    let mut python = Command::new("/usr/bin/python3");
    python.args(["-c", CHECK, &data("kubernetes"), &data("keda")]);
    let output = python.stdin(std::fs::File::open(&path).unwrap()).output();
    let output = output.expect("python3 runs; ./tests/run installs it");
    if !output.status.success() {
        return Err(String::from_utf8_lossy(&output.stderr).into_owned());
    }
    Ok(serde_json::from_slice(&output.stdout).unwrap())
}

/// The objects of each overlay, held to the schemas.
static OBJECTS: LazyLock<HashMap<&'static str, Vec<Value>>> = LazyLock::new(|| {
    let objects = |overlay| checked(&rendered(overlay)).unwrap_or_else(|err| panic!("{overlay}: {err}"));
    OVERLAYS.into_iter().map(|overlay| (overlay, objects(overlay))).collect()
});

fn of_kind<'a>(objects: &'a [Value], kind: &'a str) -> impl Iterator<Item = &'a Value> {
    objects.iter().filter(move |object| object["kind"] == kind)
}

fn one<'a>(objects: &'a [Value], kind: &'a str, name: &str) -> &'a Value {
    let found = of_kind(objects, kind).find(|object| object["metadata"]["name"] == name);
    found.unwrap_or_else(|| panic!("there is no {kind} {name}"))
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

/// Everything that runs our image, and its pods.
fn pods(objects: &[Value]) -> impl Iterator<Item = (&str, &Value)> {
    let running = objects.iter().filter(|object| object["spec"]["template"]["spec"].is_object());
    running.map(|object| (object["metadata"]["name"].as_str().unwrap(), &object["spec"]["template"]))
}

#[test]
fn the_schemas_refuse_what_a_cluster_would_refuse_or_drop() {
    let fine = rendered("rabbitmq") + "---\n" + &rendered("kafka-plain");
    checked(&fine).unwrap();
    for (from, to) in [
        ("terminationGracePeriodSeconds:", "terminationGraceSeconds:"),
        ("maxUnavailable: 1", "maxUnavailable: [1]"),
        ("pathType: Prefix", "pathTyp: Prefix"),
        ("cooldownPeriod: 120", "cooldownPeriod: 2m"),
        ("metricType: AverageValue", "metrictype: AverageValue"),
        ("parameter: caCert", "param: caCert"),
        ("verbs:", "verb:"),
    ] {
        assert!(fine.contains(from), "{from}");
        let refused = checked(&fine.replace(from, to)).unwrap_err();
        assert!(refused.contains("ValidationError"), "{to}: {refused}");
    }
}

#[test]
fn every_name_means_something_that_is_there() {
    for (overlay, objects) in &*OBJECTS {
        let there = |kind: &str, name: &Value| {
            if kind == "Secret" {
                assert!(MADE_BY_HAND.contains(&name.as_str().unwrap()), "{overlay}: who makes {name}?");
                return;
            }
            let found = of_kind(objects, kind).any(|object| object["metadata"]["name"] == *name);
            assert!(found, "{overlay}: there is no {kind} {name}");
        };
        for (name, pod) in pods(objects) {
            for container in list(&pod["spec"]["containers"]) {
                for from in list(&container["envFrom"]) {
                    if from["configMapRef"].is_object() {
                        there("ConfigMap", &from["configMapRef"]["name"]);
                    } else {
                        there("Secret", &from["secretRef"]["name"]);
                    }
                }
                for mount in list(&container["volumeMounts"]) {
                    let of_pod = list(&pod["spec"]["volumes"]).any(|volume| volume["name"] == mount["name"]);
                    assert!(of_pod, "{name} mounts {mount}");
                }
            }
            if pod["spec"]["serviceAccountName"].is_string() {
                there("ServiceAccount", &pod["spec"]["serviceAccountName"]);
            } else {
                assert_eq!(pod["spec"]["automountServiceAccountToken"], false, "{name}");
            }
        }
        let selectors = of_kind(objects, "Service").map(|object| (object, &object["spec"]["selector"]));
        let budgets = of_kind(objects, "PodDisruptionBudget");
        let selectors =
            selectors.chain(budgets.map(|object| (object, &object["spec"]["selector"]["matchLabels"])));
        for (object, selector) in selectors {
            let name = &object["metadata"]["name"];
            let deployment = one(objects, "Deployment", name.as_str().unwrap());
            assert_eq!(*selector, deployment["spec"]["template"]["metadata"]["labels"], "{name}");
            assert_eq!(*selector, deployment["spec"]["selector"]["matchLabels"], "{name}");
        }
        for ingress in of_kind(objects, "Ingress") {
            for rule in list(&ingress["spec"]["rules"]) {
                for path in list(&rule["http"]["paths"]) {
                    there("Service", &path["backend"]["service"]["name"]);
                }
            }
        }
        let mut scaled = of_kind(objects, "ScaledObject");
        let scaled = (scaled.next().unwrap(), scaled.next());
        assert!(scaled.1.is_none(), "{overlay}: two would own the same workers");
        there("Deployment", &scaled.0["spec"]["scaleTargetRef"]["name"]);
        let worker = one(objects, "Deployment", "millhand-worker");
        assert!(worker["spec"]["replicas"].is_null(), "applying it again would undo what KEDA did");
        for trigger in list(&scaled.0["spec"]["triggers"]) {
            if let Some(address) = trigger["metadata"]["scalerAddress"].as_str() {
                let service = one(objects, "Service", "millhand-scaler");
                let namespace = service["metadata"]["namespace"].as_str().unwrap();
                let port = &service["spec"]["ports"][0]["port"];
                assert_eq!(address, format!("millhand-scaler.{namespace}.svc:{port}"));
            }
            if trigger["authenticationRef"].is_object() {
                there("TriggerAuthentication", &trigger["authenticationRef"]["name"]);
            }
        }
        for authentication in of_kind(objects, "TriggerAuthentication") {
            for secret in list(&authentication["spec"]["secretTargetRef"]) {
                there("Secret", &secret["name"]);
            }
        }
    }
}

#[test]
fn nothing_can_do_more_than_it_must() {
    for objects in OBJECTS.values() {
        for (name, pod) in pods(objects) {
            let pod = &pod["spec"];
            assert_eq!(pod["securityContext"]["runAsNonRoot"], true, "{name}");
            assert!(pod["hostNetwork"].is_null() && pod["hostPID"].is_null(), "{name}");
            for container in list(&pod["containers"]) {
                let context = &container["securityContext"];
                assert_eq!(context["readOnlyRootFilesystem"], true, "{name}");
                assert_eq!(context["allowPrivilegeEscalation"], false, "{name}");
                assert_eq!(context["capabilities"]["drop"], json!(["ALL"]), "{name}");
                assert!(!container["args"].to_string().contains("--insecure"), "{name}");
                // Secrets are in secrets.
                assert!(container["env"].is_null(), "{name}");
            }
        }
        for role in of_kind(objects, "Role") {
            assert_eq!(
                role["rules"],
                json!([{"apiGroups": [""], "resources": ["pods"], "verbs": ["patch"]}])
            );
        }
        assert_eq!(of_kind(objects, "Secret").count(), 0, "no file holds one");
    }
}

/// `60s` → seconds.
fn seconds(text: &str) -> u64 {
    text.strip_suffix('s').unwrap().parse().unwrap()
}

#[test]
fn a_pod_is_not_killed_while_it_drains_and_is_asked_how_it_is() {
    for objects in OBJECTS.values() {
        let settings = of_kind(objects, "ConfigMap").next().unwrap();
        let drain = seconds(settings["data"]["MILLHAND_WORKER__DRAIN_TIMEOUT"].as_str().unwrap());
        for deployment in of_kind(objects, "Deployment") {
            let name = deployment["metadata"]["name"].as_str().unwrap();
            let pod = &deployment["spec"]["template"]["spec"];
            let container = &pod["containers"][0];
            let grace = pod["terminationGracePeriodSeconds"].as_u64().unwrap();
            let before = container["lifecycle"]["preStop"]["sleep"]["seconds"].as_u64().unwrap_or(0);
            let drain = match name {
                "millhand-worker" => drain,
                // `[api.limits] drain_timeout` is not set here.
                "millhand-api" => millhand_api::ApiConfig::default().limits.drain_timeout.as_secs(),
                _ => 0,
            };
            assert!(before + drain + BEYOND_THE_DRAIN < grace, "{name} is killed while it drains");
            for (probe, path) in
                [("startupProbe", "healthz"), ("livenessProbe", "healthz"), ("readinessProbe", "readyz")]
            {
                let command = container[probe]["exec"]["command"].to_string();
                assert!(
                    command.contains(&format!("http://127.0.0.1:8081/{path}")),
                    "{name} {probe}: {command}"
                );
            }
        }
    }
}

#[test]
fn the_binary_takes_every_argument_and_every_key() {
    for (overlay, objects) in &*OBJECTS {
        let settings = of_kind(objects, "ConfigMap").next().unwrap()["data"].as_object().unwrap();
        let plain = |value: &Value| value.as_str().unwrap().to_owned();
        let settings = settings.iter().map(|(key, value)| (key.clone(), plain(value)));
        let secrets = SECRETS.map(|(name, value)| (name.to_owned(), value.to_owned()));
        let mut environment: HashMap<String, String> = settings.chain(secrets).collect();
        if overlay.starts_with("rabbitmq") {
            environment.insert("MILLHAND_BROKER__URL".to_owned(), "amqp://rabbitmq:5672".to_owned());
        }
        let mut check = Command::new(binary());
        check.args(["config", "check"]).env_clear().envs(&environment).current_dir("/");
        let output = check.output().unwrap();
        assert!(output.status.success(), "{overlay}: {}", String::from_utf8_lossy(&output.stderr));
        let kind = overlay.trim_end_matches("-plain");
        assert_eq!(environment["MILLHAND_BROKER__KIND"], kind);

        for (name, pod) in pods(objects) {
            let mut started = Command::new(binary());
            started.args(list(&pod["spec"]["containers"][0]["args"]).map(|arg| arg.as_str().unwrap()));
            // What it says of arguments that it does not know, it says at once.
            let output = started.arg("--help").env_clear().output().unwrap();
            assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
        }
    }
}

#[test]
fn plain_triggers_count_what_the_workers_read() {
    for (overlay, of_queue) in [("rabbitmq-plain", "queueName"), ("kafka-plain", "topic")] {
        let objects = &OBJECTS[overlay];
        let scaled = &one(objects, "ScaledObject", "millhand-worker")["spec"];
        let settings = &of_kind(objects, "ConfigMap").next().unwrap()["data"];
        let slots: f64 = settings["MILLHAND_WORKER__SLOTS"].as_str().unwrap().parse().unwrap();
        let modifiers = &scaled["advanced"]["scalingModifiers"];
        let target: f64 = modifiers["target"].as_str().unwrap().parse().unwrap();
        // The sums of the comments: a wait of 5 s is borne, an answer takes 10 s.
        let (wait, answer) = (Duration::from_secs(5).as_secs_f64(), Duration::from_secs(10).as_secs_f64());
        match overlay {
            "rabbitmq-plain" => assert_eq!(target, slots * (1.0 + wait / answer)),
            _ => assert_eq!(target, slots * wait / answer),
        }
        let queues: Vec<_> =
            list(&scaled["triggers"]).map(|trigger| trigger["metadata"][of_queue].clone()).collect();
        assert_eq!(queues, ["millhand.jobs.interactive", "millhand.jobs.batch"]);
        let names: Vec<_> =
            list(&scaled["triggers"]).map(|trigger| trigger["name"].as_str().unwrap()).collect();
        assert_eq!(modifiers["formula"], names.join(" + "));
        assert!(scaled["minReplicaCount"].as_u64().unwrap() > 0, "what is due would find nobody");
    }
    let triggers = &one(&OBJECTS["kafka-plain"], "ScaledObject", "millhand-worker")["spec"]["triggers"];
    assert!(list(triggers).all(|trigger| trigger["metadata"]["consumerGroup"] == "millhand-workers"));
}

#[test]
fn streams_are_passed_on_as_they_come_and_no_ticket_is_logged() {
    let ingress = |name| one(&OBJECTS["rabbitmq"], "Ingress", name);
    let note = |name: &'static str, key: &str| {
        ingress(name)["metadata"]["annotations"][format!("nginx.ingress.kubernetes.io/{key}")].clone()
    };
    assert_eq!(note("millhand-streams", "proxy-buffering"), "off");
    assert_eq!(note("millhand-streams", "enable-access-log"), "false");
    let nginx = include_str!("../../compose/nginx/nginx.conf");
    for name in ["millhand", "millhand-streams"] {
        let silence = note(name, "proxy-read-timeout");
        assert!(nginx.contains(&format!("proxy_read_timeout {}s;", silence.as_str().unwrap())), "{silence}");
    }
    let size = note("millhand", "proxy-body-size");
    assert!(nginx.contains(&format!("client_max_body_size {};", size.as_str().unwrap())), "{size}");
    let path = &ingress("millhand-streams")["spec"]["rules"][0]["http"]["paths"][0]["path"];
    assert!(nginx.contains(&format!("location ~ ^{} {{", path.as_str().unwrap())), "{path}");
}

#[test]
fn the_page_has_people_make_every_secret() {
    let page = include_str!("../../docs/kubernetes.md");
    for name in MADE_BY_HAND {
        assert!(
            page.contains(&format!("secret generic {name} ")) || page.contains(&format!("Secret `{name}`")),
            "{name}"
        );
    }
}
