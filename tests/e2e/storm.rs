//! Every stream of an ingress is cut at once and comes back to another one, which is submitted to meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use futures::future::{join, join_all};
use millhand_tests::log::check_log;
use millhand_tests::servers::{Kind, Queue, Redis};
use millhand_tests::{Client, Launch, Provider, wait_for};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::sleep;

const JOBS: usize = 25;
const READERS: usize = 500;
/// Events that each reader has seen when it is cut: the answer is being written.
const SEEN: usize = 6;

/// How long is submitted while all read, and while all come back.
const MEASURED: Duration = Duration::from_secs(1);

/// What is submitted one after the other: ids, and how long each took.
type Submitted = Vec<(String, Duration)>;

/// All readers return in the same moment, which is worse than any `retry:` lets them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_storm_of_returning_readers_costs_no_event_and_no_submit() {
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
    let mut readers = JoinSet::new();
    for n in 0..READERS {
        let job = jobs[n % JOBS].clone();
        let (before, after) = (first.client.clone(), second.client.clone());
        let (reads, is_back) = (once(SEEN, reading.clone()), once(1, returned.clone()));
        readers.spawn(async move {
            let mut events = before.sse(&job, 0, reads).await;
            let cut = events.len();
            events.extend(after.sse(&job, cut as u64, is_back).await);
            (job, cut, events)
        });
    }
    let all = |counter: &AtomicUsize| {
        let count = counter.load(Ordering::Relaxed);
        async move { (count == READERS).then_some(()) }
    };
    wait_for("all to read", || all(&reading)).await;
    let calm = submit_during(&second.client, sleep(MEASURED)).await;
    let storm = submit_during(&second.client, async {
        first.kill9().await;
        join(wait_for("all to be back", || all(&returned)), sleep(MEASURED)).await;
    })
    .await;
    println!(
        "{READERS} streams came back. {} and {} submits, p95 {:?} before and {:?} meanwhile",
        calm.len(),
        storm.len(),
        p95(&calm),
        p95(&storm)
    );

    let records = join_all(jobs.iter().map(|job| second.client.finished(job))).await;
    let logs = join_all(jobs.iter().map(|job| second.client.log(job, 0))).await;
    for (record, log) in records.iter().zip(&logs) {
        assert_eq!(record["status"], "completed", "{record}");
        check_log(record, log);
    }
    while let Some(read) = readers.join_next().await {
        let (job, cut, events) = read.unwrap();
        let log = &logs[jobs.iter().position(|of| *of == job).unwrap()];
        assert!((SEEN..log.len()).contains(&cut), "it was cut in the middle: after {cut} of {}", log.len());
        assert_eq!(&events, log, "each event once, in order; it was cut after {cut}");
    }
    assert_eq!(second.metric("millhand_api_stream_gaps_total").await, 0.0);
    assert!(second.metric("millhand_api_stream_resumes_total").await >= READERS as f64);
    for (job, _) in calm.iter().chain(&storm) {
        assert_eq!(second.client.finished(job).await["status"], "completed");
    }
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

fn p95(submitted: &Submitted) -> Duration {
    let mut took: Vec<Duration> = submitted.iter().map(|(_, took)| *took).collect();
    took.sort_unstable();
    took.get(took.len() * 95 / 100).copied().unwrap_or_default()
}
