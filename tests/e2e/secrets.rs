//! Prompts, replies and keys are in no log line and no metric.

use serde_json::json;

use millhand_tests::{Launch, Provider};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_log_line_or_metric_holds_a_prompt_a_reply_or_a_key() {
    let (dir, model) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let launch = Launch::new(dir.path()).model(&model.base_url()).env("RUST_LOG", "trace");
    let server = launch.start().await;
    // The model's echo makes the first canary part of the reply too.
    let prompt = "prompt-canary-金丝雀-8d1f";
    let job = server.client.chat(&format!("{prompt} tokens=5")).await;
    let done = server.client.finished(&job).await;
    assert!(done["output"]["text"].as_str().unwrap().contains(prompt), "the reply holds it: {done}");
    let text = json!({"name": "secret.md", "text": "# X\n\nThe document-canary-77aa is here.\n"});
    let added = server.client.post("/v1/collections/notes/documents", &text).await;
    server.client.finished(&millhand_tests::client::id(&added.json())).await;
    let search =
        server.client.post("/v1/collections/notes/search", &json!({"query": "document-canary-77aa"})).await;
    assert!(search.text.contains("document-canary-77aa"));
    let refused = server.client.post("/v1/jobs", &json!({"input": "body-canary-31bc", "nonsense": 1})).await;
    assert_eq!(refused.status, 422);

    let metrics = server.metrics().await;
    let (status, log) = server.sigterm().await;
    assert!(status.success());
    assert!(log.lines().count() > 10, "it logs something at this level");
    for line in log.lines() {
        assert!(serde_json::from_str::<serde_json::Value>(line).is_ok(), "logs are JSON lines: {line}");
    }
    for canary in [prompt, "document-canary-77aa", "body-canary-31bc", "sk-canary-key-5f1c"] {
        for (place, text) in [("log", &log), ("metric", &metrics)] {
            let found = text.lines().find(|line| line.contains(canary));
            assert_eq!(found, None, "{canary} is in a {place}");
        }
    }
    for name in [
        "millhand_api_jobs_accepted_total",
        "millhand_store_jobs_terminal_total",
        "millhand_worker_model_calls_total",
    ] {
        assert!(metrics.contains(name), "{name} is missing");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_trace_goes_from_the_request_to_the_model() {
    let (dir, model) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let server = Launch::new(dir.path()).model(&model.base_url()).start().await;
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let request = server.client.request("POST", "/v1/jobs");
    let request = request.header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"));
    let answer = server
        .client
        .send(request.json(&json!({"input": "traced tokens=1", "agent": "chat"})))
        .await
        .unwrap();
    server.client.finished(&millhand_tests::client::id(&answer.json())).await;
    let sent = model.calls_for("traced").await.pop().unwrap().traceparent.unwrap_or_default();
    assert!(sent.contains(trace), "{sent}");
}
