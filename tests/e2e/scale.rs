//! The supervisor: as many workers as there is use for, on real servers, and nothing lost on the way.

use std::time::Duration;

use futures::future::join_all;
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use serde_json::{Value, json};
use tokio::time::Instant;

use millhand_tests::log::check_log;
use millhand_tests::servers::{Kind, RabbitMq, Redis};
use millhand_tests::{Client, Launch, Provider, Server, wait_for};

/// Servers and a model, and what runs on them.
struct Site {
    redis: Redis,
    rabbitmq: RabbitMq,
    provider: Provider,
}

impl Site {
    /// A call takes about so long.
    async fn start(per_call: Duration) -> Self {
        let first = format!("{}ms", per_call.as_millis());
        let flags = ["--first-token", &first, "--per-token", "2ms"];
        let (redis, rabbitmq, provider) =
            futures::join!(Redis::start(), RabbitMq::start(), Provider::with(&flags));
        Self { redis, rabbitmq, provider }
    }

    fn launch(&self, role: &'static str) -> Launch {
        Launch::shared(role)
            .cluster(Kind::RabbitMq, &self.rabbitmq.url(), &self.redis.url())
            .model(&self.provider.base_url())
    }

    async fn scale(&self, bounds: [&str; 3]) -> Server {
        let [min, max, slots] = bounds;
        let launch = ["--min", min, "--max", max, "--slots", slots]
            .iter()
            .fold(self.launch("scale"), |launch, arg| launch.arg(arg));
        launch.start().await
    }
}

async fn submit(client: &Client, jobs: u32) -> Vec<String> {
    let question = |n| json!({"input": format!("问{n} tokens=20"), "agent": "chat", "deadline_seconds": 300});
    join_all((0..jobs).map(|n| client.submit(question(n)))).await
}

/// All answered, each log whole; the jobs.
async fn answered(client: &Client, jobs: &[String]) -> Vec<Value> {
    let ended = join_all(jobs.iter().map(|job| client.finished(job))).await;
    for job in &ended {
        assert_eq!(job["status"], "completed", "{job}");
        check_log(job, &client.log(job["id"].as_str().unwrap(), 0).await);
    }
    ended
}

/// Waits until the supervisor has this many workers, and none that drains.
async fn has_workers(scale: &Server, count: u32) {
    wait_for(&format!("{count} workers"), async || {
        let metrics = scale.metrics().await;
        let is = |state: &str, count: u32| {
            metrics.contains(&format!("millhand_scale_workers{{state=\"{state}\"}} {count}\n"))
        };
        (is("up", count) && is("draining", 0) && is("waiting", 0)).then_some(())
    })
    .await;
}

/// Waits until so many workers say that they live.
async fn shows_workers(server: &Server, count: usize) {
    wait_for("workers that live", async || {
        let workers = server.operator().get("/v1/workers").await.json();
        (workers["data"].as_array().unwrap().len() == count).then_some(())
    })
    .await;
}

/// Of every worker that was ever started.
fn pids(scale: &Server) -> Vec<Pid> {
    let lines = scale.logged();
    let started = lines.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    started
        .filter(|line| line["message"] == "a worker is started")
        .filter_map(|line| Pid::from_raw(i32::try_from(line["pid"].as_i64()?).ok()?))
        .collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn workers_follow_a_burst_up_and_down_a_killed_one_is_replaced_and_nothing_is_lost() {
    let site = Site::start(Duration::from_secs(1)).await;
    let api = site.launch("api").start().await;
    let scale = site.scale(["1", "4", "2"]).await;
    has_workers(&scale, 1).await;
    let jobs = submit(&api.client, 60).await;
    has_workers(&scale, 4).await;

    kill_process(pids(&scale)[1], Signal::KILL).unwrap();
    wait_for("the loss to be seen", async || {
        (scale.metric("millhand_scale_crashes_total").await == 1.0).then_some(())
    })
    .await;
    has_workers(&scale, 4).await;
    assert_eq!(scale.metric("millhand_scale_starts_total").await, 5.0);

    answered(&api.client, &jobs).await;
    let empty = Instant::now();
    has_workers(&scale, 1).await;
    println!("back at one worker {:.1} s after the last answer", empty.elapsed().as_secs_f64());
    assert_eq!(scale.metric("millhand_scale_crashes_total").await, 1.0, "the drained ones ended well");
    // Those that ended are shown until their word that they live runs out.
    shows_workers(&api, 1).await;
    println!("{}", scale.printed());

    let (status, log) = scale.sigterm().await;
    assert!(status.success(), "{log}");
    shows_workers(&api, 0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_supervisor_that_dies_leaves_no_worker_behind_and_breaks_no_attempt() {
    let site = Site::start(Duration::from_secs(2)).await;
    let api = site.launch("api").start().await;
    let scale = site.scale(["2", "2", "2"]).await;
    has_workers(&scale, 2).await;
    let jobs = submit(&api.client, 8).await;
    wait_for("both workers to be full", async || {
        let queues = api.operator().get("/v1/queues").await.json();
        (queues["data"][0]["running"] == 4).then_some(())
    })
    .await;
    let workers = pids(&scale);
    scale.kill9().await;
    wait_for("its workers to end", async || {
        workers.iter().all(|pid| test_kill_process(*pid).is_err()).then_some(())
    })
    .await;
    let queues = api.operator().get("/v1/queues").await.json();
    let lane = &queues["data"][0];
    assert!(lane["running"] == 0 && lane["ended"].as_u64() >= Some(4), "what ran was finished: {queues}");

    // From nothing: there is no worker until one is needed, and none when it is not.
    let scale = site.scale(["0", "1", "2"]).await;
    let ended = answered(&api.client, &jobs).await;
    assert!(ended.iter().all(|job| job["attempt"] == 1), "{ended:?}");
    has_workers(&scale, 0).await;
    let started = Instant::now();
    let job = submit(&api.client, 1).await;
    wait_for("a worker", async || (scale.metric("millhand_scale_starts_total").await == 2.0).then_some(()))
        .await;
    println!("a first worker {:.0} ms after the first job", started.elapsed().as_secs_f64() * 1000.0);
    answered(&api.client, &job).await;
}
