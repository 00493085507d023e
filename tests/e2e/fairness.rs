//! One tenant cannot hold up another, whatever spreads the work; and no lane starves.

use futures::future::{join_all, try_join_all};
use millhand_tests::client::Answer;
use millhand_tests::servers::{Kind, Queue, Redis};
use millhand_tests::{Client, Launch, Provider, wait_for};
use serde_json::json;

use crate::credentials::{becomes, keys};

/// Jobs of the noisy tenant, far more than run while the quiet one's do.
const BACKLOG: usize = 600;
const QUIET: usize = 8;
const SLOTS: &str = "4";

/// A tenant that sends its key with all it asks.
struct Tenant<'a> {
    client: &'a Client,
    key: String,
}

impl Tenant<'_> {
    async fn ask(&self, method: &str, path: &str) -> Answer {
        self.client.send(self.client.request(method, path).bearer_auth(&self.key)).await.unwrap()
    }

    async fn submit(&self, lane: &str) -> String {
        let body =
            json!({"input": "hello tokens=3 gap=5", "agent": "chat", "lane": lane, "deadline_seconds": 3600});
        let request = self.client.request("POST", "/v1/jobs").bearer_auth(&self.key).json(&body);
        let answer = self.client.send(request).await.unwrap();
        assert_eq!(answer.status, 202, "{}", answer.text);
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    async fn completed(&self, job: &str) {
        let ended = wait_for("the job to end", || async {
            let answer = self.ask("GET", &format!("/v1/jobs/{job}?wait=5")).await.json();
            ["completed", "failed", "expired"].contains(&answer["status"].as_str()?).then_some(answer)
        })
        .await;
        assert_eq!(ended["status"], "completed", "{ended}");
    }

    async fn has_a_backlog(&self) -> bool {
        let page = self.ask("GET", "/v1/jobs?status=queued&limit=100").await;
        page.json()["data"].as_array().unwrap().len() == 100
    }
}

/// The quiet tenant's jobs, and the batch job of the noisy one, complete while its backlog stands.
async fn nobody_waits_for_a_backlog(noisy: &Tenant<'_>, quiet: &Tenant<'_>) {
    let of_noisy = (0..BACKLOG / 20).map(|_| async {
        for _ in 0..20 {
            noisy.submit("interactive").await;
        }
    });
    join_all(of_noisy).await;
    for n in 0..QUIET {
        let job = quiet.submit("interactive").await;
        quiet.completed(&job).await;
        assert!(noisy.has_a_backlog().await, "quiet job {n} came before a backlog of {BACKLOG} ended");
    }
    let job = quiet.submit("batch").await;
    quiet.completed(&job).await;
    assert!(noisy.has_a_backlog().await, "the batch lane has its share");
}

async fn model() -> Provider {
    Provider::with(&["--first-token", "60ms", "--per-token", "0ms"]).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_with_a_backlog_delays_nobody_in_one_process() {
    let (dir, model) = (tempfile::tempdir().unwrap(), model().await);
    let server = Launch::new(dir.path()).model(&model.base_url()).arg("--slots").arg(SLOTS).start().await;
    let data = ["--data", dir.path().to_str().unwrap()];
    let [noisy, quiet] = tenants(&server.client, &data, &[]).await;
    nobody_waits_for_a_backlog(&noisy, &quiet).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_with_a_backlog_delays_nobody_on_rabbitmq() {
    on(Kind::RabbitMq).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_with_a_backlog_delays_nobody_on_kafka() {
    on(Kind::Kafka).await;
}

async fn on(kind: Kind) {
    let (model, redis, queue) = futures::join!(model(), Redis::start(), Queue::start(kind));
    let launch =
        |role| Launch::shared(role).cluster(kind, &queue.url(), &redis.url()).model(&model.base_url());
    let (api, worker) = (launch("api"), launch("worker").arg("--slots").arg(SLOTS));
    let (api, _worker) = futures::join!(api.start(), worker.start());
    let url = redis.url();
    let env = [("MILLHAND_STORE__KIND", "redis"), ("MILLHAND_STORE__URL", url.as_str())];
    let [noisy, quiet] = tenants(&api.client, &[], &env).await;
    nobody_waits_for_a_backlog(&noisy, &quiet).await;
}

async fn tenants<'a>(client: &'a Client, place: &[&str], env: &[(&str, &str)]) -> [Tenant<'a>; 2] {
    let made = ["noisy", "quiet"].map(|name| async move {
        let args: Vec<&str> = ["create", "--tenant", name].into_iter().chain(place.iter().copied()).collect();
        let key = keys(&args, env).await["key"].as_str().unwrap().to_owned();
        // While no key is known everybody is one tenant.
        becomes(client, "mh_none", "/v1/jobs", 401).await;
        becomes(client, &key, "/v1/jobs", 200).await;
        Ok::<_, std::convert::Infallible>(Tenant { client, key })
    });
    try_join_all(made).await.unwrap().try_into().ok().unwrap()
}

/// The cap of a tenant holds over all workers, is said in the job, and is no obstacle to others.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_runs_as_many_jobs_as_it_may() {
    let (dir, model) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let launch = Launch::new(dir.path()).model(&model.base_url());
    let patient = launch.env("MILLHAND_MODEL__FIRST_TOKEN_TIMEOUT", "1h");
    let server = patient.env("MILLHAND_TENANTS__NOISY__MAX_RUNNING", "1").start().await;
    let data = ["--data", dir.path().to_str().unwrap()];
    let [noisy, quiet] = tenants(&server.client, &data, &[]).await;
    model.control(json!({"physics": {"first_token": "1h"}})).await;
    let mut jobs = Vec::new();
    for _ in 0..3 {
        jobs.push(noisy.submit("interactive").await);
    }
    let of = async |status: &str| {
        let page = noisy.ask("GET", &format!("/v1/jobs?status={status}")).await.json();
        page["data"].as_array().unwrap().clone()
    };
    let waiting = wait_for("two of three to wait", || async {
        let queued = of("queued").await;
        (queued.len() == 2 && queued.iter().all(|job| job["wait"]["reason"] == "tenant")).then_some(queued)
    })
    .await;
    assert_eq!(of("in_progress").await.len(), 1, "{waiting:?}");
    model.control(json!({"physics": {"first_token": "0ms"}})).await;
    let other = quiet.submit("interactive").await;
    quiet.completed(&other).await;
    assert_eq!(of("queued").await.len(), 2, "the cap still holds");
    let running = of("in_progress").await[0]["id"].as_str().unwrap().to_owned();
    noisy.ask("POST", &format!("/v1/jobs/{running}/cancel")).await;
    for job in jobs.iter().filter(|job| **job != running) {
        noisy.completed(job).await;
    }
}
