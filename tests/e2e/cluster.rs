//! The same promises on real servers: Kafka or RabbitMQ, Redis and PostgreSQL, several ingresses, several workers.

use std::collections::HashSet;
use std::fs;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use rustix::process::Signal;
use serde_json::{Value, json};
use tokio::process::Command;

use millhand_common::model::Timestamp;
use millhand_tests::log::check_log;
use millhand_tests::provider::answer_to;
use millhand_tests::server::binary;
use millhand_tests::servers::{Kafka, Postgres, RabbitMq, Redis};
use millhand_tests::{Launch, Provider, wait_for};

/// What spreads the work.
enum Queue {
    Kafka(Kafka),
    RabbitMq(RabbitMq),
}

/// The servers, and how processes are told of them.
pub(crate) struct Cluster {
    redis: Redis,
    queue: Queue,
    /// It runs as long as somebody holds it.
    _postgres: Arc<Postgres>,
    database: String,
}

impl Cluster {
    pub(crate) async fn on_kafka() -> Self {
        Self::start(async { Queue::Kafka(Kafka::start().await) }).await
    }

    pub(crate) async fn on_rabbitmq() -> Self {
        Self::start(async { Queue::RabbitMq(RabbitMq::start().await) }).await
    }

    async fn start(queue: impl Future<Output = Queue>) -> Self {
        let (redis, queue, postgres) = futures::join!(Redis::start(), queue, Postgres::shared());
        let database = postgres.new_database().await;
        let cluster = Self { redis, queue, _postgres: postgres, database };
        let mut migrate = Command::new(binary());
        migrate.arg("migrate").env("MILLHAND_STORE__KIND", "redis");
        migrate.env("MILLHAND_STORE__URL", cluster.redis.url());
        migrate.env("MILLHAND_INDEX__KIND", "pgvector").env("MILLHAND_INDEX__URL", &cluster.database);
        let migrated = migrate.output().await.unwrap();
        assert!(migrated.status.success(), "{}", String::from_utf8_lossy(&migrated.stderr));
        cluster
    }

    /// Takes one event out of a job's log, as nothing but a damaged store does.
    pub(crate) fn loses_event(&self, job: &str, seq: u64) {
        let uuid = job.trim_start_matches("job_").replace('-', "");
        let keys = self.redis.says(&format!("KEYS *:log:*{uuid}")).unwrap();
        let log =
            keys.lines().find(|line| line.contains(":log:")).expect("the job has a log").trim().to_owned();
        let said = self.redis.says(&format!("XDEL {log} {seq}-0")).unwrap();
        assert!(said.starts_with(":1"), "{said}");
    }

    /// Where the store listens.
    pub(crate) fn store(&self) -> String {
        format!("127.0.0.1:{}", self.redis.port())
    }

    /// Signals the broker's process.
    pub(crate) fn broker(&self, signal: Signal) {
        match &self.queue {
            Queue::Kafka(kafka) => kafka.process().signal(signal),
            Queue::RabbitMq(node) => node.process().signal(signal),
        }
    }

