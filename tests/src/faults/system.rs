//! The system under test: real servers, two ingresses, three workers, and a proxy on every link of theirs.

use rustix::process::Signal;

use super::proxy::{Mode, Proxy};
use crate::servers::{Kind, Queue, Redis, free_port};
use crate::{Client, Launch, Provider, Server, wait_for};

/// Slots of each worker: few enough that hints queue up.
const SLOTS: u32 = 3;

/// One process of the product and its links.
pub(super) struct Node {
    launch: Launch,
    server: Option<Server>,
    pub(super) store: Proxy,
    /// Kafka tells its clients where it is, so nothing can stand between.
    pub(super) broker: Option<Proxy>,
}

impl Node {
    pub(super) fn server(&self) -> &Server {
        self.server.as_ref().expect("it runs")
    }

    pub(super) async fn kill9(&mut self) {
        if let Some(server) = self.server.take() {
            server.kill9().await;
        }
    }

    /// Asks it to stop, and waits until it has.
    pub(super) async fn sigterm(&mut self) {
        let Some(server) = self.server.take() else { return };
        let (status, log) = server.sigterm().await;
        assert_eq!(status.code(), Some(0), "a drained process ends well:\n{log}");
    }

    /// Until every slot of this worker runs a job: a fault that comes a moment later meets some of them.
    pub(super) async fn has_its_hands_full(&self) {
        wait_for("a worker to have its hands full", || async {
            let running = self.server().metric("millhand_worker_running_jobs").await;
            (f64::from(SLOTS) <= running).then_some(())
        })
        .await;
    }

    pub(super) fn signal(&self, signal: Signal) {
        self.server().signal(signal);
    }

    pub(super) async fn restart(&mut self) {
        self.kill9().await;
        self.server = Some(self.launch.start().await);
    }
}

/// Everything that runs.
pub struct System {
    pub(super) redis: Redis,
    pub(super) queue: Queue,
    pub(super) model: Provider,
    pub(super) apis: Vec<Node>,
    pub(super) workers: Vec<Node>,
    /// Where clients find the ingresses, whichever of them run.
    pub(super) clients: Vec<Client>,
}

impl System {
    /// Starts all of it.
    pub async fn start(kind: Kind) -> Self {
        let (redis, queue, model) = futures::join!(Redis::start(), Queue::start(kind), Provider::start());
        let mut system =
            Self { redis, queue, model, apis: Vec::new(), workers: Vec::new(), clients: Vec::new() };
        for _ in 0..2 {
            let url = format!("http://127.0.0.1:{}", free_port());
            let node = system.node(Launch::shared("api").at(&url)).await;
            system.clients.push(Client::new(&url));
            system.apis.push(node);
        }
        for _ in 0..3 {
            let node = system.node(Launch::shared("worker").arg("--slots").arg(&SLOTS.to_string())).await;
            system.workers.push(node);
        }
        system
    }

    async fn node(&self, launch: Launch) -> Node {
        let store = Proxy::start(&format!("127.0.0.1:{}", self.redis.port())).await;
        let (url, broker) = match &self.queue {
            Queue::RabbitMq(node) => {
                let url = node.url();
                let (_, server) = url.rsplit_once('@').expect("the address follows the user");
                let proxy = Proxy::start(server).await;
                (url.replace(server, &proxy.address()), Some(proxy))
            }
            Queue::Kafka(kafka) => (kafka.servers(), None),
        };
        let launch = launch
            .cluster(self.queue.kind(), &url, &format!("redis://{}", store.address()))
            .model(&self.model.base_url());
        let server = Some(launch.start().await);
        Node { launch, server, store, broker }
    }

    /// Whatever a fault left behind is whole again: every process runs and every link passes.
    pub(super) async fn heal(&mut self) {
        for node in self.apis.iter_mut().chain(&mut self.workers) {
            for proxy in std::iter::once(&node.store).chain(&node.broker) {
                proxy.lose_one_in(0);
                proxy.set(Mode::Pass);
            }
            if node.server.is_none() {
                node.restart().await;
            }
        }
    }

    /// The sum of a metric over the workers that run.
    pub(super) async fn worked(&self, metric: &str) -> f64 {
        let mut sum = 0.0;
        for node in &self.workers {
            if let Some(server) = &node.server {
                sum += server.metric(metric).await;
            }
        }
        sum
    }
}
