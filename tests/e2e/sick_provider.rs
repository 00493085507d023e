//! A provider that is down, refuses everything or answers nonsense for a while: jobs are accepted all the same,
//! hardly a call is made that does not answer one, and afterwards everything ends well.

use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};

use millhand_common::model::Timestamp;
use millhand_tests::log::check_log;
use millhand_tests::servers::{Kind, RabbitMq, Redis};
use millhand_tests::{Launch, Provider, Server, wait_for};

/// Calls made for each job, at most: what a sick provider costs beside the one call that answers.
const AMPLIFICATION: f64 = 1.1;
/// Submitted at a time, as a client does that waits for its answers.
const AT_ONCE: usize = 25;

struct Fleet {
    _redis: Redis,
    _rabbit: RabbitMq,
    model: Provider,
    api: Server,
    worker: Server,
}

impl Fleet {
    /// `more`: configuration of the worker.
    async fn start(more: &[(&str, &str)]) -> Self {
        let (redis, rabbit) = futures::join!(Redis::start(), RabbitMq::start());
        let model = Provider::with(&["--first-token", "5ms", "--per-token", "0ms"]).await;
        let launch = |role| {
            let launch = Launch::shared(role).cluster(Kind::RabbitMq, &rabbit.url(), &redis.url());
            let launch = launch.model(&model.base_url());
            more.iter().fold(launch, |launch, (key, value)| launch.env(key, *value))
        };
        let worker = launch("worker")
            .arg("--slots")
            .arg("16")
            .env("MILLHAND_MODEL__FIRST_TOKEN_TIMEOUT", "1s")
            .env("MILLHAND_MODEL__IDLE_TIMEOUT", "1s");
        let (api, worker) = (launch("api").start().await, worker.start().await);
        Self { _redis: redis, _rabbit: rabbit, model, api, worker }
    }

    /// Every one of them has to be accepted.
    async fn submit(&self, name: &str, jobs: usize) -> Vec<String> {
        let mut ids = Vec::new();
        while ids.len() < jobs {
            let next = ids.len()..jobs.min(ids.len() + AT_ONCE);
            let submit = async |n| self.api.client.chat(&format!("{name}{n} tokens=6")).await;
            ids.extend(join_all(next.map(submit)).await);
        }
        ids
    }

    /// The jobs once they are over, each by its deadline.
    async fn ended(&self, ids: &[String]) -> Vec<Value> {
        let mut jobs = Vec::new();
        for ids in ids.chunks(AT_ONCE) {
            jobs.extend(join_all(ids.iter().map(|id| self.api.client.finished(id))).await);
        }
        for job in &jobs {
            let at =
                |key: &str| Timestamp::try_from(job[key].as_str().unwrap().to_owned()).unwrap().as_millis();
            assert!(at("finished_at") <= at("expires_at") + 2000, "{job}");
        }
        jobs
    }

    async fn calls(&self) -> usize {
        self.model.calls().await.len()
    }

    /// Goes wrong like this until the pool is left alone and one call has found out that it still is; then it is
    /// well again. Meanwhile `jobs` are submitted. All end; answers calls per job.
    async fn outage(&self, name: &str, faults: Value, jobs: usize) -> f64 {
        let before = self.calls().await;
        self.model.faults(faults).await;
        let ids = self.submit(name, jobs).await;
        wait_for("the pool to be left alone", || async {
            (self.worker.metric("millhand_model_breaker_state").await > 0.0).then_some(())
        })
        .await;
        let left_alone = wait_for("calls that were under way to end", || async {
            let calls = self.model.calls().await;
            calls.iter().all(|call| call.entry["ended"] != "running").then_some(calls.len())
        })
        .await;
        wait_for("a probe", || async { (left_alone < self.calls().await).then_some(()) }).await;
        self.model.faults(json!([])).await;
        let ended = self.ended(&ids).await;
        let failed: Vec<_> = ended.iter().filter(|job| job["status"] != "completed").collect();
        let made = self.calls().await - before;
        let calls = made as f64 / jobs as f64;
        println!("{name}: {made} calls for {jobs} jobs, {calls:.3} each, {} failed", failed.len());
        // One that has made its four attempts before enough of all calls had gone wrong is not saved.
        assert!(failed.len() <= jobs / 50, "{} of {jobs}, {:?}", failed.len(), failed[0]);
        assert!(failed.iter().all(|job| job["error"]["retryable"] == true), "{failed:?}");
        calls
    }

