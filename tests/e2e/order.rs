//! A job waits the line once, whatever else takes the slots it was sent to.

use std::collections::HashMap;
use std::time::Duration;

use futures::future::join_all;
use millhand_common::model::Timestamp;
use millhand_tests::servers::{Kind, Queue, Redis};
use millhand_tests::{Launch, Provider};
use serde_json::json;

const SLOTS: usize = 4;
const IN_LINE: usize = 60;
/// Jobs for later, one of which becomes due every so often.
const LATER: u32 = 16;
const EVERY: Duration = Duration::from_millis(400);

/// Due jobs take slots that hints were sent for. RabbitMQ puts what is given back to the end of its queue.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_whose_slot_was_taken_is_next() {
    let model = Provider::with(&["--first-token", "300ms", "--per-token", "0ms"]);
    let (model, redis, queue) = futures::join!(model, Redis::start(), Queue::start(Kind::RabbitMq));
    let launch = |role| {
        Launch::shared(role).cluster(Kind::RabbitMq, &queue.url(), &redis.url()).model(&model.base_url())
    };
    let (api, worker) = (launch("api"), launch("worker").arg("--slots").arg(&SLOTS.to_string()));
    let (api, worker) = futures::join!(api.start(), worker.start());
    for n in 0..LATER {
        let soon = Timestamp::now() + EVERY * (n + 1);
        api.client.submit(json!({"input": "later tokens=1", "agent": "chat", "not_before": soon})).await;
    }
    let mut jobs = Vec::new();
    for _ in 0..IN_LINE {
        jobs.push(api.client.chat("in line tokens=1").await);
    }
    let ended = join_all(jobs.iter().map(|job| api.client.finished(job))).await;
    let mut began: Vec<(&str, &str)> =
        ended.iter().map(|job| (job["started_at"].as_str().unwrap(), job["id"].as_str().unwrap())).collect();
    began.sort_unstable();
    let place: HashMap<&str, usize> =
        began.iter().enumerate().map(|(place, (_, job))| (*job, place)).collect();
    let behind = jobs.iter().enumerate().map(|(accepted, job)| place[job.as_str()].saturating_sub(accepted));
    let behind = behind.max().unwrap();
    let handed_on = worker.metric("millhand_worker_hints_handed_on_total").await;
    println!("{handed_on} hints were handed on; the job that waited longest began {behind} places late");
    assert!(handed_on > 0.0, "no slot was taken");
    assert!(behind <= 3 * SLOTS, "a job began {behind} places behind its turn");
}
