//! P7: every job ends by its deadline, whatever the model does.

use std::time::{Duration, Instant};

use serde_json::{Value, json};

use millhand_common::model::Timestamp;
use millhand_tests::{Launch, Provider, wait_for};

/// A sweep's round, and a slow machine.
const LATE: Duration = Duration::from_secs(4);

async fn stalled(question: &str) -> (Value, Duration) {
    let (dir, model) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let server = Launch::new(dir.path()).model(&model.base_url()).start().await;
    let started = Instant::now();
    let body = json!({"input": question, "agent": "chat", "deadline_seconds": 2});
    let job = server.client.submit(body).await;
    (server.client.finished(&job).await, started.elapsed())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_stalls_before_any_text_expires_the_job() {
    let (job, took) = stalled("silent tokens=5 stall=0").await;
    assert_eq!((job["status"].as_str(), &job["output"]), (Some("expired"), &Value::Null), "{job}");
    assert!(took < Duration::from_secs(2) + LATE, "{took:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn text_before_a_stall_is_kept() {
    let (job, took) = stalled("半 tokens=9 stall=3").await;
    assert_eq!(job["status"], "incomplete", "{job}");
    assert_eq!(job["output"]["text"], "[半] w1 字2");
    assert!(took < Duration::from_secs(2) + LATE, "{took:?}");
}

/// The deadline goes on while no process runs at all.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deadline_that_passed_while_nothing_ran_is_kept_at_the_start() {
    let (dir, model) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let launch = Launch::new(dir.path()).model(&model.base_url());
    let server = launch.start().await;
    let body = json!({"input": "late tokens=5 stall=0", "agent": "chat", "deadline_seconds": 1});
    let job = server.client.submit(body).await;
    let running = server.client.reaches(&job, "in_progress").await;
    server.kill9().await;
    let deadline = Timestamp::try_from(running["expires_at"].as_str().unwrap().to_owned()).unwrap();
    wait_for("the deadline to pass", || async { (Timestamp::now() > deadline).then_some(()) }).await;
    let server = launch.start().await;
    let ended = server.client.finished(&job).await;
    assert_eq!(ended["status"], "expired");
    assert_eq!(ended["attempt"], 1, "a job past its deadline is not run again");
}
