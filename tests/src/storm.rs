//! Every stream of an ingress is cut at once and comes back to another one, which is submitted to meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::{join, join_all};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;

use crate::log::check_log;
use crate::servers::{Kind, Queue, Redis};
use crate::{Client, Launch, Provider, wait_for};

const JOBS: usize = 25;
/// Events that each reader has seen when it is cut: the answer is being written.
const SEEN: usize = 6;
/// How long is submitted while all read, and at least while all come back.
const MEASURED: Duration = Duration::from_secs(1);

/// What is submitted one after the other: ids, and how long each took.
type Submitted = Vec<(String, Duration)>;

/// How long submits took, each one sent when the one before was answered.
pub struct Seen {
    /// While all readers read.
    pub calm: Vec<Duration>,
    /// While they came back.
    pub storm: Vec<Duration>,
}

impl Seen {
    /// Of one of the two.
    #[must_use]
    pub fn p95(took: &[Duration]) -> Duration {
        let mut took = took.to_vec();
        took.sort_unstable();
        took.get(took.len() * 95 / 100).copied().unwrap_or_default()
    }
}

/// So many readers are cut by the death of their ingress and return one after the other `within` this long, each from
/// where it was. Panics when one misses an event or has one twice, or when a submit is refused.
pub async fn storm(readers: usize, within: Duration) -> Seen {
    let (model, redis, queue) =
        futures::join!(Provider::start(), Redis::start(), Queue::start(Kind::RabbitMq));
    let launch = |role| {
        Launch::shared(role).cluster(Kind::RabbitMq, &queue.url(), &redis.url()).model(&model.base_url())
    };
    let (first, second, worker) = (launch("api"), launch("api"), launch("worker"));
    let (first, second, _worker) = futures::join!(first.start(), second.start(), worker.start());
    let ask = async |n| first.client.chat(&format!("storm {n} tokens=100 gap=200")).await;
    let jobs = join_all((0..JOBS).map(ask)).await;

    let (reading, returned) = (Arc::new(AtomicUsize::new(0)), Arc::new(AtomicUsize::new(0)));
    let mut reads = JoinSet::new();
    for n in 0..readers {
        let job = jobs[n % JOBS].clone();
        let (before, after) = (first.client.clone(), second.client.clone());
        let (is_reading, is_back) = (once(SEEN, reading.clone()), once(1, returned.clone()));
        let away = within.mul_f64(n as f64 / readers as f64);
        reads.spawn(async move {
            let mut events = before.sse(&job, 0, is_reading).await;
            sleep(away).await;
            let cut = events.len();
            events.extend(after.sse(&job, cut as u64, is_back).await);
            (job, cut, events)
        });
    }
    let all = |counter: &AtomicUsize| {
        let count = counter.load(Ordering::Relaxed);
        async move { (count == readers).then_some(()) }
    };
    wait_for("all to read", || all(&reading)).await;
    let calm = submit_during(&second.client, sleep(MEASURED)).await;
    let storm = submit_during(&second.client, async {
        first.kill9().await;
        join(wait_for("all to be back", || all(&returned)), sleep(MEASURED)).await;
    })
    .await;

    let records = join_all(jobs.iter().map(|job| second.client.finished(job))).await;
    let logs = join_all(jobs.iter().map(|job| second.client.log(job, 0))).await;
    for (record, log) in records.iter().zip(&logs) {
        assert_eq!(record["status"], "completed", "{record}");
        check_log(record, log);
    }
    while let Some(read) = reads.join_next().await {
        let (job, cut, events) = read.expect("a reader ends");
        let log = &logs[jobs.iter().position(|of| *of == job).expect("one of them")];
        assert!((SEEN..log.len()).contains(&cut), "it was cut in the middle: after {cut} of {}", log.len());
        assert_eq!(&events, log, "each event once, in order; it was cut after {cut}");
    }
    assert_eq!(second.metric("millhand_api_stream_gaps_total").await, 0.0);
    assert!(second.metric("millhand_api_stream_resumes_total").await >= readers as f64);
    for (job, _) in calm.iter().chain(&storm) {
        assert_eq!(second.client.finished(job).await["status"], "completed");
    }
    let took = |submitted: Submitted| submitted.into_iter().map(|(_, took)| took).collect();
    Seen { calm: took(calm), storm: took(storm) }
}

/// Never enough: counts a reader once it has so many events.
fn once(count: usize, counter: Arc<AtomicUsize>) -> impl Fn(&[String]) -> bool {
    let counted = AtomicBool::new(false);
    move |events| {
        if count <= events.len() && !counted.swap(true, Ordering::Relaxed) {
            counter.fetch_add(1, Ordering::Relaxed);
        }
        false
    }
}

/// Each is accepted at its first try.
async fn submit_during(client: &Client, meanwhile: impl Future<Output = ()>) -> Submitted {
    let over = AtomicBool::new(false);
    let submits = async {
        let mut submitted = Vec::new();
        while !over.load(Ordering::Relaxed) {
            let began = Instant::now();
            let job = client.submit(json!({"input": "beside it tokens=1", "agent": "chat"})).await;
            submitted.push((job, began.elapsed()));
        }
        submitted
    };
    let ends = async {
        meanwhile.await;
        over.store(true, Ordering::Relaxed);
    };
    join(submits, ends).await.0
}
