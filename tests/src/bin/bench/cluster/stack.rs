//! Everything that runs: servers, model, one ingress, workers.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use futures::future::join_all;
use millhand_tests::servers::{Kind, Queue, Redis};
use millhand_tests::{Launch, Server};

use crate::peer::Peer;

/// A cluster whose workers come when they are asked for.
pub(super) struct Stack {
    pub(super) redis: Redis,
    pub(super) queue: Queue,
    pub(super) provider: Peer,
    pub(super) api: Server,
    pub(super) workers: Vec<Server>,
    worker: Launch,
}

impl Stack {
    pub(super) async fn start(kind: Kind) -> anyhow::Result<Self> {
        let provider = Peer::start(&["provider"]).await?;
        let (redis, queue) = futures::join!(Redis::start(), Queue::start(kind));
        let launch = |role| {
            Launch::shared(role)
                .cluster(kind, &queue.url(), &redis.url())
                .model(&format!("http://{}/v1", provider.address))
        };
        let (api, worker) = (launch("api").start().await, launch("worker"));
        Ok(Self { redis, queue, provider, api, workers: Vec::new(), worker })
    }

    /// The broker's name.
    pub(super) fn name(&self) -> &'static str {
        self.queue.kind().as_str()
    }

    pub(super) fn api_address(&self) -> anyhow::Result<SocketAddr> {
        self.api.url.trim_start_matches("http://").parse().context("an address")
    }

    /// Starts workers until there are so many.
    pub(super) async fn work(&mut self, workers: usize) {
        while self.workers.len() < workers {
            self.workers.push(self.worker.start().await);
        }
    }

    /// Starts so many more at once and kills them; how long each took to be ready.
    pub(super) async fn starting(&self, workers: usize) -> Vec<Duration> {
        let starts = (0..workers).map(|_| async {
            let began = Instant::now();
            let worker = self.worker.start().await;
            (worker, began.elapsed())
        });
        let mut took = Vec::new();
        for (worker, ready) in join_all(starts).await {
            worker.kill9().await;
            took.push(ready);
        }
        took
    }

    /// Kills one worker, as a power cut would.
    pub(super) async fn kill(&mut self, worker: usize) {
        self.workers.remove(worker).kill9().await;
    }

    /// Waits until nobody goes without anything for the load that was: text in larger pieces comes later.
    pub(super) async fn calm(&self) -> anyhow::Result<()> {
        let started = Instant::now();
        for server in self.workers.iter().chain([&self.api]) {
            while server.metric("millhand_brownout_level").await > 0.0 {
                ensure!(started.elapsed() < Duration::from_secs(120), "the brownout does not end");
                tokio::time::sleep(Duration::from_millis(500)).await;
            }
        }
        Ok(())
    }

    /// Jobs that the workers have answered since they started.
    pub(super) async fn completed(&self) -> f64 {
        let mut sum = 0.0;
        for worker in &self.workers {
            let text = worker.metrics().await;
            let ended = text
                .lines()
                .filter(|line| line.starts_with("millhand_store_jobs_terminal_total{status=\"completed\"}"));
            sum += ended.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum::<f64>();
        }
        sum
    }

    /// Waits until so many jobs were answered; how many that were since the first answer was seen, and in how
    /// many seconds.
    pub(super) async fn drained(&self, jobs: usize) -> anyhow::Result<(f64, f64)> {
        let started = Instant::now();
        let mut first = None;
        loop {
            let done = self.completed().await;
            if done > 0.0 {
                let (begun, at) = *first.get_or_insert((done, Instant::now()));
                if done >= jobs as f64 {
                    return Ok((done - begun, at.elapsed().as_secs_f64()));
                }
            }
            ensure!(started.elapsed() < Duration::from_secs(180), "{done} of {jobs} jobs were answered");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}
