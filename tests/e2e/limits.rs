//! P11: the provider's limits are used up and never exceeded, as the provider counts; waiting happens in
//! the queue.

use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use millhand_tests::log::check_log;
use millhand_tests::servers::{Kafka, RabbitMq, Redis};
use millhand_tests::{Call, Client, Launch, Provider, Server, wait_for};
use rustix::process::Signal;

/// A call is charged about 100 tokens: ten calls a second are all there is.
const TOKENS_PER_MINUTE: u64 = 60_000;
/// One and a half times that.
const EVERY: Duration = Duration::from_millis(66);
const JOBS: u32 = 270;

async fn provider(mode: &[&str]) -> Provider {
    let limit = TOKENS_PER_MINUTE.to_string();
    let all = ["--tokens-per-minute", &limit, "--first-token", "50ms", "--per-token", "8ms"];
    Provider::with(&[&all, mode].concat()).await
}

fn limited(launch: Launch, provider: &Provider, limits: &[(&str, &str)]) -> Launch {
    let launch = launch
        .model(&provider.base_url())
        .env("MILLHAND_MODEL__LIMITS__TOKENS_PER_MINUTE", TOKENS_PER_MINUTE.to_string());
    limits
        .iter()
        .fold(launch, |launch, (key, value)| launch.env(&format!("MILLHAND_MODEL__LIMITS__{key}"), *value))
}

fn question(n: u32) -> Value {
    json!({"input": format!("问{n} tokens=60"), "agent": "chat", "max_output_tokens": 90, "deadline_seconds": 120})
}

/// Submits faster than the quota allows.
async fn submit_all(client: &Client) -> Vec<String> {
    let started = Instant::now();
    let mut jobs = Vec::new();
    for n in 0..JOBS {
        tokio::time::sleep_until(started + EVERY * n).await;
        jobs.push(client.submit(question(n)).await);
    }
    jobs
}

/// What the ledger says once all have ended: nothing refused, nothing in excess, and nearly all of the
/// quota used. Stragglers do not count: a dead worker's last jobs come up when everything else is done.
async fn check_ledger(provider: &Provider, lost_calls: u64) {
    let ledger = provider.ledger().await;
    println!("{:.1} % of the quota used, {} refused", used(provider).await, ledger["totals"]["limited"]);
    assert_eq!(ledger["totals"]["limited"], 0, "{}", ledger["totals"]);
    assert_eq!(ledger["limits"][0]["overdrawn"], 0, "{}", ledger["limits"]);
    assert!(used(provider).await >= 90.0);
    let calls = ledger["totals"]["calls"].as_u64().unwrap();
    assert!(calls <= u64::from(JOBS) + lost_calls, "{calls} calls");
}

/// Of what there was from the first call to the last but one in ten, in percent.
async fn used(provider: &Provider) -> f64 {
    let calls = provider.calls().await;
    let tokens = |call: &Call| {
        let count = |key: &str| call.entry[key].as_u64().unwrap_or(0);
        count("input_tokens") + count("output_tokens")
    };
    let most = calls.len() * 9 / 10;
    let millis = calls[most].at_ms - calls[0].at_ms;
    let charged: u64 = calls[..most].iter().filter(|call| call.status == 200).map(tokens).sum();
    charged as f64 * 100.0 * 60_000.0 / (TOKENS_PER_MINUTE as f64 * millis as f64)
}

/// All completed, none died or was retried for want of quota.
async fn check_jobs(client: &Client, jobs: &[String], may_die: bool) {
    let mut waited = 0;
    for job in join_all(jobs.iter().map(|job| client.finished(job))).await {
        assert_eq!(job["status"], "completed", "{job}");
        let log = client.log(job["id"].as_str().unwrap(), 0).await;
        check_log(&job, &log);
        waited += u32::from(log.iter().any(|event| event.contains("\"reason\":\"quota\"")));
        assert!(!log.iter().any(|event| event.contains("\"reason\":\"retry\"")), "{log:?}");
        let in_doubt = log.iter().any(|event| event.contains("\"in_doubt\":true"));
        assert!(may_die || !in_doubt, "no call was begun twice: {log:?}");
    }
    println!("{waited} jobs were given back for want of quota");
}

async fn check_slots(worker: &Server, slots: u32, since: Instant) {
    let parked = worker.metric("millhand_limiter_parked_in_worker_seconds_sum").await;
    let share = parked / (since.elapsed().as_secs_f64() * f64::from(slots));
    println!(
        "{:.2} % of slot time spent waiting, {} yields",
        share * 100.0,
        worker.metric("millhand_limiter_yields_total").await
    );
    assert!(share < 0.05, "{parked} s of {slots} slots");
    assert_eq!(worker.metric("millhand_limiter_refusals_total").await, 0.0);
}

/// Two kinds of queue, so that pulling is gated on both.
enum Queue {
    Kafka(Kafka),
    RabbitMq(RabbitMq),
}

struct Cluster {
    redis: Redis,
    queue: Queue,
}

