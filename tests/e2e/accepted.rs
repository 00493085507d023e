//! P1, P2, P5: accepted is durable, ends once, and is always found.

use futures::future::join_all;
use serde_json::json;

use millhand_tests::client::id;
use millhand_tests::log::check_log;
use millhand_tests::provider::answer_to;
use millhand_tests::{Launch, Provider, wait_for};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kill_in_the_middle_of_answers_loses_none() {
    let (dir, model) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let launch = Launch::new(dir.path()).model(&model.base_url());
    let server = launch.start().await;
    let mut jobs = Vec::new();
    for n in 0..30 {
        let question = format!("第{n}问 tokens=40 gap=25");
        jobs.push((server.client.chat(&question).await, question));
    }
    wait_for("answers to be under way", || async { (model.calls().await.len() >= 15).then_some(()) }).await;
    let statuses = join_all(jobs.iter().map(|(id, _)| server.client.job(id))).await;
    let open = statuses.iter().filter(|job| job["status"] == "in_progress").count();
    assert!(open >= 10, "the kill has to meet running jobs, {open} run");
    server.kill9().await;

    let server = launch.start().await;
    for (id, question) in &jobs {
        let job = server.client.finished(id).await;
        assert_eq!(job["status"], "completed", "{job}");
        assert_eq!(job["output"]["text"], answer_to(question));
        check_log(&job, &server.client.log(id, 0).await);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_terminal_state_survives_kills_unchanged() {
    let (dir, model) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let launch = Launch::new(dir.path()).model(&model.base_url());
    let server = launch.start().await;
    let job = server.client.chat("once tokens=5").await;
    let before = (server.client.finished(&job).await, server.client.log(&job, 0).await);
    server.kill9().await;
    let server = launch.start().await;
    assert_eq!((server.client.job(&job).await, server.client.log(&job, 0).await), before);
    server.kill9().await;
    let server = launch.start().await;
    let answer = server.client.post(&format!("/v1/jobs/{job}/cancel"), &json!({})).await;
    assert_eq!((answer.status, answer.json()), (200, before.0));
    assert_eq!(model.calls_for("once").await.len(), 1);
}

/// The client that got no answer asks again with its key and gets the job it made.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_key_finds_its_job_after_a_kill() {
    let (dir, model) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let launch = Launch::new(dir.path()).model(&model.base_url());
    let server = launch.start().await;
    let body = json!({"input": "keyed tokens=3", "agent": "chat"});
    let first = server.client.try_submit(&body, "key-1").await.unwrap();
    assert_eq!(first.status, 202);
    server.kill9().await;
    let server = launch.start().await;
    let again = server.client.try_submit(&body, "key-1").await.unwrap();
    assert_eq!(again.headers["idempotency-replayed"], "true");
    assert_eq!(id(&again.json()), id(&first.json()));
    let other = server.client.try_submit(&json!({"input": "other", "agent": "chat"}), "key-1").await.unwrap();
    assert_eq!((other.status, other.json()["code"].clone()), (422, json!("idempotency_mismatch")));
    server.client.finished(&id(&first.json())).await;
    assert_eq!(model.calls_for("keyed").await.len(), 1);
}
