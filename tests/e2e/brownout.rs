//! Under a load that lasts, answers go without something and say so; what was done so stays so.

use std::path::Path;

use futures::future::join_all;
use millhand_common::model::Timestamp;
use serde_json::{Value, json};

use millhand_tests::documents::{add, retrieved};
use millhand_tests::log::check_log;
use millhand_tests::{Launch, Provider, Server, wait_for};

/// A model that one slot keeps busy for a third of a second per job.
async fn slow_model() -> Provider {
    Provider::with(&["--first-token", "300ms", "--per-token", "1ms", "--keep-bodies"]).await
}

/// One slot, and a ladder of which every step is taken a second after jobs wait for half a second.
fn launch(dir: &Path, model: &Provider, steps: &str) -> Launch {
    let launch = Launch::new(dir).model(&model.base_url()).arg("--slots").arg("1");
    let at = ["COALESCE", "FEWER_PASSAGES", "SMALLER_MODEL", "REFUSE_BATCH", "REFUSE_ALL"];
    let launch =
        at.iter().fold(launch, |launch, step| launch.env(&format!("MILLHAND_BROWNOUT__{step}_AT"), "0.5"));
    launch
        .env("MILLHAND_BROWNOUT__STEPS", steps)
        .env("MILLHAND_BROWNOUT__LONGEST_WAIT", "1s")
        .env("MILLHAND_BROWNOUT__RISE_AFTER", "1s")
        .env("MILLHAND_BROWNOUT__FALL_AFTER", "1s")
}

/// The same with documents, a reranker, and a smaller model for the agents.
fn with_documents(launch: Launch, model: &Provider) -> Launch {
    launch
        .env("MILLHAND_MODELS__SMALL__BASE_URL", model.base_url())
        .env("MILLHAND_MODELS__SMALL__NAME", "fake-small")
        .env("MILLHAND_ROUTES__DEFAULT__POOLS__DEFAULT", "1")
        .env("MILLHAND_ROUTES__DEFAULT__UNDER_LOAD", "small")
        .env("MILLHAND_ROUTES__SMALL__POOLS__SMALL", "1")
        .env("MILLHAND_RERANKER__BASE_URL", model.base_url())
        .env("MILLHAND_RERANKER__NAME", "millhand-rerank")
}

const QUESTION: &str = "What does the harbour say of ferries?";

/// Eight passages that answer [`QUESTION`] and say different things.
async fn add_documents(server: &Server) {
    let words = ["tickets", "timetables", "bicycles", "storms", "crews", "engines", "lights", "dogs"];
    for word in words {
        let text = format!(
            "# Harbour and {word}\n\nThe harbour says of ferries that {word} matter, and why {word} do.\n"
        );
        add(&server.client, "harbour", &format!("{word}.md"), &text).await;
    }
}

fn question() -> Value {
    json!({"input": QUESTION, "collection": "harbour"})
}

/// Submits this many jobs that each take the slot for a while.
async fn keep_busy(server: &Server, jobs: usize) -> Vec<String> {
    join_all((0..jobs).map(async |n| server.client.chat(&format!("busy{n} tokens=2")).await)).await
}

async fn end(server: &Server, job: &str) -> (Value, Vec<String>) {
    let record = server.client.finished(job).await;
    let log = server.client.log(job, 0).await;
    check_log(&record, &log);
    (record, log)
}

async fn reaches(server: &Server, level: f64) {
    wait_for(&format!("the brownout to be at {level}"), || async {
        let now = server.metric("millhand_brownout_level").await;
        ((now - level).abs() < 0.1).then_some(())
    })
    .await;
}