    /// Answers the calls made by then.
    async fn all_complete(&self, ids: &[String]) -> usize {
        let jobs = self.ended(ids).await;
        let failed: Vec<_> = jobs.iter().filter(|job| job["status"] != "completed").collect();
        assert!(failed.is_empty(), "{} of {}, {:?}", failed.len(), jobs.len(), failed[0]);
        let record = &jobs[0];
        check_log(record, &self.api.client.log(record["id"].as_str().unwrap(), 0).await);
        self.calls().await
    }

    /// New jobs are answered, with one call each and without waiting for what was.
    async fn is_well(&self) {
        let before = self.calls().await;
        let ids = self.submit("well", AT_ONCE).await;
        assert_eq!(self.all_complete(&ids).await - before, ids.len());
        assert!(self.worker.metric("millhand_model_breaker_state").await < 0.1);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_outage_costs_hardly_a_call_and_hardly_a_job() {
    let fleet = Fleet::start(&[]).await;
    let down = json!([{"kind": "error", "status": 500}]);
    let calls = fleet.outage("down", down, 600).await;
    assert!(calls <= AMPLIFICATION, "{calls}");
    fleet.is_well().await;
    // Answers that stop, drip on for ever, or are no answers, in turn.
    let nonsense = json!([
        {"kind": "stall", "after": 3, "p": 0.34},
        {"kind": "drip", "after": 3, "every": 0.05, "p": 0.5},
        {"kind": "long_line", "after": 3},
    ]);
    let calls = fleet.outage("nonsense", nonsense, 600).await;
    assert!(calls <= AMPLIFICATION, "{calls}");
    fleet.is_well().await;
}

/// Who is told to wait waits, and so do all others of the pool: a storm costs one round of calls each time that
/// its wait is over.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_rate_limits_costs_hardly_a_call_and_no_job() {
    const JOBS: usize = 600;
    let fleet = Fleet::start(&[("MILLHAND_MODEL__LIMITS__REQUESTS_PER_MINUTE", "30000")]).await;
    fleet.model.faults(json!([{"kind": "rate_limited", "retry_after": 2}])).await;
    let ids = fleet.submit("storm", JOBS).await;
    wait_for("the storm to last four seconds", || async {
        let calls = fleet.model.calls().await;
        let (first, last) = (calls.first()?, calls.last()?);
        (first.at_ms + 4000 < last.at_ms).then_some(())
    })
    .await;
    fleet.model.faults(json!([])).await;
    let made = fleet.all_complete(&ids).await;
    let calls = made as f64 / JOBS as f64;
    println!("storm: {made} calls for {JOBS} jobs, {calls:.3} each");
    assert!(calls <= AMPLIFICATION, "{calls}");
    fleet.is_well().await;
}

/// A provider with too much to do is asked less at a time.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provider_with_too_much_to_do_gets_fewer_calls_at_a_time() {
    const SLOTS: usize = 20;
    let dir = tempfile::tempdir().unwrap();
    let model = Provider::with(&["--first-token", "400ms", "--per-token", "0ms"]).await;
    let launch = Launch::new(dir.path()).model(&model.base_url()).arg("--slots").arg(&SLOTS.to_string());
    let server = launch.start().await;
    model.faults(json!([{"kind": "error", "status": 529, "times": 5}])).await;
    let ids =
        join_all((0..3 * SLOTS).map(async |n| server.client.chat(&format!("w{n} tokens=2")).await)).await;
    for job in join_all(ids.iter().map(|id| server.client.finished(id))).await {
        assert_eq!(job["status"], "completed", "{job}");
    }
    let calls = model.calls().await;
    assert_eq!(calls.len(), 3 * SLOTS + 5);
    let span = |call: &millhand_tests::provider::Call| {
        let took = call.entry["took_ms"].as_u64().unwrap();
        Duration::from_millis(call.at_ms)..Duration::from_millis(call.at_ms + took)
    };
    let refused = calls.iter().filter(|call| call.status == 529).map(|call| span(call).end).max().unwrap();
    // Those that were let in before it are over by then.
    let later = refused + Duration::from_millis(600);
    let mut most = 0;
    for begun in calls.iter().map(|call| span(call).start).filter(|begun| later < *begun) {
        let running = calls.iter().filter(|call| span(call).contains(&begun)).count();
        let allowed = 0.7 * SLOTS as f64 + (begun - refused).as_secs_f64() + 1.0;
        assert!(running as f64 <= allowed, "{running} of {allowed:.1} at {begun:?}");
        most = most.max(running);
    }
    println!("at most {most} of {SLOTS} calls at a time after the pool had too much to do");
    assert!(most > 1, "it goes on");
    assert!(server.metrics().await.contains("millhand_model_width_calls"));
}
