//! A cluster that is watched, and models that can go wrong each on its own.

use std::future::Future;

use serde_json::{Value, json};

use millhand_tests::servers::Prometheus;
use millhand_tests::{Launch, Provider, Server, wait_for};

use crate::cluster::Cluster;

/// RabbitMQ, Redis, an ingress, workers, a provider, and who watches.
pub(super) struct System {
    pub(super) cluster: Cluster,
    pub(super) provider: Provider,
    pub(super) prometheus: Prometheus,
    pub(super) api: Server,
}

/// One pool for each thing that goes wrong with a pool; its agent and its class have its name.
const POOLS: [&str; 3] = ["dear", "tight", "sick"];

impl System {
    pub(super) async fn start() -> Self {
        // Limits that nobody meets, so that there are headers to tell them.
        let limits = ["--requests-per-minute", "100000", "--tokens-per-minute", "10000000"];
        let fast = ["--first-token", "0ms", "--per-token", "0ms"];
        let flags = [&limits[..], &fast].concat();
        let (cluster, provider, prometheus) =
            futures::join!(Cluster::on_rabbitmq(), Provider::with(&flags), Prometheus::start());
        let api = launch(&cluster, &provider, "api").env("MILLHAND_API__LIMITS__STREAMS", "2").start().await;
        Self { cluster, provider, prometheus, api }
    }

    pub(super) async fn worker(&self) -> Server {
        launch(&self.cluster, &self.provider, "worker").arg("--slots").arg("4").start().await
    }

    /// One that may start one worker of one slot, and asks its store here.
    pub(super) async fn supervisor(&self, store: &str) -> Server {
        let launch = launch(&self.cluster, &self.provider, "scale").env("MILLHAND_STORE__URL", store);
        let bounds = ["--min", "1", "--max", "1", "--slots", "1"];
        bounds.iter().fold(launch, |launch, arg| launch.arg(arg)).start().await
    }

    /// Watches the ingress and these workers, once all of them have been seen.
    pub(super) async fn watch(&self, workers: &[&Server]) {
        let admins: Vec<&str> = std::iter::once(&self.api)
            .chain(workers.iter().copied())
            .map(|server| server.admin.as_str())
            .collect();
        self.prometheus.scrape(&admins);
        wait_for("all to be scraped", async || {
            let up = self.prometheus.query("count(up{job=\"millhand\"} == 1)").await;
            (up.first()?["value"][1] == admins.len().to_string().as_str()).then_some(())
        })
        .await;
    }

    /// Asks an agent and waits for the end.
    pub(super) async fn ask(&self, agent: &str, question: &str) -> Value {
        let job = self.api.client.submit(json!({"input": question, "agent": agent})).await;
        self.api.client.finished(&job).await
    }

    /// Goes wrong, again and again, until these alerts fire; none of them has fired before.
    pub(super) async fn fires<F: Future<Output = ()>>(&self, alerts: &[&str], fault: impl Fn() -> F) {
        let before = self.prometheus.fired().await;
        assert!(
            !before.iter().any(|fired| alerts.contains(&fired.as_str())),
            "{alerts:?} before: {before:?}"
        );
        let begun = std::time::Instant::now();
        wait_for(&format!("{alerts:?} to fire"), async || {
            fault().await;
            let fired = self.prometheus.fired().await;
            alerts.iter().all(|alert| fired.iter().any(|fired| fired == alert)).then_some(())
        })
        .await;
        println!("{alerts:?} fired after {:.1} s", begun.elapsed().as_secs_f64());
    }

    /// Does it again and again until Prometheus sees this counter rise.
    pub(super) async fn shows<F: Future<Output = ()>>(&self, counter: &str, act: impl Fn() -> F) {
        let query = format!("sum(increase({counter}[15s])) > 0");
        wait_for(&format!("{counter} to rise"), async || {
            act().await;
            (!self.prometheus.query(&query).await.is_empty()).then_some(())
        })
        .await;
    }
}

fn launch(cluster: &Cluster, provider: &Provider, role: &'static str) -> Launch {
    let mut launch = cluster
        .launch(role)
        .model(&provider.base_url())
        .env("MILLHAND_PRICES__FAKE-1__INPUT_PER_MILLION", "0.15")
        .env("MILLHAND_PRICES__FAKE-1__OUTPUT_PER_MILLION", "0.60")
        // A tenth of a dollar for a token.
        .env("MILLHAND_PRICES__DEAR-1__INPUT_PER_MILLION", "0")
        .env("MILLHAND_PRICES__DEAR-1__OUTPUT_PER_MILLION", "100000")
        .env("MILLHAND_BUDGETS__PER_JOB_USD", "1")
        // Few, so that a line that does not move is soon too long; enough for a job that waits half a second.
        .env("MILLHAND_API__ADMISSION__EXPECTED_JOBS_PER_SECOND", "20")
        .env("MILLHAND_TENANTS__LARGE__WEIGHT", "100")
        .env("MILLHAND_MODELS__TIGHT__LIMITS__CONCURRENCY", "1")
        .env("MILLHAND_ROUTES__SICK__FALLBACK", "[\"default\"]")
        .env("MILLHAND_AGENTS__COLD__KIND", "chat")
        .env("MILLHAND_AGENTS__COLD__TEMPERATURE", "0");
    for pool in POOLS {
        let upper = pool.to_uppercase();
        launch = launch
            .env(&format!("MILLHAND_MODELS__{upper}__BASE_URL"), provider.base_url())
            .env(&format!("MILLHAND_MODELS__{upper}__NAME"), format!("{pool}-1"))
            .env(&format!("MILLHAND_ROUTES__{upper}__POOLS__{upper}"), "1")
            .env(&format!("MILLHAND_AGENTS__{upper}__KIND"), "chat")
            .env(&format!("MILLHAND_AGENTS__{upper}__MODEL"), pool);
        if pool != "dear" {
            launch = launch
                .env(&format!("MILLHAND_PRICES__{upper}-1__INPUT_PER_MILLION"), "0.15")
                .env(&format!("MILLHAND_PRICES__{upper}-1__OUTPUT_PER_MILLION"), "0.60");
        }
    }
    launch
}
