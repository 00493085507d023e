//! The ingress over a real listener, on the embedded store, with a worker that the test plays.

pub(crate) mod client;
pub(crate) mod documents;

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use millhand_api::{AdminState, ApiConfig, ApiState, Stage};
use millhand_common::adapters::embedded::{EmbeddedBroker, EmbeddedStore, Folder, StoreOptions};
use millhand_common::model::{
    Agent, EventBody, Hint, JobId, Lane, Output, Shares, Status, TenantId, Terminal, WorkerId,
};
use millhand_common::ports::{Broker, BrokerError, By, Claim, Claimed, Closed, Delivery, JobStore, Run};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use client::{Answer, Client};
use documents::{MemoryDocuments, MemoryIndex};

/// Waits until `check` gives something; panics late, with the label.
pub(crate) async fn wait_for<T>(label: &str, check: impl AsyncFn() -> Option<T>) -> T {
    let wait = async {
        loop {
            if let Some(value) = check().await {
                return value;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    match tokio::time::timeout(Duration::from_secs(20), wait).await {
        Ok(value) => value,
        Err(_) => panic!("waited too long for {label}"),
    }
}

pub(crate) struct Ingress {
    pub(crate) client: Client,
    pub(crate) admin: Client,
    pub(crate) store: Arc<EmbeddedStore>,
    pub(crate) broker: Arc<FlakyBroker>,
    pub(crate) documents: Arc<MemoryDocuments>,
    pub(crate) shutdown: CancellationToken,
    pub(crate) servers: JoinSet<std::io::Result<()>>,
    _folder: tempfile::TempDir,
}

/// A broker that can be away.
#[derive(Default)]
pub(crate) struct FlakyBroker {
    inner: EmbeddedBroker,
    pub(crate) away: AtomicBool,
    /// Told of each publish that failed.
    pub(crate) refused: Notify,
}

impl FlakyBroker {
    fn there(&self) -> Result<(), BrokerError> {
        let away = self.away.load(Ordering::Relaxed);
        if away { Err(BrokerError::Unreachable("amqp://secret-host".to_owned())) } else { Ok(()) }
    }
}

#[async_trait]
impl Broker for FlakyBroker {
    async fn publish(&self, hints: &[Hint]) -> Result<(), BrokerError> {
        self.there().inspect_err(|_| self.refused.notify_one())?;
        self.inner.publish(hints).await
    }

    async fn receive(&self, lane: Lane) -> Result<Delivery, BrokerError> {
        self.inner.receive(lane).await
    }

    async fn depth(&self, lane: Lane) -> Result<u64, BrokerError> {
        self.there()?;
        self.inner.depth(lane).await
    }

    async fn ready(&self) -> Result<(), BrokerError> {
        self.there()
    }
}

/// An ingress with everything configured, changed by `change`.
pub(crate) async fn start_with(change: impl FnOnce(&mut ApiState)) -> Ingress {
    let folder = tempfile::tempdir().unwrap();
    let opened = Arc::new(Folder::open(folder.path()).unwrap());
    let store = EmbeddedStore::open(&opened, StoreOptions::default()).unwrap();
    let broker = Arc::new(FlakyBroker::default());
    let documents = Arc::new(MemoryDocuments::default());
    let stage = Stage::default();
    let mut config = ApiConfig::default();
    config.limits.drain_delay = Duration::from_millis(20);
    let mut state = ApiState {
        store: store.clone(),
        reader: store.clone(),
        conversations: store.clone(),
        broker: broker.clone(),
        keys: store.clone(),
        documents: Some(documents.clone()),
        index: Some(Arc::new(MemoryIndex(documents.clone()))),
        embedder: None,
        agents: Agent::built_in(),
        model_configured: true,
        allowance: None,
        shares: Shares::default(),
        brownout: Arc::default(),
        config,
        stage: stage.clone(),
    };
    change(&mut state);
    let admin = AdminState {
        limiters: Vec::new(),
        store: store.clone(),
        broker: broker.clone(),
        keys: store.clone(),
        needs_key: false,
        metrics: Arc::new(|| "millhand_test_metric 1\n".to_owned()),
        stage,
        on_drain: None,
        backup: None,
    };
    let shutdown = CancellationToken::new();
    let mut servers = JoinSet::new();
    let (public, operators) = (listen().await, listen().await);
    let (address, admin_address) = (public.local_addr().unwrap(), operators.local_addr().unwrap());
    servers.spawn(millhand_api::serve(public, state, shutdown.clone()));
    servers.spawn(millhand_api::serve_admin(operators, admin, shutdown.clone()));
    Ingress {
        client: Client::new(address),
        admin: Client::new(admin_address),
        store,
        broker,
        documents,
        shutdown,
        servers,
        _folder: folder,
    }
}

pub(crate) async fn start() -> Ingress {
    start_with(|_| {}).await
}

async fn listen() -> TcpListener {
    TcpListener::bind(SocketAddr::from(([127, 0, 0, 1], 0))).await.unwrap()
}

impl Ingress {
    /// Submits and answers the id.
    pub(crate) async fn submit(&self, question: &str) -> JobId {
        let answer = self.client.post("/v1/jobs", &json!({ "input": question })).await;
        assert_eq!(answer.status, 202, "{answer:?}");
        id_of(&answer.json())
    }

    /// Claims the job as a worker would.
    pub(crate) async fn claim(&self, id: JobId) -> Run {
        let claim = Claim { owner: WorkerId::new(), op: Uuid::new_v4() };
        match self.store.claim(&TenantId::default(), id, claim).await.unwrap() {
            Claimed::Run(run) => *run,
            other => panic!("{id} cannot be claimed: {other:?}"),
        }
    }

    /// Writes one event of the running job at `seq`.
    pub(crate) async fn write(&self, run: &Run, seq: u64, body: EventBody) {
        let appended = self.store.append(&run.lease, seq, vec![body]).await.unwrap();
        assert_eq!(appended, millhand_common::ports::Appended::Ok);
    }

    /// Ends the job, whoever owns it.
    pub(crate) async fn finish(&self, id: JobId, text: &str) {
        let output = Output::answer(text, true, Vec::new());
        let terminal = Terminal { output: Some(output), ..Terminal::bare(Status::Completed) };
        let closed = self.store.close(&TenantId::default(), id, By::Anyone, terminal).await.unwrap();
        assert_eq!(closed, Closed::Ok);
    }

    /// Runs the job: one delta, then its end. The log is then queued, started, delta, completed.
    pub(crate) async fn answer(&self, id: JobId, text: &str) {
        let run = self.claim(id).await;
        self.write(&run, 3, delta(text)).await;
        self.finish(id, text).await;
    }
}

/// A request that is on its way while the test goes on; the answer when awaited.
pub(crate) fn get_in_background(client: Client, path: String) -> Pending {
    let mut task = JoinSet::new();
    task.spawn(async move { client.get(&path).await });
    Pending(task)
}

pub(crate) struct Pending(JoinSet<Answer>);

impl Pending {
    pub(crate) async fn answer(mut self) -> Answer {
        self.0.join_next().await.expect("one task").expect("no panic")
    }
}

pub(crate) fn delta(text: &str) -> EventBody {
    EventBody::OutputTextDelta { text: text.to_owned() }
}

pub(crate) fn id_of(job: &Value) -> JobId {
    job["id"].as_str().unwrap().parse().unwrap()
}

/// The problem document of an answer, checked for what every one must have.
#[track_caller]
pub(crate) fn problem(answer: &Answer, status: u16, code: &str) -> Value {
    assert_eq!(answer.status, status, "{answer:?}");
    assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{answer:?}");
    let body = answer.json();
    assert_eq!(body["code"], code, "{body}");
    assert_eq!(body["status"], status);
    assert_eq!(body["request_id"].as_str(), answer.header("x-request-id"));
    assert!(body["title"].is_string() && body["detail"].is_string() && body["retryable"].is_boolean());
    body
}
