//! A model that refuses, breaks off or says nothing: the answer comes, once, and readers see one text.

use serde_json::{Value, json};

use millhand_tests::log::check_log;
use millhand_tests::provider::answer_to;
use millhand_tests::{Launch, Provider, Server};

struct Asked {
    _dir: tempfile::TempDir,
    model: Provider,
    server: Server,
}

/// A server whose model goes wrong like this.
async fn with_faults(faults: Value) -> Asked {
    let (dir, model) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let server = Launch::new(dir.path()).model(&model.base_url()).start().await;
    model.faults(faults).await;
    Asked { _dir: dir, model, server }
}

impl Asked {
    /// The job and its log at the end.
    async fn ask(&self, question: &str) -> (Value, Vec<String>) {
        let job = self.server.client.chat(question).await;
        let record = self.server.client.finished(&job).await;
        let log = self.server.client.log(&job, 0).await;
        check_log(&record, &log);
        (record, log)
    }

    /// Milliseconds from one call to the next.
    async fn waits(&self) -> Vec<u64> {
        let calls = self.model.calls().await;
        calls.windows(2).map(|pair| pair[1].at_ms - pair[0].at_ms).collect()
    }

    async fn statuses(&self) -> Vec<u64> {
        self.model.calls().await.iter().map(|call| call.status).collect()
    }
}

