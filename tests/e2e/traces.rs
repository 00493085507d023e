//! One trace per job, from the HTTP request across the queue to every model call.

use serde_json::json;

use millhand_tests::collector::{Collector, Span};
use millhand_tests::documents::add;
use millhand_tests::{Client, Launch, Provider, wait_for};

use crate::cluster::Cluster;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SENDER: &str = "00f067aa0ba902b7";

/// Submits as somebody would who has a trace already.
async fn submit(client: &Client, body: serde_json::Value) -> String {
    let request = client.request("POST", "/v1/jobs").json(&body);
    let request = request.header("traceparent", format!("00-{TRACE}-{SENDER}-01"));
    let answer = client.send(request).await.unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text);
    answer.json()["id"].as_str().unwrap().to_owned()
}

/// The spans of the sender's trace, once there are `count`.
async fn spans(collector: &Collector, count: usize) -> Vec<Span> {
    let own = || collector.spans().into_iter().filter(|span| span.trace == TRACE).collect::<Vec<_>>();
    wait_for("the trace to be exported", async || (own().len() >= count).then_some(())).await;
    own()
}

fn named<'a>(spans: &'a [Span], name: &str) -> &'a Span {
    let mut found = spans.iter().filter(|span| span.name == name);
    let span = found.next().unwrap_or_else(|| panic!("no `{name}` in {spans:#?}"));
    assert!(found.next().is_none(), "two of `{name}` in {spans:#?}");
    span
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_is_one_trace_over_two_processes() {
    let (cluster, model, collector) =
        futures::join!(Cluster::on_rabbitmq(), Provider::start(), Collector::start());
    let launch = |role| {
        let launch = cluster.launch(role).model(&model.base_url());
        let launch = launch.env("MILLHAND_TELEMETRY__OTLP_ENDPOINT", collector.url());
        let launch = launch.env("MILLHAND_EMBEDDER__BASE_URL", model.base_url());
        let launch = launch.env("MILLHAND_EMBEDDER__NAME", "embed-1");
        launch.env("MILLHAND_RERANKER__BASE_URL", model.base_url()).env("MILLHAND_RERANKER__NAME", "rerank-1")
    };
    let (api, worker) = (launch("api"), launch("worker"));
    let (api, worker) = futures::join!(api.start(), worker.start());
    // Two passages, so that there is something to rank.
    for (name, text) in [
        ("渡轮", "渡轮每四十分钟从橡树港出发一班。自行车票价为三克朗。"),
        ("船员", "船员共有五人，船长住在橡树港。"),
    ] {
        let document = json!({"name": name, "text": text});
        let added = api.client.post("/v1/collections/ferry/documents", &document).await;
        assert_eq!(added.status, 202, "{}", added.text);
        api.client.finished(added.json()["id"].as_str().unwrap()).await;
    }

    let asked =
        json!({"input": "自行车票价是多少？canary-question", "collection": "ferry", "max_output_tokens": 99});
    let job = submit(&api.client, asked).await;
    let ended = api.client.finished(&job).await;
    assert_eq!(ended["status"], "completed", "{ended}");
    let metrics = worker.metrics().await;
    for operation in ["embeddings", "rerank"] {
        for name in ["gen_ai_client_operation_duration_seconds_count", "gen_ai_client_token_usage_count"] {
            let label = format!("gen_ai_operation_name=\"{operation}\"");
            let is_told = metrics.lines().any(|line| line.starts_with(name) && line.contains(&label));
            assert!(is_told, "{name} of {operation}: {metrics}");
        }
    }
    let (api_ended, worker_ended) = futures::join!(api.sigterm(), worker.sigterm());
    assert_eq!((api_ended.0.code(), worker_ended.0.code()), (Some(0), Some(0)), "{worker_ended:?}");

    // All of it is there when both have ended: what was left went out on the way.
    let spans = spans(&collector, 7).await;
    let request = named(&spans, "POST /v1/jobs");
    assert_eq!((request.parent.as_str(), request.role.as_str()), (SENDER, "api"));
    assert_eq!(request.says("http.response.status_code"), "202");
    let queue = "millhand.jobs.interactive";
    let sent = named(&spans, &format!("send {queue}"));
    assert_eq!((&sent.parent, sent.role.as_str(), sent.failed), (&request.id, "api", false));
    for (key, value) in [
        ("messaging.system", "rabbitmq"),
        ("messaging.operation.type", "send"),
        ("messaging.destination.name", queue),
        ("job.id", &job),
    ] {
        assert_eq!(sent.says(key), value, "{key}: {sent:#?}");
    }
    let agent = named(&spans, "invoke_agent rag");
    assert!(agent.links.is_empty(), "it is the first attempt: {agent:#?}");
    assert_eq!((&agent.parent, agent.role.as_str()), (&request.id, "worker"));
    assert_eq!((agent.says("job.id"), agent.says("job.attempt")), (job.as_str(), "1"));
    let retrieval = named(&spans, "retrieval");
    assert_eq!(retrieval.parent, agent.id);
    let embeddings = named(&spans, "embeddings embed-1");
    assert_eq!(embeddings.parent, retrieval.id);
    let rerank = named(&spans, "rerank rerank-1");
    assert_eq!((&rerank.parent, rerank.says("gen_ai.operation.name")), (&retrieval.id, "rerank"));
    assert_eq!(rerank.says("gen_ai.response.model"), "rerank-1");
    let chat = named(&spans, "chat fake-1");
    assert_eq!((&chat.parent, chat.role.as_str(), chat.failed), (&agent.id, "worker", false));
    assert!(chat.nanos > 0 && chat.nanos <= agent.nanos, "{chat:?}");
    let read = |span: &Span| span.says("gen_ai.usage.input_tokens").parse::<u64>().unwrap();
    let all = read(embeddings) + read(rerank) + read(chat);
    assert_eq!(ended["usage"]["input_tokens"], all, "usage is of all calls: {ended}");
    for (key, value) in [
        ("gen_ai.operation.name", "chat"),
        ("gen_ai.provider.name", "openai"),
        ("gen_ai.request.model", "fake-1"),
        ("gen_ai.response.model", "fake-1"),
        ("gen_ai.request.max_tokens", "99"),
        ("gen_ai.response.finish_reasons", "stop"),
        ("gen_ai.usage.output_tokens", &ended["usage"]["output_tokens"].to_string()),
        ("server.address", "127.0.0.1"),
    ] {
        assert_eq!(chat.says(key), value, "{key}: {chat:#?}");
    }
    // The provider was told of the very span that was exported.
    let call = model.calls_for("canary-question").await.pop().unwrap();
    assert_eq!(call.traceparent, Some(format!("00-{TRACE}-{}-01", chat.id)));
    assert!(collector.spans().iter().any(|span| span.name == "ingest"));
    assert!(collector.spans().iter().all(|span| span.events == 0));
    let answer = ended["output"]["text"].as_str().unwrap();
    for secret in ["canary-question", "sk-canary-key-5f1c", "三克朗", answer] {
        assert!(!collector.got(secret), "`{secret}` left the process");
    }
    for (log, whose) in [(api_ended.1, "api"), (worker_ended.1, "worker")] {
        assert!(!log.contains("invoke_agent") && !log.contains("otel"), "{whose} logs spans: {log}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_model_asks_for_is_a_span_of_its_own() {
    let (dir, model, collector) =
        (tempfile::tempdir().unwrap(), Provider::start().await, Collector::start().await);
    let launch = Launch::new(dir.path()).model(&model.base_url());
    let server = launch.env("MILLHAND_TELEMETRY__OTLP_ENDPOINT", collector.url()).start().await;
    add(&server.client, "ferry", "fares.md", "# Fares\n\nA bicycle costs three crowns on every crossing.\n")
        .await;
    let asked = json!({"input": "What does a bicycle cost?", "agent": "react", "collection": "ferry"});
    let job = submit(&server.client, asked).await;
    assert_eq!(server.client.finished(&job).await["status"], "completed");
    assert_eq!(server.metric("gen_ai_execute_tool_duration_seconds_count").await, 1.0);
    let (status, log) = server.sigterm().await;
    assert_eq!(status.code(), Some(0), "{log}");
    let spans = spans(&collector, 6).await;
    let agent = named(&spans, "invoke_agent react");
    let tool = named(&spans, "execute_tool search_documents");
    assert_eq!((&tool.parent, tool.says("gen_ai.tool.name")), (&agent.id, "search_documents"));
    assert_eq!(named(&spans, "retrieval").parent, tool.id);
    let calls = spans.iter().filter(|span| span.name == "chat fake-1" && span.parent == agent.id);
    assert_eq!(calls.count(), 2, "one asks, one answers: {spans:#?}");
}

/// A process that stops gives its job back, and the next one says what it goes on from.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_attempt_is_linked_to_the_one_before_it() {
    let (dir, model, collector) =
        (tempfile::tempdir().unwrap(), Provider::start().await, Collector::start().await);
    let launch = Launch::new(dir.path()).model(&model.base_url());
    let launch = launch.env("MILLHAND_TELEMETRY__OTLP_ENDPOINT", collector.url());
    let hasty = launch.clone().env("MILLHAND_WORKER__DRAIN_TIMEOUT", "100ms");
    let server = hasty.start().await;
    model.control(json!({"physics": {"first_token": "15s"}})).await;
    let job = submit(&server.client, json!({"input": "接着 tokens=2", "agent": "chat"})).await;
    wait_for("its call", async || (!model.calls_for("接着").await.is_empty()).then_some(())).await;
    let (status, log) = server.sigterm().await;
    assert_eq!(status.code(), Some(0), "{log}");
    model.control(json!({"physics": {"first_token": "0ms"}})).await;
    let server = launch.start().await;
    assert_eq!(server.client.finished(&job).await["status"], "completed");
    server.sigterm().await;
    let spans = spans(&collector, 6).await;
    let attempt = |number: &str| {
        let mut own = spans.iter().filter(|span| span.says("job.attempt") == number);
        own.next().unwrap_or_else(|| panic!("no attempt {number}: {spans:#?}"))
    };
    let (first, second) = (attempt("1"), attempt("2"));
    assert_eq!((first.links.len(), &second.links), (0, &vec![first.id.clone()]));
    assert_eq!(first.parent, second.parent, "both are of the request");
}

/// The usual variable, a call that fails, and a sender that wants no trace.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_call_says_so_and_an_unsampled_trace_is_not_exported() {
    let (dir, model, collector) =
        (tempfile::tempdir().unwrap(), Provider::start().await, Collector::start().await);
    let launch = Launch::new(dir.path()).model(&model.base_url());
    let server = launch.env("OTEL_EXPORTER_OTLP_ENDPOINT", format!("{}/", collector.url())).start().await;
    model.faults(json!([{"kind": "error", "status": 400, "when": "refused"}])).await;
    let unwanted = "11111111111111111111111111111111";
    let request =
        server.client.request("POST", "/v1/jobs").json(&json!({"input": "静 tokens=2", "agent": "chat"}));
    let request = request.header("traceparent", format!("00-{unwanted}-{SENDER}-00"));
    let silent = server.client.send(request).await.unwrap().json()["id"].as_str().unwrap().to_owned();
    assert_eq!(server.client.finished(&silent).await["status"], "completed");
    let job = submit(&server.client, json!({"input": "refused", "agent": "chat"})).await;
    assert_eq!(server.client.finished(&job).await["status"], "failed");
    let (status, log) = server.sigterm().await;
    assert_eq!(status.code(), Some(0), "{log}");
    let spans = spans(&collector, 3).await;
    let chat = named(&spans, "chat fake-1");
    assert_eq!((chat.failed, chat.says("error.type")), (true, "rejected"), "{chat:#?}");
    assert_eq!(chat.parent, named(&spans, "invoke_agent chat").id);
    assert!(collector.spans().iter().all(|span| span.trace != unwanted));
}

/// A collector that is away costs spans, not jobs, and does not hold up the end.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_collector_that_is_away_hurts_nobody() {
    let (dir, model) = (tempfile::tempdir().unwrap(), Provider::start().await);
    // It takes connections and never answers.
    let deaf = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let endpoint = format!("http://{}", deaf.local_addr().unwrap());
    let launch = Launch::new(dir.path()).model(&model.base_url());
    let server = launch.env("MILLHAND_TELEMETRY__OTLP_ENDPOINT", endpoint).start().await;
    for n in 0..3 {
        let job = server.client.chat(&format!("问{n} tokens=3")).await;
        assert_eq!(server.client.finished(&job).await["status"], "completed");
    }
    let (status, log) = server.sigterm().await;
    assert_eq!(status.code(), Some(0), "{log}");
    assert!(log.contains("not exported"), "it says so: {log}");
}