impl Cluster {
    async fn on_kafka() -> Self {
        let (redis, kafka) = futures::join!(Redis::start(), Kafka::start());
        Self { redis, queue: Queue::Kafka(kafka) }
    }

    async fn on_rabbitmq() -> Self {
        let (redis, node) = futures::join!(Redis::start(), RabbitMq::start());
        Self { redis, queue: Queue::RabbitMq(node) }
    }

    fn launch(&self, role: &'static str) -> Launch {
        let (kind, url) = match &self.queue {
            Queue::Kafka(kafka) => ("kafka", kafka.servers()),
            Queue::RabbitMq(node) => ("rabbitmq", node.url()),
        };
        Launch::shared(role)
            .env("MILLHAND_BROKER__KIND", kind)
            .env("MILLHAND_BROKER__URL", url)
            .env("MILLHAND_STORE__KIND", "redis")
            .env("MILLHAND_STORE__URL", self.redis.url())
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_use_a_bucket_up_and_never_overdraw_it_though_one_is_killed() {
    let (cluster, provider) = futures::join!(Cluster::on_rabbitmq(), provider(&["--burst-seconds", "5"]));
    let limits = [("BURST_SECONDS", "5")];
    let worker = limited(cluster.launch("worker"), &provider, &limits).arg("--slots").arg("32");
    let api = limited(cluster.launch("api"), &provider, &limits).start().await;
    let (doomed, survivor) = futures::join!(worker.start(), worker.start());
    let started = Instant::now();
    let killing = async {
        sleep(Duration::from_secs(9)).await;
        doomed.kill9().await;
    };
    let (jobs, ()) = futures::join!(submit_all(&api.client), killing);
    check_jobs(&api.client, &jobs, true).await;
    check_ledger(&provider, 32).await;
    check_slots(&survivor, 32, started).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_workers_use_a_window_of_unknown_phase_up() {
    let (cluster, provider) = futures::join!(Cluster::on_kafka(), provider(&["--mode", "window"]));
    let limits = [("MODE", "window")];
    let worker = limited(cluster.launch("worker"), &provider, &limits).arg("--slots").arg("32");
    let api = limited(cluster.launch("api"), &provider, &limits).start().await;
    let (one, _two) = futures::join!(worker.start(), worker.start());
    let started = Instant::now();
    let jobs = submit_all(&api.client).await;
    check_jobs(&api.client, &jobs, false).await;
    check_ledger(&provider, 0).await;
    check_slots(&one, 32, started).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_process_with_everything_embedded_keeps_its_limits_too() {
    let provider = provider(&["--burst-seconds", "2"]).await;
    let dir = tempfile::tempdir().unwrap();
    let launch = limited(Launch::new(&dir.path().join("data")), &provider, &[("BURST_SECONDS", "2")]);
    let server = launch.start().await;
    let started = Instant::now();
    let jobs = submit_all(&server.client).await;
    check_jobs(&server.client, &jobs, false).await;
    check_ledger(&provider, 0).await;
    check_slots(&server, 64, started).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_has_to_wait_for_quota_says_so_and_begins_nothing() {
    let provider = provider(&["--burst-seconds", "60"]).await;
    let dir = tempfile::tempdir().unwrap();
    let launch = limited(Launch::new(&dir.path().join("data")), &provider, &[("BURST_SECONDS", "60")]);
    let server = launch.start().await;
    // A server that starts knows nothing of what was used before: 4,000 tokens take four seconds.
    let asked = json!({"input": "tokens=5", "agent": "chat", "max_output_tokens": 4_000});
    let job = server.client.submit(asked).await;
    let waiting = wait_for("it to wait", async || {
        Some(server.client.job(&job).await).filter(|job| job["wait"]["reason"] == "quota")
    })
    .await;
    assert_eq!(waiting["status"], "queued");
    assert!(waiting["wait"]["expected_start_at"].is_string(), "{waiting}");
    let ended = server.client.finished(&job).await;
    assert_eq!((&ended["status"], &ended["attempt"]), (&json!("completed"), &json!(2)), "{ended}");
    let log = server.client.log(&job, 0).await;
    let kinds: Vec<&str> = log
        .iter()
        .filter_map(|event| event.split("\"type\":\"").nth(1)?.split('"').next())
        .filter(|kind| !kind.starts_with("output_text"))
        .collect();
    let expected = [
        "job.queued",
        "attempt.started",
        "job.waiting",
        "attempt.started",
        "step.started",
        "model.called",
        "usage.updated",
        "step.completed",
        "job.completed",
    ];
    assert_eq!(kinds, expected);
    assert!(!log.iter().any(|event| event.contains("\"in_doubt\":true")), "{log:?}");
    assert_eq!(provider.calls().await.len(), 1);

    let never = json!({"input": "x", "agent": "chat", "max_output_tokens": 70_000});
    let ended = server.client.finished(&server.client.submit(never).await).await;
    assert_eq!(ended["error"]["code"], "model_limit_too_small", "{ended}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_of_the_provider_is_waited_out_in_the_queue() {
    let provider = provider(&["--burst-seconds", "60"]).await;
    provider.faults(json!([{"kind": "rate_limited", "times": 1, "retry_after": 2}])).await;
    let dir = tempfile::tempdir().unwrap();
    let launch = limited(Launch::new(&dir.path().join("data")), &provider, &[("BURST_SECONDS", "60")]);
    let server = launch.start().await;
    let started = Instant::now();
    let asked = json!({"input": "tokens=5", "agent": "chat", "max_output_tokens": 50});
    let ended = server.client.finished(&server.client.submit(asked).await).await;
    assert_eq!(ended["status"], "completed", "{ended}");
    assert!(started.elapsed() >= Duration::from_secs(2), "{:?}", started.elapsed());
    let log = server.client.log(ended["id"].as_str().unwrap(), 0).await;
    assert!(log.iter().any(|event| event.contains("\"reason\":\"quota\"")), "{log:?}");
    assert!(!log.iter().any(|event| event.contains("\"reason\":\"retry\"")), "{log:?}");
    assert_eq!(server.metric("millhand_limiter_refusals_total").await, 1.0);
}

/// C12.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn while_the_store_is_away_no_call_is_made_and_no_job_fails() {
    let (cluster, provider) = futures::join!(Cluster::on_rabbitmq(), provider(&["--burst-seconds", "60"]));
    let limits = [("BURST_SECONDS", "60")];
    let api = limited(cluster.launch("api"), &provider, &limits).start().await;
    let _worker = limited(cluster.launch("worker"), &provider, &limits).start().await;
    let jobs = join_all((0..60).map(|n| api.client.submit(question(n)))).await;
    wait_for("calls", async || (provider.calls().await.len() > 5).then_some(())).await;
    cluster.redis.process().signal(Signal::STOP);
    // Calls that were granted before still go out.
    sleep(Duration::from_millis(500)).await;
    let before = provider.calls().await.len();
    sleep(Duration::from_secs(3)).await;
    assert_eq!(provider.calls().await.len(), before);
    cluster.redis.process().signal(Signal::CONT);
    check_jobs(&api.client, &jobs, true).await;
    let ledger = provider.ledger().await;
    assert_eq!((&ledger["totals"]["limited"], &ledger["limits"][0]["overdrawn"]), (&json!(0), &json!(0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_limit_that_is_halved_live_is_learned() {
    let provider = provider(&["--burst-seconds", "10"]).await;
    let dir = tempfile::tempdir().unwrap();
    let launch = limited(Launch::new(&dir.path().join("data")), &provider, &[("BURST_SECONDS", "10")]);
    let server = launch.start().await;
    let halving = async {
        sleep(Duration::from_secs(6)).await;
        provider.control(json!({"quota": {"tokens_per_minute": TOKENS_PER_MINUTE / 2}})).await;
        sleep(Duration::from_secs(8)).await;
        let limited = provider.ledger().await["totals"]["limited"].clone();
        // So that the test ends in time.
        provider.control(json!({"quota": {"tokens_per_minute": TOKENS_PER_MINUTE}})).await;
        limited
    };
    let (jobs, limited) = futures::join!(submit_all(&server.client), halving);
    check_jobs(&server.client, &jobs, true).await;
    assert!(limited.as_u64().unwrap() <= 2, "{limited} refused");
}

/// As Azure does: headers tell of a minute, and each ten seconds have a sixth of it. Nobody configured it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hidden_slices_of_a_minute_cost_few_refusals_and_little_use() {
    let provider = provider(&["--mode", "slices"]).await;
    let dir = tempfile::tempdir().unwrap();
    let server = limited(Launch::new(&dir.path().join("data")), &provider, &[]).start().await;
    let jobs = submit_all(&server.client).await;
    check_jobs(&server.client, &jobs, true).await;
    let refused = provider.ledger().await["totals"]["limited"].as_u64().unwrap();
    println!("{refused} refused, {:.1} % of the quota used", used(&provider).await);
    assert!(refused <= 3, "{refused} refused");
    assert!(used(&provider).await >= 90.0);
}

/// As most do: the headers give it away.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_that_charges_all_of_max_tokens_at_arrival_is_found_out() {
    let provider = provider(&["--mode", "arrival", "--burst-seconds", "2"]).await;
    let dir = tempfile::tempdir().unwrap();
    let launch = limited(Launch::new(&dir.path().join("data")), &provider, &[("BURST_SECONDS", "2")]);
    let server = launch.start().await;
    let jobs = submit_all(&server.client).await;
    check_jobs(&server.client, &jobs, true).await;
    let ledger = provider.ledger().await;
    let refused = ledger["totals"]["limited"].as_u64().unwrap();
    println!("{refused} refused, {}", ledger["limits"][0]);
    // Without learning 29 to 36; and up to 20 when jobs that wait in line hid that quota was missing.
    assert!(refused <= 3, "{}", ledger["totals"]);
}