/// Who was asked to write.
fn models(log: &[String]) -> Vec<String> {
    let events = log.iter().map(|event| serde_json::from_str::<Value>(event).unwrap());
    let called = events.filter(|event| event["type"] == "model.called");
    let names = called.map(|event| event["data"]["model"].as_str().unwrap().to_owned());
    names.filter(|name| name != "millhand-rerank").collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn under_lasting_load_answers_go_without_and_say_so_and_then_no_longer() {
    let (dir, model) = (tempfile::tempdir().unwrap(), slow_model().await);
    let steps = r#"["coalesce", "fewer_passages", "smaller_model", "refuse_batch"]"#;
    let launch = with_documents(launch(dir.path(), &model, steps), &model);
    let server = launch.env("MILLHAND_BROWNOUT__MAX_OUTPUT_TOKENS", "60").start().await;
    add_documents(&server).await;
    let usual = async |why: &str| {
        let (job, log) = end(&server, &server.client.submit(question()).await).await;
        assert_eq!(
            (&job["status"], &job["output"]["degraded"]),
            (&json!("completed"), &Value::Null),
            "{why}: {job}"
        );
        assert!(retrieved(&log).len() > 4, "{why}: {:?}", retrieved(&log));
        assert_eq!(models(&log), ["fake-1"], "{why}");
        retrieved(&log)
    };
    let found = usual("before").await;

    let busy = keep_busy(&server, 24).await;
    let asked = server.client.submit(question()).await;
    let long = server.client.chat("long tokens=200 gap=10").await;
    reaches(&server, 4.0).await;
    let batch = json!({"input": "not now tokens=1", "agent": "chat", "lane": "batch"});
    let refused = server.client.post("/v1/jobs", &batch).await;
    assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("overloaded")), "{}", refused.text);
    assert!(refused.headers.contains_key("retry-after"));

    let (job, log) = end(&server, &asked).await;
    let degraded = job["output"]["degraded"].as_array().unwrap();
    for what in ["fewer_passages", "no_reranker", "smaller_model"] {
        assert!(degraded.contains(&json!(what)), "{job}");
    }
    assert_eq!((retrieved(&log).len(), models(&log)), (4, vec!["fake-small".to_owned()]));
    assert!(retrieved(&log).iter().all(|document| found.contains(document)), "{log:#?}");

    let (job, log) = end(&server, &long).await;
    assert_eq!(
        job["output"]["degraded"],
        json!(["coalesced_tokens", "shorter_answer", "smaller_model"]),
        "{job}"
    );
    assert_eq!((&job["status"], &job["usage"]["output_tokens"]), (&json!("incomplete"), &json!(60)), "{job}");
    let events = log.iter().map(|event| serde_json::from_str::<Value>(event).unwrap());
    let written: Vec<u64> = events
        .filter(|event| event["type"] == "output_text.delta")
        .map(|event| Timestamp::try_from(event["at"].as_str().unwrap().to_owned()).unwrap().as_millis())
        .collect();
    // One for each turn of the job, ten in a second, however late it is taken; the first and the last wait for none.
    let turns = (written[written.len() - 1] - written[0]) / 100 + 1;
    assert!(written.len() > 3 && written.len() as u64 <= turns + 2, "{written:?}");

    join_all(busy.iter().map(|job| server.client.finished(job))).await;
    assert!(server.metric("millhand_worker_degraded_answers_total").await >= 5.0);
    reaches(&server, 0.0).await;
    assert_eq!(usual("after").await, found);
    server.client.submit(batch).await;
}

/// An attempt that died in a brownout is replayed as it was by one that runs without.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_step_that_was_done_in_a_brownout_is_replayed_as_it_was() {
    const BUSY: u32 = 24;
    let (dir, model) = (tempfile::tempdir().unwrap(), slow_model().await);
    {
        let launch = with_documents(launch(dir.path(), &model, "[]"), &model);
        let server = launch.start().await;
        add_documents(&server).await;
        server.sigterm().await;
    }
    // Busy jobs begin a step each; then the question finds its passages, and dies where its call is to be made.
    let crashing = with_documents(launch(dir.path(), &model, r#"["fewer_passages"]"#), &model);
    let server = crashing.crash("step.started", BUSY + 2).start().await;
    keep_busy(&server, BUSY as usize).await;
    let job = server.client.submit(question()).await;
    let (status, _) = server.ended().await;
    assert!(!status.success(), "it was to die");

    let server = with_documents(launch(dir.path(), &model, "[]"), &model).start().await;
    let (record, log) = end(&server, &job).await;
    assert_eq!(record["attempt"], 2, "{record}");
    assert_eq!(record["output"]["degraded"], json!(["fewer_passages", "no_reranker"]), "{record}");
    let found = log.iter().filter(|event| event.contains("\"type\":\"retrieval.completed\""));
    assert_eq!((found.count(), retrieved(&log).len()), (2, 4), "{log:#?}");
    assert!(log.iter().any(|event| event.contains("\"replayed\":true")), "{log:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn at_the_last_step_only_new_jobs_are_refused() {
    let (dir, model) = (tempfile::tempdir().unwrap(), slow_model().await);
    let server = launch(dir.path(), &model, r#"["refuse_all"]"#).start().await;
    let busy = keep_busy(&server, 24).await;
    reaches(&server, 5.0).await;
    let submit = json!({"input": "refused tokens=1", "agent": "chat"});
    let refused = server.client.post("/v1/jobs", &submit).await;
    assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("overloaded")), "{}", refused.text);
    let counted = server.metrics().await;
    assert!(counted.contains(r#"millhand_api_jobs_refused_total{reason="brownout"} 1"#), "{counted}");

    let last = busy.last().unwrap();
    assert_eq!(server.client.get(&format!("/v1/jobs/{last}")).await.status, 200);
    assert_eq!(server.client.post(&format!("/v1/jobs/{last}/cancel"), &json!({})).await.status, 200);
    let resumed = server.client.sse(&busy[0], 1, |_| false).await;
    assert!(resumed.last().unwrap().contains("job.completed"), "{resumed:?}");
    for job in &busy[..busy.len() - 1] {
        let (job, _) = end(&server, job).await;
        assert_eq!(
            (&job["status"], &job["output"]["degraded"]),
            (&json!("completed"), &Value::Null),
            "{job}"
        );
    }
    wait_for("jobs to be accepted again", || async {
        (server.client.post("/v1/jobs", &submit).await.status == 202).then_some(())
    })
    .await;
}
