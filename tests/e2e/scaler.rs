//! KEDA is told how many workers there should be, and Kubernetes which of them are busy.

mod peer;

use std::fs;

use millhand_tests::servers::{RabbitMq, Redis, certify};
use millhand_tests::{Launch, Provider, Server, wait_for};
use serde_json::{Value, json};

use peer::Peer;

const METRIC: &str = "millhand_slots_needed";

struct Mill {
    redis: Redis,
    rabbitmq: RabbitMq,
    provider: Provider,
}

impl Mill {
    async fn start() -> Self {
        let (redis, rabbitmq) = futures::join!(Redis::start(), RabbitMq::start());
        let provider = Provider::with(&["--first-token", "10ms", "--per-token", "0ms"]).await;
        Self { redis, rabbitmq, provider }
    }

    fn launch(&self, role: &'static str) -> Launch {
        let launch = Launch::shared(role).env("MILLHAND_BROKER__KIND", "rabbitmq");
        launch
            .env("MILLHAND_BROKER__URL", self.rabbitmq.url())
            .env("MILLHAND_STORE__KIND", "redis")
            .env("MILLHAND_STORE__URL", self.redis.url())
            .env("MILLHAND_WORKER__SLOTS", "2")
            .model(&self.provider.base_url())
    }
}

fn chat(question: &str) -> Value {
    json!({"input": question, "agent": "chat"})
}

/// Where KEDA finds it.
fn address(scaler: &Server) -> String {
    let printed = scaler.printed();
    let line = printed.lines().find(|line| line.trim_start().starts_with("KEDA")).unwrap();
    line.split_whitespace().nth(1).unwrap().to_owned()
}

