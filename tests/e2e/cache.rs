//! The same question to a deterministic agent is paid for once: later it is answered from what is kept, and
//! meanwhile those who ask wait for the one call. Sampled answers are never shared.

use futures::future::join_all;
use serde_json::{Value, json};

use millhand_tests::client::id;
use millhand_tests::documents::{add, check_citations};
use millhand_tests::log::check_log;
use millhand_tests::provider::answer_to;
use millhand_tests::servers::{Kind, Queue, Redis};
use millhand_tests::{Client, Launch, Provider, Server, wait_for};

const FERRY: &str = "# Ferry handbook ⛴\n\nThe ferry leaves Oakport every forty minutes. 渡轮很蓝。\nA bicycle costs \
                     three crowns.\n";

/// A launch whose agents `rag` and `chat` are deterministic.
fn cold(launch: Launch, model: &Provider) -> Launch {
    launch
        .model(&model.base_url())
        .env("MILLHAND_AGENTS__RAG__TEMPERATURE", "0")
        .env("MILLHAND_AGENTS__CHAT__TEMPERATURE", "0")
}

/// The job and its log at the end.
async fn ask(client: &Client, question: Value) -> (Value, Vec<String>) {
    let job = client.finished(&client.submit(question).await).await;
    let log = client.log(&id(&job), 0).await;
    check_log(&job, &log);
    (job, log)
}

