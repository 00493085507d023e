//! More work than can be done is refused early, honestly, and not for longer than it lasts.

use std::collections::HashMap;

use futures::future::join_all;
use millhand_common::model::Timestamp;
use millhand_tests::{Launch, Provider, wait_for};
use serde_json::{Value, json};

/// Submitted at once: some thirty times what the worker does before their deadline.
const BURST: usize = 600;

/// What is let in ends, what expired in the queue cost no model call, and when the queue is gone everything is
/// let in again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_burst_is_refused_where_it_could_not_start_and_no_longer() {
    let dir = tempfile::tempdir().unwrap();
    let model = Provider::with(&["--first-token", "300ms", "--per-token", "0ms", "--keep-bodies"]).await;
    let launch = Launch::new(dir.path()).model(&model.base_url()).arg("--slots").arg("2");
    let launch = launch.env("MILLHAND_API__ADMISSION__EXPECTED_JOBS_PER_SECOND", "6");
    let server = launch.start().await;
    let client = &server.client;
    let submit = async |n: usize| {
        let body = json!({"input": format!("job {n} tokens=2"), "agent": "chat", "deadline_seconds": 4});
        client.post("/v1/jobs", &body).await
    };
    let answers = join_all((0..BURST).map(submit)).await;
    let (accepted, refused): (Vec<_>, Vec<_>) = answers.iter().partition(|answer| answer.status == 202);
    assert!(accepted.len() >= 4, "what can be done is let in: {}", accepted.len());
    assert!(accepted.len() <= BURST / 4, "what cannot be done is not: {}", accepted.len());
    for answer in &refused {
        let problem = answer.json();
        assert_eq!((answer.status, &problem["code"]), (503, &json!("overloaded")), "{problem}");
        let after: u64 = answer.headers["retry-after"].to_str().unwrap().parse().unwrap();
        assert!((1..=60).contains(&after), "{after}");
    }
    let ended = accepted.iter().map(|answer| async {
        let id = answer.json()["id"].as_str().unwrap().to_owned();
        client.finished(&id).await
    });
    let mut asked: HashMap<String, usize> = HashMap::new();
    let jobs: Vec<Value> = join_all(ended).await;
    for call in model.calls().await {
        *asked.entry(call.question).or_default() += 1;
    }
    for job in &jobs {
        let log = client.log(job["id"].as_str().unwrap(), 0).await;
        let expired_in_the_queue = job["status"] == "expired" && job["attempt"] == 0;
        assert!(!expired_in_the_queue || !log.iter().any(|event| event.contains("step.started")), "{log:?}");
    }
    let began = jobs.iter().filter(|job| job["attempt"].as_u64() > Some(0)).count();
    assert!(asked.len() <= began, "no call for a job that never began: {} of {began}", asked.len());
    assert!(asked.values().all(|calls| *calls == 1), "nothing is asked twice");

    wait_for("everything to be let in again", || async {
        let answer = submit(BURST).await;
        (answer.status == 202).then_some(())
    })
    .await;
}

/// One slot of 300 ms and twenty jobs: what the later ones are told is what the store's times say afterwards.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_in_line_is_told_its_place_and_when_it_starts() {
    let dir = tempfile::tempdir().unwrap();
    let model = Provider::with(&["--first-token", "300ms", "--per-token", "0ms"]).await;
    let server = Launch::new(dir.path()).model(&model.base_url()).arg("--slots").arg("1").start().await;
    let client = &server.client;
    let submit = async || {
        let answer = client.post("/v1/jobs", &json!({"input": "hello tokens=2", "agent": "chat"})).await;
        assert_eq!(answer.status, 202, "{}", answer.text);
        answer.json()
    };
    let id = |job: &Value| job["id"].as_str().unwrap().to_owned();
    wait_for("it to be known how long answers take", || async {
        let pair = [submit().await, submit().await];
        join_all(pair.iter().map(|job| async { client.finished(&id(job)).await })).await;
        pair[1]["wait"]["expected_start_at"].is_string().then_some(())
    })
    .await;

    let mut told = Vec::new();
    for _ in 0..20 {
        told.push(submit().await);
    }
    let last = client.job(&id(&told[19])).await;
    assert_eq!((&last["status"], &last["wait"]["reason"]), (&json!("queued"), &json!("worker")), "{last}");
    assert!(last["wait"]["expected_start_at"].is_string(), "{last}");
    let mut places = Vec::new();
    for job in &told {
        let log = client.log(&id(job), 0).await;
        let queued: Value = serde_json::from_str(&log[0]).unwrap();
        let ended = client.finished(&id(job)).await;
        assert_eq!(ended["wait"], json!(null));
        let wait_until = |at: &Value| moment(at).since(moment(&ended["created_at"])).as_secs_f64();
        let expected = wait_until(&queued["data"]["expected_start_at"]);
        let waited = wait_until(&ended["started_at"]);
        places.push((queued["data"]["position"].as_u64().unwrap(), expected, waited));
    }
    for pair in [places[2], places[8], places[14], places[19]].windows(2) {
        let ((place, expected, _), (later, later_expected, _)) = (pair[0], pair[1]);
        assert!(place < later && expected < later_expected, "who comes later waits longer: {places:?}");
    }
    for (_, expected, waited) in &places[5..] {
        // The machine may be slower than it was, and looks are a second apart.
        assert!((waited / 3.0 - 1.0..=waited * 3.0 + 1.0).contains(expected), "{expected}: {places:?}");
    }
}

/// At first nobody knows that there is quota for one job a second only: all slots are free. What was told then is
/// made up for.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_came_before_anything_was_known_is_told_when_it_starts() {
    let dir = tempfile::tempdir().unwrap();
    let model = Provider::with(&["--first-token", "50ms", "--requests-per-minute", "60"]).await;
    let launch = Launch::new(dir.path()).model(&model.base_url());
    let server = launch.env("MILLHAND_MODEL__LIMITS__REQUESTS_PER_MINUTE", "60").start().await;
    let client = &server.client;
    let submit = async || client.submit(json!({"input": "hello tokens=2", "agent": "chat"})).await;
    wait_for("the queue to be looked at", async || {
        let job = submit().await;
        client.finished(&job).await;
        client.log(&job, 0).await[0].contains("\"position\":").then_some(())
    })
    .await;
    let mut jobs = Vec::new();
    for _ in 0..14 {
        jobs.push(submit().await);
    }
    let last = &jobs[13];
    let created = moment(&client.job(last).await["created_at"]);
    let after = |at: &Value| moment(at).since(created).as_secs_f64();
    let expected = wait_for("it to be foretold", async || {
        let expected = client.job(last).await["wait"]["expected_start_at"].clone();
        Some(expected).filter(Value::is_string).map(|at| after(&at)).filter(|seconds| 3.0 < *seconds)
    })
    .await;
    let waited = after(&client.finished(last).await["started_at"]);
    assert!((waited / 3.0 - 1.0..=waited * 3.0 + 1.0).contains(&expected), "{expected} of {waited}");
}

fn moment(at: &Value) -> Timestamp {
    serde_json::from_value(at.clone()).unwrap_or_else(|err| panic!("{err}: {at}"))
}