fn slots(answer: &Value) -> f64 {
    let value = &answer["metricValues"][0];
    assert_eq!(value["metricName"], METRIC, "{answer}");
    let float = value["metricValueFloat"].as_f64().unwrap();
    // Those who know no floats are told the same.
    assert_eq!(value["metricValue"], format!("{float:.0}"), "{answer}");
    float
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn keda_hears_of_work_that_no_worker_takes_and_how_much_it_is() {
    let mut mill = Mill::start().await;
    let scaler = mill.launch("scaler").start().await;
    let api = mill.launch("api").start().await;
    let mut keda = Peer::keda(&address(&scaler), &[]);
    let mut stream = Peer::keda(&address(&scaler), &[]);
    wait_for("the first look", || {
        let served = keda.ask("Health externalscaler.ExternalScaler")["status"] == "SERVING";
        async move { served.then_some(()) }
    })
    .await;
    assert_eq!(keda.ask("Health")["status"], "SERVING");
    assert_eq!(stream.ask("StreamIsActive"), json!({"result": false}));
    assert_eq!(keda.ask("IsActive"), json!({"result": false}));
    let spec = json!({"metricSpecs": [{"metricName": METRIC, "targetSize": "2", "targetSizeFloat": 2.0}]});
    assert_eq!(keda.ask("GetMetricSpec"), spec);
    let mut specs = Peer::keda(&address(&scaler), &[]);
    assert_eq!(specs.ask("StreamMetricSpec"), spec);
    assert_eq!(slots(&keda.ask(&format!("GetMetrics {METRIC}"))), 0.0);
    assert_eq!(keda.ask("GetMetrics anything"), json!({"error": "NOT_FOUND"}));

    // There is no worker, so nobody but the store knows of it.
    let first = api.client.submit(chat("one tokens=5")).await;
    assert_eq!(stream.said(), json!({"result": true}));
    assert_eq!(keda.ask("IsActive"), json!({"result": true}));
    // For the job, and for the next one that may come.
    let first_needed = slots(&keda.ask(&format!("GetMetrics {METRIC}")));
    assert!((2.0..=4.0).contains(&first_needed), "one worker of two slots, or two: {first_needed}");
    let mut jobs = vec![first];
    for at in 0..40 {
        jobs.push(api.client.submit(chat(&format!("{at} tokens=5"))).await);
    }
    wait_for("the metric to follow", || {
        let needed = slots(&keda.ask(&format!("GetMetrics {METRIC}")));
        async move { (needed >= 10.0).then_some(()) }
    })
    .await;

    let worker = mill.launch("worker").start().await;
    for job in &jobs {
        assert_eq!(api.client.finished(job).await["status"], "completed");
    }
    assert_eq!(stream.said(), json!({"result": false}));
    assert_eq!(keda.ask("IsActive"), json!({"result": false}));

    // What it does not know it does not say.
    mill.redis.kill9();
    wait_for("old news to be no news", || {
        let answer = keda.ask("IsActive");
        async move { (answer == json!({"error": "UNAVAILABLE"})).then_some(()) }
    })
    .await;
    assert_eq!(keda.ask(&format!("GetMetrics {METRIC}")), json!({"error": "UNAVAILABLE"}));
    wait_for("its health to say so", || {
        let status = keda.ask("Health externalscaler.ExternalScaler")["status"].clone();
        async move { (status == "NOT_SERVING").then_some(()) }
    })
    .await;
    mill.redis.restart().await;
    wait_for("it to be asked again", || {
        let answer = keda.ask("IsActive");
        async move { (answer == json!({"result": false})).then_some(()) }
    })
    .await;

    // Readers that wait for news do not hold it up.
    let (status, log) = scaler.sigterm().await;
    assert!(status.success(), "{log}");
    assert!(!log.contains("did not let go"), "{log}");
    assert_eq!(stream.said(), json!({"ended": true}));
    assert_eq!(specs.said(), json!({"ended": true}));
    drop(worker);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_who_has_a_certificate_is_told() {
    let mill = Mill::start().await;
    let open = mill.launch("scaler").at("0.0.0.0:0").try_start().await;
    let Err((_, said)) = open else { panic!("it is open to everybody") };
    assert!(said.contains("--tls-cert") && said.contains("--insecure"), "{said}");

    let folder = tempfile::tempdir().unwrap();
    certify(folder.path());
    let file = |name: &str| folder.path().join(name).display().to_string();
    let (cert, key, authority) = (file("node.pem"), file("node.key"), file("authority.pem"));
    let launch = mill.launch("scaler").at("0.0.0.0:0").arg("--tls-cert").arg(&cert);
    let launch = launch.arg("--tls-key").arg(&key).arg("--tls-client-ca").arg(&authority);
    let scaler = launch.start().await;
    let address = address(&scaler).replace("0.0.0.0", "127.0.0.1");
    let mut known = Peer::keda(&address, &[&authority, &key, &cert]);
    wait_for("the first look", || {
        let answer = known.ask("IsActive");
        async move { (answer == json!({"result": false})).then_some(()) }
    })
    .await;
    assert_eq!(Peer::keda(&address, &[&authority]).ask("IsActive"), json!({"error": "UNAVAILABLE"}));
    assert_eq!(Peer::keda(&address, &[]).ask("IsActive"), json!({"error": "UNAVAILABLE"}));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn kubernetes_hears_which_pods_are_busy() {
    let mill = Mill::start().await;
    let folder = tempfile::tempdir().unwrap();
    certify(folder.path());
    let account = folder.path().join("account");
    fs::create_dir(&account).unwrap();
    fs::copy(folder.path().join("authority.pem"), account.join("ca.crt")).unwrap();
    fs::write(account.join("namespace"), "mill").unwrap();
    fs::write(account.join("token"), "secret-1\n").unwrap();
    let mut kubernetes = Peer::kubernetes(&folder.path().join("node.pem"), &folder.path().join("node.key"));
    let port = kubernetes.said()["port"].to_string();

    let (api, _worker) = (mill.launch("api").start().await, mill.launch("worker").start().await);
    let job = api.client.submit(chat("slow tokens=100 gap=1000")).await;
    api.client.reaches(&job, "in_progress").await;
    let operator = api.operator();
    let workers = wait_for("the worker to say so", || async {
        let workers = operator.get("/v1/workers").await.json();
        (workers["data"][0]["running"] == 1).then_some(workers)
    })
    .await;
    let host = workers["data"][0]["host"].as_str().unwrap().to_owned();

    let launch = mill.launch("scaler").arg("--pod-costs").env("KUBERNETES_SERVICE_HOST", "127.0.0.1");
    let launch = launch.env("KUBERNETES_SERVICE_PORT", port).arg("--service-account");
    let _scaler = launch.arg(&account.display().to_string()).start().await;
    let told = |cost: &str, token: &str| {
        json!({
            "path": format!("/api/v1/namespaces/mill/pods/{host}"),
            "body": {"metadata": {"annotations": {"controller.kubernetes.io/pod-deletion-cost": cost}}},
            "type": "application/merge-patch+json",
            "authorization": format!("Bearer {token}"),
        })
    };
    assert_eq!(kubernetes.said(), told("1", "secret-1"));
    // As Kubernetes does before the old one ends.
    fs::write(account.join("token"), "secret-2\n").unwrap();
    api.client.post(&format!("/v1/jobs/{job}/cancel"), &json!({})).await;
    assert_eq!(kubernetes.said(), told("0", "secret-2"));
}
