//! The worker over the embedded store and broker, with pipelines made for the test.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use millhand_common::adapters::embedded::{EmbeddedBroker, EmbeddedStore, Folder, StoreOptions};
use millhand_common::follow::Follower;
use millhand_common::model::{
    AgentName, ConversationId, EventBody, Hint, Job, JobError, JobId, JobInput, JobSpec, Lane, Message,
    OnBusy, Output, Role, Status, StepKind, TenantId, Terminal, WorkerId,
};
use millhand_common::ports::{
    Accept, Accepted, Broker, BrokerError, Claim, Claimed, Delivery, Expected, JobReader, JobStore, Lookup,
    Settle, WorkerSignal,
};
use millhand_worker::attempt::{Attempt, Begun, Failure};
use millhand_worker::{Pipeline, Worker, WorkerConfig};
use tokio_util::sync::CancellationToken;

/// Behaves as its question says.
#[derive(Default)]
struct Scripted {
    calls: AtomicUsize,
    together: AtomicUsize,
}

#[async_trait]
impl Pipeline for Scripted {
    async fn run(&self, attempt: &Attempt) -> Result<Terminal, Failure> {
        let question = attempt.job().spec.question().to_owned();
        let together = self.together.fetch_add(1, Ordering::SeqCst) + 1;
        let _leave = Leave(&self.together);
        match question.as_str() {
            "hang" => std::future::pending().await,
            "say and hang" => {
                attempt.emit(EventBody::OutputTextDelta { text: "只有一半 ".to_owned() }).await?;
                std::future::pending().await
            }
            "fail" => {
                self.calls.fetch_add(1, Ordering::SeqCst);
                Err(Failure::Retry { error: JobError::new("flaky", "it failed", true), after: None })
            }
            "step" => {
                if let Begun::Run = attempt.begin("call", StepKind::ModelCall).await? {
                    self.calls.fetch_add(1, Ordering::SeqCst);
                    attempt.complete("call", StepKind::ModelCall, "bought".into()).await?;
                    attempt.flush().await?;
                    return Err(Failure::Retry { error: JobError::new("later", "again", true), after: None });
                }
                done(attempt).await
            }
            "alone" => {
                assert_eq!(together, 1, "a suspect runs with no other job");
                done(attempt).await
            }
            _ => done(attempt).await,
        }
    }
}

struct Leave<'a>(&'a AtomicUsize);

impl Drop for Leave<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

async fn done(attempt: &Attempt) -> Result<Terminal, Failure> {
    for word in ["one ", "二 ", "three"] {
        attempt.emit(EventBody::OutputTextDelta { text: word.to_owned() }).await?;
    }
    let output = Output::answer(attempt.output().text, true, Vec::new());
    Ok(Terminal { output: Some(output), ..Terminal::bare(Status::Completed) })
}

fn hint(job: JobId) -> Hint {
    Hint { v: 1, job, tenant: TenantId::default(), lane: Lane::Interactive, traceparent: None }
}

/// A broker that once sends hints which nobody asked for.
struct Unasked {
    hints: Mutex<Vec<Delivery>>,
    usual: EmbeddedBroker,
}

#[async_trait]
impl Broker for Unasked {
    async fn publish(&self, hints: &[Hint]) -> Result<(), BrokerError> {
        self.usual.publish(hints).await
    }

    async fn receive(&self, lane: Lane) -> Result<Delivery, BrokerError> {
        self.usual.receive(lane).await
    }

    async fn surplus(&self) -> Vec<Delivery> {
        let hints = std::mem::take(&mut *self.hints.lock().unwrap());
        if hints.is_empty() { std::future::pending().await } else { hints }
    }

    async fn depth(&self, lane: Lane) -> Result<u64, BrokerError> {
        self.usual.depth(lane).await
    }

    async fn ready(&self) -> Result<(), BrokerError> {
        self.usual.ready().await
    }
}

/// Counts acks.
struct Acks(Arc<AtomicUsize>);

#[async_trait]
impl Settle for Acks {
    async fn ack(self: Box<Self>) -> Result<(), BrokerError> {
        self.0.fetch_add(1, Ordering::SeqCst);
        Ok(())
    }

    fn give_back(self: Box<Self>) {}
}

struct House {
    store: Arc<EmbeddedStore>,
    broker: EmbeddedBroker,
    pipeline: Arc<Scripted>,
    _dir: tempfile::TempDir,
}