/// An answer that was called for, or one that was given without a call.
fn check_paid(job: &Value, log: &[String], paid: bool) {
    assert_eq!(job["status"], "completed", "{job}");
    let usage = &job["usage"];
    assert_eq!(usage["input_tokens"].as_u64() > Some(0), paid, "{job}");
    assert_eq!(usage["output_tokens"].as_u64() > Some(0), paid, "{job}");
    let ended = log.iter().find(|event| event.contains("step.completed") && event.contains("model_call"));
    let ended: Value = serde_json::from_str(ended.expect("its step has ended")).unwrap();
    let calls = log.iter().filter(|event| event.contains(r#""type":"model.called""#)).count();
    let expected = if paid { (1, Value::Null) } else { (0, json!(true)) };
    assert_eq!((calls, ended["data"]["result"]["cached"].clone()), expected, "{ended}");
}

async fn results(server: &Server, result: &str) -> f64 {
    let name = format!("millhand_cache_results_total{{result=\"{result}\"}}");
    let metrics = server.metrics().await;
    let line = metrics.lines().find_map(|line| line.strip_prefix(&name)?.trim().parse().ok());
    line.unwrap_or(0.0)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_same_question_to_a_deterministic_agent_is_paid_for_once_and_cites_the_same() {
    let (dir, model) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let server = cold(Launch::new(dir.path()), &model).start().await;
    let client = &server.client;
    add(client, "ferry", "ferry.md", FERRY).await;
    let question = json!({"input": "What does a bicycle cost on the ferry?", "collection": "ferry"});
    let (first, log) = ask(client, question.clone()).await;
    check_paid(&first, &log, true);
    assert!(check_citations(client, &first).await[0]["quote"].as_str().unwrap().contains("three crowns"));
    for _ in 0..2 {
        let (again, log) = ask(client, question.clone()).await;
        check_paid(&again, &log, false);
        assert_eq!(again["output"], first["output"]);
    }
    assert_eq!(model.calls().await.len(), 1);
    assert_eq!((results(&server, "miss").await, results(&server, "hit").await), (1.0, 2.0));
    let usage = client.get("/v1/usage?by=model").await.json();
    assert_eq!(usage["data"][0]["calls"], 1, "{usage}");
    assert_eq!(usage["data"][0]["input_tokens"], first["usage"]["input_tokens"], "{usage}");

    // Anything else is another call: another question, another bound, a turn that has a history.
    let others = [
        json!({"input": "When does the ferry leave Oakport?", "collection": "ferry"}),
        json!({"input": question["input"], "collection": "ferry", "max_output_tokens": 500}),
        json!({"input": question["input"], "collection": "ferry", "conversation_id": first["conversation_id"]}),
    ];
    for (made, other) in others.into_iter().enumerate() {
        let (job, log) = ask(client, other).await;
        check_paid(&job, &log, true);
        assert_eq!(model.calls().await.len(), made + 2);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn sampled_agents_and_those_that_opt_out_make_every_call() {
    let (dir, model) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let launch = cold(Launch::new(dir.path()), &model)
        .env("MILLHAND_AGENTS__CHAT__TEMPERATURE", "0.7")
        .env("MILLHAND_AGENTS__PLAIN__KIND", "chat")
        .env("MILLHAND_AGENTS__FRESH__KIND", "chat")
        .env("MILLHAND_AGENTS__FRESH__TEMPERATURE", "0")
        .env("MILLHAND_AGENTS__FRESH__CACHE", "false");
    let server = launch.start().await;
    for agent in ["chat", "plain", "fresh"] {
        let question = json!({"input": format!("{agent} 同样 tokens=3"), "agent": agent});
        for _ in 0..2 {
            let (job, log) = ask(&server.client, question.clone()).await;
            check_paid(&job, &log, true);
        }
        assert_eq!(model.calls_for(agent).await.len(), 2, "{agent}");
    }
    assert_eq!(server.metric("millhand_cache_results_total").await, 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn when_a_document_is_replaced_the_answer_is_fresh() {
    let (dir, model) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let server = cold(Launch::new(dir.path()), &model).start().await;
    let client = &server.client;
    let question = json!({"input": "What does a bicycle cost on the ferry?", "collection": "ferry"});
    let mut documents = Vec::new();
    // The third is the first again: the same text in another version.
    for price in ["three", "seven", "three"] {
        add(client, "ferry", "ferry.md", &FERRY.replace("three", price)).await;
        for paid in [true, false] {
            let (job, log) = ask(client, question.clone()).await;
            check_paid(&job, &log, paid);
            let citations = check_citations(client, &job).await;
            assert!(citations[0]["quote"].as_str().unwrap().contains(price), "{job}");
            documents.push(citations[0]["document_id"].clone());
        }
    }
    assert_eq!(model.calls().await.len(), 3);
    assert!(documents.chunks(2).all(|pair| pair[0] == pair[1]), "{documents:?}");
    assert!(documents[0] != documents[2] && documents[0] != documents[4], "{documents:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_that_is_cancelled_leaves_its_call_to_a_follower() {
    let (dir, model) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let server = cold(Launch::new(dir.path()), &model).start().await;
    let question = "led 带头 tokens=100 gap=50";
    let leader = server.client.chat(question).await;
    wait_for("its call", async || (!model.calls().await.is_empty()).then_some(())).await;
    let follower = server.client.chat(question).await;
    server.client.reaches(&follower, "in_progress").await;
    let written = async || model.calls().await[0].entry["output_tokens"].as_u64();
    wait_for("the answer to go on", async || (written().await > Some(30)).then_some(())).await;
    assert_eq!(model.calls().await.len(), 1, "the follower waits");
    let cancelled = server.client.post(&format!("/v1/jobs/{leader}/cancel"), &json!({})).await;
    assert_eq!(cancelled.status, 200, "{}", cancelled.text);
    let follower = server.client.finished(&follower).await;
    assert_eq!(follower["output"]["text"], answer_to(question), "{follower}");
    assert_eq!(server.client.finished(&leader).await["status"], "cancelled");
    let ended: Vec<Value> = model.calls().await.iter().map(|call| call.entry["ended"].clone()).collect();
    assert_eq!(ended, ["abandoned", "finished"]);
}

/// All who ask it get the same failure or none: one that passes is not shared, one that does not is.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failure_that_passes_is_not_shared_and_a_refusal_of_the_request_is() {
    let (dir, model) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let server = cold(Launch::new(dir.path()), &model).start().await;
    // All that one attempt makes by itself.
    model.faults(json!([{"kind": "error", "status": 503, "times": 3}])).await;
    let question = "passes 暂时 tokens=4";
    let jobs = join_all((0..4).map(|_| server.client.chat(question))).await;
    for job in join_all(jobs.iter().map(|job| server.client.finished(job))).await {
        assert_eq!(job["output"]["text"], answer_to(question), "{job}");
    }
    assert_eq!(model.calls_for("passes").await.len(), 4);

    model.faults(json!([{"kind": "error", "status": 400, "when": "stays"}])).await;
    let jobs = join_all((0..4).map(|_| server.client.chat("stays 永久 tokens=4"))).await;
    for job in join_all(jobs.iter().map(|job| server.client.finished(job))).await {
        assert_eq!(
            (&job["status"], &job["error"]["code"]),
            (&json!("failed"), &json!("model_error")),
            "{job}"
        );
    }
    assert_eq!(model.calls_for("stays").await.len(), 1);
}

struct Cluster {
    redis: Redis,
    queue: Queue,
    model: Provider,
}

impl Cluster {
    async fn start() -> Self {
        let (redis, queue, model) =
            futures::join!(Redis::start(), Queue::start(Kind::RabbitMq), Provider::start());
        Self { redis, queue, model }
    }

    fn launch(&self, role: &'static str) -> Launch {
        let launch = Launch::shared(role).cluster(self.queue.kind(), &self.queue.url(), &self.redis.url());
        cold(launch, &self.model)
    }

    /// Both workers have jobs.
    async fn both_work(&self, workers: [&Server; 2]) {
        wait_for("both workers to have jobs", async || {
            for worker in workers {
                if worker.metric("millhand_worker_running_jobs").await < 2.0 {
                    return None;
                }
            }
            Some(())
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn twenty_at_once_on_two_workers_share_one_call() {
    let cluster = Cluster::start().await;
    let worker = cluster.launch("worker").arg("--slots").arg("12");
    let api = cluster.launch("api");
    let (api, one, two) = futures::join!(api.start(), worker.start(), worker.start());
    let question = "together 一起 tokens=60 gap=100";
    let jobs = join_all((0..20).map(|_| api.client.chat(question))).await;
    cluster.both_work([&one, &two]).await;
    let mut paid = 0;
    for job in join_all(jobs.iter().map(|job| api.client.finished(job))).await {
        assert_eq!(job["output"]["text"], answer_to(question), "{job}");
        let log = api.client.log(&id(&job), 0).await;
        check_log(&job, &log);
        let is_paid = job["usage"]["output_tokens"].as_u64() > Some(0);
        check_paid(&job, &log, is_paid);
        paid += u32::from(is_paid);
    }
    assert_eq!((paid, cluster.model.calls().await.len()), (1, 1));
    let (mut misses, mut flights, mut all) = (0.0, 0.0, 0.0);
    for worker in [&one, &two] {
        misses += results(worker, "miss").await;
        flights += results(worker, "flight").await;
        all += worker.metric("millhand_cache_results_total").await;
    }
    assert_eq!((misses, all), (1.0, 20.0));
    assert!(flights > 10.0, "{flights} of 20 waited for the one call");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_killed_in_its_call_is_replaced_by_a_follower() {
    let cluster = Cluster::start().await;
    let worker = cluster.launch("worker").arg("--slots").arg("5");
    let api = cluster.launch("api");
    let (api, one, two) = futures::join!(api.start(), worker.start(), worker.start());
    let question = "doomed 领头 tokens=60 gap=60";
    let jobs = join_all((0..8).map(|_| api.client.chat(question))).await;
    cluster.both_work([&one, &two]).await;
    wait_for("the call", async || (!cluster.model.calls().await.is_empty()).then_some(())).await;
    let leads = results(&one, "miss").await > 0.0;
    let (leader, survivor) = if leads { (one, two) } else { (two, one) };
    leader.kill9().await;
    for job in join_all(jobs.iter().map(|job| api.client.finished(job))).await {
        assert_eq!(job["output"]["text"], answer_to(question), "{job}");
        check_log(&job, &api.client.log(&id(&job), 0).await);
    }
    let ended: Vec<Value> =
        cluster.model.calls().await.iter().map(|call| call.entry["ended"].clone()).collect();
    assert_eq!(ended, ["abandoned", "finished"]);
    assert_eq!(results(&survivor, "miss").await, 1.0);
}