fn count(log: &[String], kind: &str) -> usize {
    log.iter().filter(|event| event.contains(&format!("\"type\":\"{kind}\""))).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_limit_is_waited_out_as_it_asks_and_the_answer_comes() {
    let asked = with_faults(json!([{"kind": "rate_limited", "times": 1, "retry_after": 1.5}])).await;
    let question = "limited 限流 tokens=8";
    let (job, log) = asked.ask(question).await;
    assert_eq!(
        (job["status"].as_str(), &job["output"]["text"]),
        (Some("completed"), &json!(answer_to(question)))
    );
    assert_eq!(asked.statuses().await, [429, 200]);
    assert!(asked.waits().await[0] >= 1500, "{:?}", asked.waits().await);
    assert_eq!((job["attempt"].as_u64(), count(&log, "output_text.reset")), (Some(1), 0));
    assert_eq!(asked.server.metric("millhand_worker_model_rate_limited_total").await, 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn server_errors_are_tried_again_no_earlier_than_they_ask() {
    let faults = json!([{"kind": "error", "status": 503, "times": 1, "retry_after": 1}, {"kind": "error", "times": 1}]);
    let asked = with_faults(faults).await;
    let question = "broken 故障 tokens=8";
    let (job, _) = asked.ask(question).await;
    assert_eq!(
        (job["status"].as_str(), &job["output"]["text"]),
        (Some("completed"), &json!(answer_to(question)))
    );
    assert_eq!(asked.statuses().await, [503, 500, 200]);
    assert!(asked.waits().await[0] >= 1000, "{:?}", asked.waits().await);
}

/// A long wait is the queue's: the only slot is free for others meanwhile.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_long_retry_after_is_waited_in_the_queue_and_not_in_a_slot() {
    let (dir, model) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let server = Launch::new(dir.path()).model(&model.base_url()).arg("--slots").arg("1").start().await;
    model.faults(json!([{"kind": "rate_limited", "when": "first", "times": 1, "retry_after": 11}])).await;
    let first = server.client.chat("first tokens=3").await;
    let waiting = server.client.reaches(&first, "queued");
    let waiting = waiting.await;
    let second = server.client.chat("second tokens=3").await;
    assert_eq!(server.client.finished(&second).await["status"], "completed");
    assert_ne!(server.client.job(&first).await["status"], "completed", "{waiting}");
    let first = server.client.finished(&first).await;
    assert_eq!(first["output"]["text"], answer_to("first tokens=3"), "{first}");
    let calls = model.calls_for("first").await;
    assert_eq!(calls.iter().map(|call| call.status).collect::<Vec<_>>(), [429, 200]);
    assert!(calls[1].at_ms - calls[0].at_ms >= 11_000, "{calls:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_cut_in_the_middle_is_taken_back_and_said_once() {
    let asked = with_faults(json!([{"kind": "cut", "times": 1, "after": 6}])).await;
    let question = "cut 断开 tokens=12 gap=10";
    let (job, log) = asked.ask(question).await;
    assert_eq!(
        (job["status"].as_str(), &job["output"]["text"]),
        (Some("completed"), &json!(answer_to(question)))
    );
    assert_eq!(count(&log, "output_text.reset"), 1, "{log:#?}");
    assert_eq!((count(&log, "attempt.started"), job["attempt"].as_u64()), (1, Some(1)));
    let ended: Vec<Value> =
        asked.model.calls().await.iter().map(|call| call.entry["ended"].clone()).collect();
    assert_eq!(ended, ["broken", "finished"]);
    assert_eq!(asked.server.metric("millhand_model_stream_cuts_total").await, 1.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn garbage_error_bodies_and_endings_without_an_end_are_no_answers() {
    for fault in ["garbage", "long_line", "error_body", "no_end", "empty"] {
        let asked = with_faults(json!([{"kind": fault, "times": 1}])).await;
        let question = format!("{fault} 乱码 tokens=10");
        let (job, log) = asked.ask(&question).await;
        assert_eq!(job["status"], "completed", "{fault}: {job}");
        assert_eq!(job["output"]["text"], answer_to(&question), "{fault}");
        assert_eq!(asked.model.calls().await.len(), 2, "{fault}");
        let shown = usize::from(matches!(fault, "garbage" | "long_line" | "no_end"));
        assert_eq!(count(&log, "output_text.reset"), shown, "{fault}: {log:#?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_never_recovers_fails_the_job_and_says_why() {
    let asked = with_faults(json!([{"kind": "error", "status": 502}])).await;
    let (job, log) = asked.ask("hopeless tokens=3").await;
    assert_eq!(
        (job["status"].as_str(), job["error"]["code"].as_str()),
        (Some("failed"), Some("model_error")),
        "{job}"
    );
    assert!(job["error"]["message"].as_str().unwrap().contains("502"), "{job}");
    assert_eq!(job["output"], Value::Null);
    let calls = asked.model.calls().await.len();
    assert!((3..=16).contains(&calls), "{calls} calls");
    assert!(count(&log, "job.waiting") >= 1, "{log:#?}");
}

/// A call that falls silent is closed and made again, long before the job's deadline.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_falls_silent_is_asked_again_after_the_idle_timeout() {
    is_asked_again_after_the_idle_timeout(json!({"kind": "stall", "times": 1, "after": 3})).await;
}

/// Bytes that make no token are no sign of life.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_drips_is_asked_again_after_the_idle_timeout() {
    is_asked_again_after_the_idle_timeout(json!({"kind": "drip", "times": 1, "after": 3, "every": 0.05}))
        .await;
}

async fn is_asked_again_after_the_idle_timeout(fault: Value) {
    let (dir, model) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let launch =
        Launch::new(dir.path()).model(&model.base_url()).env("MILLHAND_MODEL__IDLE_TIMEOUT", "1500ms");
    let server = launch.start().await;
    model.faults(json!([fault])).await;
    let asked = Asked { _dir: dir, model, server };
    let question = "silent 沉默 tokens=9";
    let (job, log) = asked.ask(question).await;
    assert_eq!(
        (job["status"].as_str(), &job["output"]["text"]),
        (Some("completed"), &json!(answer_to(question)))
    );
    assert_eq!(count(&log, "output_text.reset"), 1, "{log:#?}");
    let waits = asked.waits().await;
    assert!((1500..10_000).contains(&waits[0]), "{waits:?}");
    assert_eq!(asked.model.calls().await[0].entry["ended"], "abandoned", "the silent call was closed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_never_begins_is_asked_again_after_the_first_token_timeout() {
    let (dir, model) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let launch = Launch::new(dir.path()).model(&model.base_url());
    let server = launch.env("MILLHAND_MODEL__FIRST_TOKEN_TIMEOUT", "1s").start().await;
    model.faults(json!([{"kind": "stall", "times": 1, "after": 0}])).await;
    let asked = Asked { _dir: dir, model, server };
    let (job, log) = asked.ask("late 迟到 tokens=9").await;
    assert_eq!((job["status"].as_str(), count(&log, "output_text.reset")), (Some("completed"), 0), "{job}");
    let waits = asked.waits().await;
    assert!((1000..10_000).contains(&waits[0]), "{waits:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_provider_says_of_its_limits_is_in_the_metrics() {
    for dialect in ["openai", "anthropic"] {
        let asked = with_faults(json!([])).await;
        asked
            .model
            .control(json!({"dialect": dialect, "quota": {"mode": "window", "requests_per_minute": 50}}))
            .await;
        asked.ask("known tokens=3").await;
        assert_eq!(asked.server.metric("millhand_worker_model_limit_units").await, 50.0, "{dialect}");
        assert_eq!(asked.server.metric("millhand_worker_model_remaining_units").await, 49.0, "{dialect}");
    }
}