    pub(crate) fn launch(&self, role: &'static str) -> Launch {
        let (kind, url) = match &self.queue {
            Queue::Kafka(kafka) => ("kafka", kafka.servers()),
            Queue::RabbitMq(node) => ("rabbitmq", node.url()),
        };
        Launch::shared(role)
            .env("MILLHAND_BROKER__KIND", kind)
            .env("MILLHAND_BROKER__URL", url)
            .env("MILLHAND_STORE__KIND", "redis")
            .env("MILLHAND_STORE__URL", self.redis.url())
            .env("MILLHAND_INDEX__KIND", "pgvector")
            .env("MILLHAND_INDEX__URL", self.database.as_str())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_ingress_answers_for_any_job_and_document_on_kafka() {
    any_ingress_answers_for_any_job_and_document(Cluster::on_kafka().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_ingress_answers_for_any_job_and_document_on_rabbitmq() {
    any_ingress_answers_for_any_job_and_document(Cluster::on_rabbitmq().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_worker_loses_no_job_on_kafka() {
    a_killed_worker_loses_no_job(Cluster::on_kafka().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_worker_loses_no_job_on_rabbitmq() {
    a_killed_worker_loses_no_job(Cluster::on_rabbitmq().await).await;
}

/// Half the partitions belong to a worker that is busy for a minute: the hints in them are handed on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_job_waits_behind_a_full_worker_on_kafka() {
    let (cluster, model) = (Cluster::on_kafka().await, Provider::start().await);
    let worker = |slots: &str| cluster.launch("worker").model(&model.base_url()).arg("--slots").arg(slots);
    let api = cluster.launch("api").model(&model.base_url()).start().await;
    let full = worker("1").start().await;
    let slow = api.client.chat("slow tokens=600 gap=100").await;
    api.client.reaches(&slow, "in_progress").await;
    let free = worker("16").start().await;
    for round in 0..3 {
        let asked = Instant::now();
        let questions: Vec<String> = (0..12).map(|n| format!("问{round}-{n} tokens=2")).collect();
        let jobs = join_all(questions.iter().map(|question| api.client.chat(question))).await;
        let ended = join_all(jobs.iter().map(|job| api.client.finished(job))).await;
        let took = asked.elapsed();
        // A hint that is not acted on has its job due after 30 s.
        assert!(took < Duration::from_secs(12), "round {round} took {took:?}");
        for (job, question) in ended.iter().zip(&questions) {
            assert_eq!((&job["attempt"], &job["output"]["text"]), (&json!(1), &json!(answer_to(question))));
            check_log(job, &api.client.log(job["id"].as_str().unwrap(), 0).await);
        }
    }
    assert_eq!(api.client.job(&slow).await["status"], "in_progress", "it held its worker all the time");
    assert!(full.metric("millhand_worker_hints_handed_on_total").await >= 10.0, "{}", full.metrics().await);
    assert_eq!(free.metric("millhand_worker_hints_handed_on_total").await, 0.0);
}

/// P6 for jobs that came from the due index: no hint comes back from the dead worker's connection.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_worker_that_held_no_hint_is_missed_at_once() {
    let (cluster, model) = (Cluster::on_rabbitmq().await, Provider::start().await);
    let worker = cluster.launch("worker").model(&model.base_url());
    let api = cluster.launch("api").model(&model.base_url()).start().await;
    let doomed = worker.start().await;
    let soon = Timestamp::now() + Duration::from_secs(1);
    let mut jobs = Vec::new();
    for n in 0..8 {
        let asked = json!({"input": format!("问{n} tokens=60 gap=50"), "agent": "chat", "not_before": soon});
        jobs.push(api.client.submit(asked).await);
    }
    wait_for("all of them to run", || async { (model.calls().await.len() == 8).then_some(()) }).await;
    let survivor = worker.start().await;
    let killed = Timestamp::now();
    doomed.kill9().await;
    for job in &jobs {
        assert_eq!(api.client.finished(job).await["status"], "completed");
        let again = api.client.log(job, 0).await.iter().find_map(|event| {
            let event: Value = serde_json::from_str(event).unwrap();
            let at = event["at"].as_str().unwrap().to_owned();
            (event["type"] == "attempt.started" && event["attempt"] == 2)
                .then(|| Timestamp::try_from(at).unwrap())
        });
        let took = again.expect("a second attempt").since(killed);
        println!("taken over after {took:?}");
        // Its word that it lived is good for two seconds more at least, and a challenge takes 0.4 s.
        assert!(took < Duration::from_secs(2), "{took:?}");
    }
    drop(survivor);
}

async fn any_ingress_answers_for_any_job_and_document(cluster: Cluster) {
    let (api, worker) = (cluster.launch("api"), cluster.launch("worker"));
    let (first, second, _one, _two) =
        futures::join!(api.start(), api.start(), worker.start(), worker.start());
    let dir = tempfile::tempdir().unwrap();
    fs::write(
        dir.path().join("渡轮.md"),
        "# 渡轮手册\n\n渡轮每四十分钟从橡树港出发一班。自行车票价为三克朗。\n",
    )
    .unwrap();
    let mut ingest = Command::new(binary());
    ingest.args(["ingest", "--collection", "ferry"]).arg(dir.path().join("渡轮.md"));
    let ingested = ingest.env("MILLHAND_URL", &first.url).output().await.unwrap();
    assert!(ingested.status.success(), "{}", String::from_utf8_lossy(&ingested.stderr));
    let asked = json!({"input": "自行车票价是多少？", "collection": "ferry"});
    let job = second.client.submit(asked).await;
    let ended = first.client.finished(&job).await;
    assert_eq!(ended["status"], "completed", "{ended}");
    assert!(ended["output"]["text"].as_str().unwrap().contains("三克朗"), "{ended}");
    assert_eq!(first.client.log(&job, 0).await, second.client.log(&job, 0).await);
}

async fn a_killed_worker_loses_no_job(cluster: Cluster) {
    let model = Provider::start().await;
    let worker = cluster.launch("worker").model(&model.base_url()).arg("--slots").arg("4");
    let api = cluster.launch("api").model(&model.base_url()).start().await;
    let (doomed, survivor) = futures::join!(worker.start(), worker.start());
    let questions: Vec<String> = (0..12).map(|n| format!("问{n} tokens=30 gap=20")).collect();
    let jobs = join_all(questions.iter().map(|question| api.client.chat(question))).await;
    wait_for("both workers to be busy", || async { (5 <= model.calls().await.len()).then_some(()) }).await;
    doomed.kill9().await;
    let ended = join_all(jobs.iter().map(|job| api.client.finished(job))).await;
    for (job, question) in ended.iter().zip(&questions) {
        assert_eq!(job["status"], "completed", "{job}");
        assert_eq!(job["output"]["text"], answer_to(question), "{job}");
        check_log(job, &api.client.log(job["id"].as_str().unwrap(), 0).await);
    }
    let again = ended.iter().filter(|job| job["attempt"] != 1).count();
    assert!(0 < again, "some jobs were in the killed worker's hands");
    assert_eq!(jobs.iter().collect::<HashSet<_>>().len(), 12);
    if let Queue::RabbitMq(_) = cluster.queue {
        // The dead worker's connection gave its hints back at once.
        wait_for("redelivered hints", || async {
            let metrics = survivor.metrics().await;
            let counted =
                metrics.lines().find_map(|line| line.strip_prefix("millhand_worker_redeliveries_total "));
            counted.filter(|count| *count != "0").map(|_| ())
        })
        .await;
    }
    let (status, log) = survivor.sigterm().await;
    assert_eq!(status.code(), Some(0), "{log}");
}
