//! Everything that runs.

use std::path::Path;

use anyhow::{Context, ensure};
use millhand_tests::servers::{Kind, RabbitMq, Redis, free_port};
use millhand_tests::{Client, Launch, Provider, Server};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tokio::sync::watch;

/// Jobs that one worker runs at a time: few, so that a day needs eight workers.
const SLOTS: &str = "4";
/// What the supervisor may start.
pub(crate) const MOST: u32 = 8;
/// Calls that the provider lets start per minute.
pub(crate) const LIMIT: u64 = 900;
/// Refill that its bucket holds.
const BURST_SECONDS: &str = "5";

pub(crate) struct Mill {
    pub(crate) provider: Provider,
    rabbitmq: RabbitMq,
    _redis: Redis,
    /// Where each half of the clients goes.
    pub(crate) doors: [watch::Sender<Client>; 2],
    /// Where operators ask.
    pub(crate) desk: watch::Sender<Client>,
    apis: [Option<Server>; 2],
    supervisor: Option<Server>,
    api: Launch,
    scale: Launch,
}

impl Mill {
    /// All of it, on an older binary.
    pub(crate) async fn start(older: &Path) -> anyhow::Result<Self> {
        let limit = LIMIT.to_string();
        let flags = [
            &["--mode", "bucket", "--burst-seconds", BURST_SECONDS, "--requests-per-minute", &limit][..],
            &["--first-token", "300ms", "--per-token", "20ms", "--keep-bodies"],
        ]
        .concat();
        let (provider, redis, rabbitmq) =
            futures::join!(Provider::with(&flags), Redis::start(), RabbitMq::start());
        let launch = |role| {
            Launch::shared(role)
                .cluster(Kind::RabbitMq, &rabbitmq.url(), &redis.url())
                .model(&provider.base_url())
                .env("MILLHAND_MODEL__LIMITS__REQUESTS_PER_MINUTE", &limit)
                .env("MILLHAND_MODEL__LIMITS__BURST_SECONDS", BURST_SECONDS)
        };
        let most = MOST.to_string();
        let api = launch("api");
        let scale =
            ["--min", "1", "--max", &most, "--slots", SLOTS].into_iter().fold(launch("scale"), Launch::arg);
        let urls = [free_port(), free_port()].map(|port| format!("http://127.0.0.1:{port}"));
        let [first, second] = urls.map(|url| (api.clone().of(older).at(&url), Client::new(&url)));
        let apis = [first.0.start().await, second.0.start().await];
        let supervisor = start(&scale.clone().of(older)).await?;
        let desk = watch::Sender::new(apis[0].operator());
        Ok(Self {
            provider,
            rabbitmq,
            _redis: redis,
            doors: [first.1, second.1].map(watch::Sender::new),
            desk,
            apis: apis.map(Some),
            supervisor: Some(supervisor),
            api,
            scale,
        })
    }

    /// Kills one of the supervisor's workers, as a power cut would.
    pub(crate) fn kill_a_worker(&self) -> anyhow::Result<()> {
        let supervisor = self.supervisor.as_ref().context("it runs")?.pid();
        let threads = std::fs::read_dir(format!("/proc/{supervisor}/task"))?;
        // A child is told under the thread that started it.
        let of_threads =
            threads.filter_map(|thread| std::fs::read_to_string(thread.ok()?.path().join("children")).ok());
        let all = of_threads.collect::<String>();
        let victim = all.split_whitespace().next().context("the supervisor has no worker")?;
        let victim = Pid::from_raw(victim.parse()?).context("a process id")?;
        Ok(kill_process(victim, Signal::KILL)?)
    }

    /// The broker is gone at once, and comes back.
    pub(crate) async fn restart_the_broker(&mut self) {
        self.rabbitmq.restart().await;
    }

    pub(crate) async fn limit(&self, requests_per_minute: u64) {
        self.provider.control(json!({"quota": {"requests_per_minute": requests_per_minute}})).await;
    }

    /// This binary takes the place of the older one: each ingress after the other, then the workers. New work goes
    /// where an ingress is, as a balancer sends it.
    pub(crate) async fn deploy(&mut self) -> anyhow::Result<()> {
        let doors = [0, 1].map(|door: usize| self.doors[door].borrow().clone());
        for door in [0, 1] {
            let other = &doors[1 - door];
            self.doors[door].send_replace(other.clone());
            if let Some(left) = &self.apis[1 - door] {
                self.desk.send_replace(left.operator());
            }
            let old = self.apis[door].take().context("it runs")?;
            ends_well(old).await?;
            let new = self.api.clone().at(&doors[door].url).start().await;
            self.desk.send_replace(new.operator());
            self.apis[door] = Some(new);
            self.doors[door].send_replace(doors[door].clone());
        }
        let old = self.supervisor.take().context("it runs")?;
        self.supervisor = Some(start(&self.scale).await?);
        ends_well(old).await
    }

    /// Everything of ours stops, and well.
    pub(crate) async fn stop(mut self) -> anyhow::Result<()> {
        for server in self
            .supervisor
            .take()
            .into_iter()
            .chain(self.apis.each_mut().into_iter().filter_map(Option::take))
        {
            ends_well(server).await?;
        }
        Ok(())
    }
}

async fn start(launch: &Launch) -> anyhow::Result<Server> {
    let started = launch.try_start().await;
    started.map_err(|(status, said)| anyhow::anyhow!("it ended with {status} before it was ready:\n{said}"))
}

async fn ends_well(server: Server) -> anyhow::Result<()> {
    let (status, log) = server.sigterm().await;
    ensure!(status.success(), "a process ended with {status}:\n{log}");
    Ok(())
}
