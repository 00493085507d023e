//! The product: one ingress, a real RabbitMQ, a real Redis, eight workers.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use futures::future::join_all;
use millhand_tests::servers::{Kind, Queue, Redis};
use millhand_tests::{Client, Launch, Provider, Server};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use super::calls::{self, Reading};
use super::load::{self, Job, MAX_OUTPUT_TOKENS, OVERLOAD, Start};
use super::mode::{Mode, TOKENS_PER_MINUTE};
use super::outcome::{Outcome, Run};
use super::{SLOTS, WORKERS};

const PARKED: &str = "millhand_limiter_parked_in_worker_seconds_sum";
/// Submits under way at a time: an ingress that is this far behind cannot keep up.
const SUBMITTING: usize = 256;

pub(super) struct Product {
    pub(super) provider: Provider,
    pub(super) api: Server,
    pub(super) workers: Vec<Server>,
    launch: Launch,
    pub(super) redis: Redis,
    _queue: Queue,
}

impl Product {
    pub(super) async fn start(mode: Mode) -> Self {
        let flags = mode.provider_flags();
        let flags: Vec<&str> = flags.iter().map(String::as_str).collect();
        let (provider, redis, queue) =
            futures::join!(Provider::with(&flags), Redis::start(), Queue::start(Kind::RabbitMq));
        let launch = |role| {
            let limits = Launch::shared(role)
                .cluster(Kind::RabbitMq, &queue.url(), &redis.url())
                .model(&provider.base_url())
                .env("MILLHAND_MODEL__LIMITS__TOKENS_PER_MINUTE", TOKENS_PER_MINUTE.to_string());
            mode.configured().into_iter().fold(limits, |launch, (key, value)| {
                launch.env(&format!("MILLHAND_MODEL__LIMITS__{key}"), value)
            })
        };
        let api = launch("api").start().await;
        let launch = launch("worker").arg("--slots").arg(&SLOTS.to_string());
        let mut product = Self { provider, api, workers: Vec::new(), launch, redis, _queue: queue };
        product.work(WORKERS).await;
        product
    }

    /// Starts workers until there are so many. All have one key: the quota of a key is one pool.
    pub(super) async fn work(&mut self, workers: usize) {
        let missing = workers.saturating_sub(self.workers.len());
        let started = join_all((0..missing).map(|_| self.launch.start())).await;
        self.workers.extend(started);
    }

    /// Seconds that slots have held jobs that waited for quota.
    async fn parked(&self) -> f64 {
        join_all(self.workers.iter().map(|worker| worker.metric(PARKED))).await.into_iter().sum()
    }
}

/// Submits each job when it is due, as the tenant of a key; answers their ids, in order.
pub(super) async fn submit(
    client: &Client,
    key: Option<&str>,
    jobs: &[Job],
    start: Start,
) -> anyhow::Result<Vec<String>> {
    let (mut submitting, mut ids) = (JoinSet::new(), vec![String::new(); jobs.len()]);
    for job in jobs.iter().copied() {
        while submitting.len() >= SUBMITTING {
            store(&mut ids, submitting.join_next().await.context("one is under way")??)?;
        }
        sleep_until(start.at + job.due).await;
        let (client, key) = (client.clone(), key.map(str::to_owned));
        submitting.spawn(async move {
            let body = json!({"input": job.question(), "agent": "chat", "max_output_tokens": MAX_OUTPUT_TOKENS,
                "deadline_seconds": 3600});
            let request = client.request("POST", "/v1/jobs").header("traceparent", job.traceparent());
            let request = match key {
                Some(key) => request.bearer_auth(key),
                None => request,
            };
            let answer = client.send(request.json(&body)).await?;
            ensure!(answer.status == 202, "a job was refused: {}", answer.text);
            anyhow::Ok((job.n, answer.json()["id"].as_str().context("an id")?.to_owned()))
        });
    }
    while let Some(ended) = submitting.join_next().await {
        store(&mut ids, ended?)?;
    }
    Ok(ids)
}

fn store(ids: &mut [String], submitted: anyhow::Result<(u32, String)>) -> anyhow::Result<()> {
    let (n, id) = submitted?;
    let Some(place) = ids.get_mut(n as usize) else { bail!("job {n} was never due") };
    *place = id;
    Ok(())
}

pub(super) async fn measure(mode: Mode, warm_up: Duration, measured: Duration) -> anyhow::Result<Outcome> {
    let product = Product::start(mode).await;
    let jobs = load::jobs(mode.allowed() * OVERLOAD, warm_up + measured);
    let start = Start::now();
    let measuring = async {
        let at = async |after| {
            sleep_until(start.at + after).await;
            anyhow::Ok((Reading::of(&product.provider).await?, product.parked().await, Instant::now()))
        };
        anyhow::Ok([at(warm_up).await?, at(warm_up + measured).await?])
    };
    let (_, [from, to]) = futures::try_join!(submit(&product.api.client, None, &jobs, start), measuring)?;
    let calls = calls::all(&product.provider).await?;
    Ok(Outcome::of(&Run {
        jobs: &jobs,
        start,
        calls: &calls,
        readings: [from.0, to.0],
        waited: to.1 - from.1,
        slots: (to.2 - from.2).as_secs_f64() * (WORKERS * SLOTS) as f64,
        given_up: 0,
    }))
}