impl House {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let folder = Arc::new(Folder::open(&dir.path().join("data")).unwrap());
        let store = EmbeddedStore::open(&folder, StoreOptions::default()).unwrap();
        Self { store, broker: EmbeddedBroker::new(), pipeline: Arc::default(), _dir: dir }
    }

    fn worker(&self, drain_timeout: Duration) -> (JoinedWorker, CancellationToken) {
        self.worker_on(Arc::new(self.broker.clone()), drain_timeout)
    }

    fn worker_on(
        &self,
        broker: Arc<dyn Broker>,
        drain_timeout: Duration,
    ) -> (JoinedWorker, CancellationToken) {
        let config = WorkerConfig { slots: 16, drain_timeout, ..WorkerConfig::default() };
        let worker = Worker::new(self.store.clone(), broker, None, self.pipeline.clone(), config);
        let shutdown = CancellationToken::new();
        let mut set = tokio::task::JoinSet::new();
        set.spawn(worker.run(shutdown.clone()));
        (set, shutdown)
    }

    async fn submit(&self, question: &str, deadline: Duration) -> JobId {
        let spec = JobSpec {
            id: JobId::new(),
            tenant: TenantId::default(),
            input: JobInput::Chat {
                messages: vec![Message { role: Role::User, content: question.to_owned() }],
            },
            agent: AgentName::rag(),
            lane: Lane::Interactive,
            conversation_id: Some(ConversationId::new()),
            collection: None,
            filter: None,
            deadline,
            not_before: None,
            max_output_tokens: None,
            metadata: None,
            replay_of: None,
            traceparent: None,
        };
        let hint = hint(spec.id);
        let accept = Accept {
            spec,
            known_conversation: false,
            on_busy: OnBusy::Enqueue,
            replays_only: false,
            idempotency: None,
            expected: Expected::default(),
        };
        assert!(matches!(self.store.accept(accept).await.unwrap(), Accepted::Created(_)));
        let id = hint.job;
        self.broker.publish(&[hint]).await.unwrap();
        id
    }

    async fn job(&self, id: JobId) -> Job {
        match JobReader::get(&*self.store, &TenantId::default(), id).await.unwrap() {
            Lookup::Found(job) => *job,
            other => panic!("{id} is not kept: {other:?}"),
        }
    }

    /// The log of a job, up to its end.
    async fn end_of(&self, id: JobId) -> (Job, Vec<String>) {
        let mut follower = Follower::new(self.store.clone(), TenantId::default(), id, 0);
        let mut kinds = Vec::new();
        let all = async {
            while let Some(event) = follower.next().await.unwrap() {
                kinds.push(event.kind.clone());
            }
        };
        tokio::time::timeout(Duration::from_secs(20), all).await.expect("the job ends");
        (self.job(id).await, kinds)
    }

    async fn until(&self, id: JobId, kind: &str) {
        let mut follower = Follower::new(self.store.clone(), TenantId::default(), id, 0);
        let seen = async {
            while let Some(event) = follower.next().await.unwrap() {
                if event.kind == kind {
                    return;
                }
            }
            panic!("no {kind} in the log of {id}");
        };
        tokio::time::timeout(Duration::from_secs(20), seen).await.expect("the event comes");
    }
}

type JoinedWorker = tokio::task::JoinSet<()>;

const LONG: Duration = Duration::from_secs(120);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_job_ends_once_with_the_text_its_reader_has() {
    let house = House::new();
    let (mut worker, shutdown) = house.worker(LONG);
    let mut ids = Vec::new();
    for n in 0..200 {
        ids.push(house.submit(&format!("question {n}"), LONG).await);
    }
    for id in ids {
        let (job, kinds) = house.end_of(id).await;
        assert_eq!((job.status, job.attempt, job.deaths), (Status::Completed, 1, 0));
        assert_eq!(kinds.iter().filter(|kind| *kind == "job.completed").count(), 1);
        assert!(matches!(job.output, Some(Output::Answer { text, .. }) if text == "one 二 three"));
    }
    shutdown.cancel();
    worker.join_next().await.unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_job_stops_and_a_job_past_its_deadline_keeps_its_text() {
    let house = House::new();
    let (_worker, _shutdown) = house.worker(LONG);
    let cancelled = house.submit("say and hang", LONG).await;
    house.until(cancelled, "output_text.delta").await;
    house.store.cancel(&TenantId::default(), cancelled).await.unwrap();
    assert_eq!(house.end_of(cancelled).await.0.status, Status::Cancelled);

    let cut = house.submit("say and hang", Duration::from_millis(600)).await;
    let (job, _) = house.end_of(cut).await;
    assert_eq!(job.status, Status::Incomplete);
    assert!(matches!(job.output, Some(Output::Answer { text, .. }) if text == "只有一半 "));
    let silent = house.submit("hang", Duration::from_millis(300)).await;
    assert_eq!(house.end_of(silent).await.0.status, Status::Expired);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drained_worker_gives_its_job_back_and_the_next_one_finishes_it() {
    let house = House::new();
    let (mut worker, shutdown) = house.worker(Duration::from_millis(100));
    let id = house.submit("say and hang", Duration::from_secs(8)).await;
    house.until(id, "output_text.delta").await;
    shutdown.cancel();
    worker.join_next().await.unwrap().unwrap();
    let job = house.job(id).await;
    assert_eq!((job.status, job.deaths, job.attempt), (Status::Queued, 0, 1));
    let (_worker, _shutdown) = house.worker(LONG);
    let (job, kinds) = house.end_of(id).await;
    assert_eq!((job.status, job.deaths, job.attempt), (Status::Incomplete, 0, 2));
    assert!(kinds.iter().any(|kind| kind == "job.waiting"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failing_job_is_retried_then_buried_and_a_finished_step_is_not_done_again() {
    let house = House::new();
    let (_worker, _shutdown) = house.worker(LONG);
    let fails = house.submit("fail", LONG).await;
    let (job, _) = house.end_of(fails).await;
    assert_eq!((job.status, job.attempt), (Status::Failed, 4));
    assert_eq!(job.error.unwrap().code, "flaky");
    assert_eq!(house.store.dead_letters(10, None).await.unwrap()[0].job.spec.id, fails);
    assert_eq!(house.pipeline.calls.swap(0, Ordering::SeqCst), 4);

    let step = house.submit("step", LONG).await;
    let (job, kinds) = house.end_of(step).await;
    assert_eq!((job.status, job.attempt), (Status::Completed, 2));
    assert_eq!(house.pipeline.calls.load(Ordering::SeqCst), 1, "the step was bought once");
    assert_eq!(kinds.iter().filter(|kind| *kind == "step.started").count(), 1);
    assert_eq!(kinds.iter().filter(|kind| *kind == "step.completed").count(), 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_with_two_deaths_runs_alone() {
    let house = House::new();
    let id = house.submit("alone", LONG).await;
    for _ in 0..2 {
        // An owner that claims and never renews: challenged, it is taken to be dead.
        let dead = Claim::new(WorkerId::new());
        let claimed = house.store.claim(&TenantId::default(), id, dead).await.unwrap();
        assert!(matches!(claimed, Claimed::Run(_)), "{claimed:?}");
        house.store.challenge(&TenantId::default(), id).await.unwrap();
        assert!(matches!(house.store.signal(dead.owner).await, WorkerSignal::Challenge(_)));
        house.store.due().await;
    }
    let others: Vec<JobId> = futures_of(&house, 20).await;
    let (_worker, _shutdown) = house.worker(LONG);
    let (job, _) = house.end_of(id).await;
    assert_eq!((job.status, job.deaths), (Status::Completed, 2));
    for other in others {
        assert_eq!(house.end_of(other).await.0.status, Status::Completed);
    }
}

/// The hint of a dead worker's job may come to one that has no slot for it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redelivered_hint_that_nobody_asked_for_challenges_the_owner() {
    let house = House::new();
    let id = house.submit("question", LONG).await;
    let dead = Claim::new(WorkerId::new());
    let claimed = house.store.claim(&TenantId::default(), id, dead).await.unwrap();
    assert!(matches!(claimed, Claimed::Run(_)), "{claimed:?}");
    let acks = Arc::new(AtomicUsize::new(0));
    let redelivered = Delivery::new(hint(id), true, Box::new(Acks(Arc::clone(&acks))));
    let broker = Unasked { hints: Mutex::new(vec![redelivered]), usual: house.broker.clone() };
    let (_worker, _shutdown) = house.worker_on(Arc::new(broker), LONG);
    // Nobody but the holder of that hint has a reason to ask, long before the lease ends.
    let asked = tokio::time::timeout(Duration::from_secs(5), house.store.signal(dead.owner)).await;
    assert!(matches!(asked, Ok(WorkerSignal::Challenge(_))), "{asked:?}");
    let (job, _) = house.end_of(id).await;
    assert_eq!((job.status, job.attempt, job.deaths), (Status::Completed, 2, 1));
    assert_eq!(acks.load(Ordering::SeqCst), 1);
}

async fn futures_of(house: &House, count: usize) -> Vec<JobId> {
    let mut ids = Vec::new();
    for n in 0..count {
        ids.push(house.submit(&format!("neighbour {n}"), LONG).await);
    }
    ids
}
