//! Several models: who answers, what a sick one costs, and what happens when none is left.

use std::time::Duration;

use futures::future::join_all;
use serde_json::{Value, json};
use tokio::time::Instant;

use millhand_tests::client::id;
use millhand_tests::documents::{add, check_citations};
use millhand_tests::log::check_log;
use millhand_tests::provider::answer_to;
use millhand_tests::{Launch, Provider, Server, wait_for};

/// A server with the pools `default` (`fake-1`) and `spare` (`fake-2`) and the class `smart`, which both
/// built-in agents ask.
struct Routed {
    _dir: tempfile::TempDir,
    first: Provider,
    spare: Provider,
    server: Server,
}

impl Routed {
    /// `route`: keys of `[routes.smart]` by their variables.
    async fn start(route: &[(&str, &str)]) -> Self {
        Self::with_spare(Provider::start().await, route, &[]).await
    }

    async fn with_spare(spare: Provider, route: &[(&str, &str)], more: &[(&str, &str)]) -> Self {
        let (dir, first) = (tempfile::tempdir().unwrap(), Provider::start().await);
        let launch = launch(&dir, &first, &spare);
        let launch = route.iter().fold(launch, |launch, (key, value)| {
            launch.env(&format!("MILLHAND_ROUTES__SMART__{key}"), *value)
        });
        let launch = more.iter().fold(launch, |launch, (key, value)| launch.env(key, *value));
        let server = launch.start().await;
        Self { _dir: dir, first, spare, server }
    }

    async fn end(&self, job: &str) -> (Value, Vec<String>) {
        let record = self.server.client.finished(job).await;
        let log = self.server.client.log(job, 0).await;
        check_log(&record, &log);
        (record, log)
    }

    async fn ask(&self, question: &str) -> (Value, Vec<String>) {
        self.end(&self.server.client.chat(question).await).await
    }

    /// Calls that each provider has seen.
    async fn calls(&self) -> (usize, usize) {
        (self.first.calls().await.len(), self.spare.calls().await.len())
    }
}

fn launch(dir: &tempfile::TempDir, first: &Provider, spare: &Provider) -> Launch {
    Launch::new(dir.path())
        .model(&first.base_url())
        .env("MILLHAND_MODELS__SPARE__BASE_URL", spare.base_url())
        .env("MILLHAND_MODELS__SPARE__NAME", "fake-2")
        .env("MILLHAND_AGENTS__CHAT__MODEL", "smart")
        .env("MILLHAND_AGENTS__RAG__MODEL", "smart")
}

const FALLBACK: [(&str, &str); 2] = [("POOLS__DEFAULT", "1"), ("FALLBACK", "[\"spare\"]")];

fn only(on_unavailable: &str) -> [(&str, &str); 2] {
    [("POOLS__DEFAULT", "1"), ("ON_UNAVAILABLE", on_unavailable)]
}

fn is_answer(job: &Value, question: &str) {
    let text = (job["status"].as_str(), &job["output"]["text"]);
    assert_eq!(text, (Some("completed"), &json!(answer_to(question))), "{job}");
}

/// A pool whose calls all fail is called a few times, then left alone, then found well again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sick_pool_is_left_alone_its_fallback_answers_and_it_comes_back() {
    let routed = Routed::start(&FALLBACK).await;
    routed.first.faults(json!([{"kind": "error"}])).await;
    for wave in 0..20 {
        let asked: Vec<_> = (0..4).map(|n| format!("q{wave}.{n} tokens=4")).collect();
        for (question, (job, log)) in
            asked.iter().zip(join_all(asked.iter().map(|question| routed.ask(question))).await)
        {
            is_answer(&job, question);
            assert!(log.iter().any(|event| event.contains("\"model\":\"fake-2\"")), "{log:#?}");
            assert_eq!(job["attempt"], 1, "{job}");
        }
    }
    let (sick, spare) = routed.calls().await;
    println!("{sick} calls of 80 jobs reached the sick pool");
    assert!((20..=32).contains(&sick), "{sick} calls reached the sick pool");
    assert_eq!(spare, 80);
    assert_eq!(routed.server.metric("millhand_model_fallbacks_total").await, 80.0);
    assert!(routed.server.metric("millhand_model_breaker_state").await > 0.0);

    routed.first.faults(json!([])).await;
    wait_for("the first pool to answer again", || async {
        is_answer(&routed.ask("again tokens=2").await.0, "again tokens=2");
        routed.first.calls().await.iter().any(|call| call.status == 200).then_some(())
    })
    .await;
    let (_, before) = routed.calls().await;
    is_answer(&routed.ask("well tokens=2").await.0, "well tokens=2");
    assert_eq!(
        (routed.calls().await.1, routed.server.metric("millhand_model_breaker_state").await),
        (before, 0.0)
    );
}

/// Two models' words are never joined: what was shown is taken back before another one speaks.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_that_breaks_off_is_taken_back_before_another_model_speaks() {
    let routed = Routed::start(&FALLBACK).await;
    routed.first.faults(json!([{"kind": "cut", "after": 6}])).await;
    let question = "cut 断开 tokens=12 gap=10";
    let (job, log) = routed.ask(question).await;
    is_answer(&job, question);
    let resets = log.iter().filter(|event| event.contains("output_text.reset")).count();
    assert_eq!((resets, routed.calls().await), (2, (2, 1)), "{log:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_account_without_credit_is_asked_once_and_left_alone() {
    for dialect in ["openai", "azure", "anthropic"] {
        let routed = Routed::start(&FALLBACK).await;
        routed.first.control(json!({"dialect": dialect, "faults": [{"kind": "insufficient_quota"}]})).await;
        for n in 0..5 {
            let question = format!("unpaid{n} tokens=3");
            is_answer(&routed.ask(&question).await.0, &question);
        }
        assert_eq!(routed.calls().await, (1, 5), "{dialect}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rate_limit_of_minutes_is_not_waited_for_while_another_pool_may_answer() {
    let routed = Routed::start(&FALLBACK).await;
    routed.first.faults(json!([{"kind": "rate_limited", "retry_after": 300}])).await;
    let (job, _) = routed.ask("long tokens=3").await;
    is_answer(&job, "long tokens=3");
    assert_eq!((job["attempt"].as_u64(), routed.calls().await), (Some(1), (1, 1)));
    routed.first.faults(json!([{"kind": "rate_limited", "retry_after": 1, "times": 1}])).await;
    let (job, _) = routed.ask("short tokens=3").await;
    is_answer(&job, "short tokens=3");
    assert_eq!(routed.calls().await, (3, 1), "a short one is waited for");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_request_that_is_refused_for_itself_goes_nowhere_else() {
    let routed = Routed::start(&FALLBACK).await;
    routed.first.faults(json!([{"kind": "error", "status": 422}])).await;
    let (job, _) = routed.ask("wrong tokens=3").await;
    assert_eq!(
        (job["status"].as_str(), job["error"]["code"].as_str()),
        (Some("failed"), Some("model_error"))
    );
    assert_eq!(routed.calls().await, (1, 0));
}

/// The share of a canary, and a conversation that stays where it began.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn weights_are_shares_and_a_conversation_stays_with_its_model() {
    const JOBS: usize = 200;
    let routed = Routed::start(&[("POOLS__DEFAULT", "80"), ("POOLS__SPARE", "20")]).await;
    let asked: Vec<_> = (0..JOBS).map(|n| format!("c{n} tokens=2")).collect();
    let ended = join_all(asked.iter().map(|question| routed.ask(question))).await;
    let (first, canary) = routed.calls().await;
    println!("{canary} of {JOBS} jobs went to the canary");
    assert_eq!(first + canary, JOBS);
    // Four standard deviations around 40.
    assert!((17..=63).contains(&canary), "{canary} of {JOBS} jobs went to the canary");
    let went_to_canary = |log: &[String]| log.iter().any(|event| event.contains("\"model\":\"fake-2\""));
    for (job, log) in ended.iter().take(20) {
        let next =
            json!({"input": "more tokens=2", "agent": "chat", "conversation_id": job["conversation_id"]});
        let (_, next) = routed.end(&routed.server.client.submit(next).await).await;
        assert_eq!(went_to_canary(log), went_to_canary(&next), "{job}");
    }
}

/// A fallback reserves its own quota first: what falls back waits, and exceeds nothing.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_limit_of_a_fallback_is_never_exceeded() {
    const JOBS: usize = 45;
    let spare =
        Provider::with(&["--requests-per-minute", "600", "--first-token", "20ms", "--per-token", "1ms"]);
    let limit = ("MILLHAND_MODELS__SPARE__LIMITS__REQUESTS_PER_MINUTE", "600");
    let routed = Routed::with_spare(spare.await, &FALLBACK, &[limit]).await;
    routed.first.faults(json!([{"kind": "error"}])).await;
    let started = Instant::now();
    let asked: Vec<_> = (0..JOBS).map(|n| format!("f{n} tokens=3")).collect();
    for (question, (job, _)) in
        asked.iter().zip(join_all(asked.iter().map(|question| routed.ask(question))).await)
    {
        is_answer(&job, question);
    }
    let ledger = routed.spare.ledger().await;
    assert_eq!((&ledger["totals"]["limited"], &ledger["totals"]["let_in"]), (&json!(0), &json!(JOBS)));
    assert_eq!(ledger["limits"][0]["overdrawn"], 0, "{}", ledger["limits"]);
    assert!(started.elapsed() > Duration::from_secs(2), "45 calls at 10 a second, after a burst of ten");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_pool_a_job_fails_where_it_shall_and_says_why() {
    let routed = Routed::start(&only("fail")).await;
    routed.first.faults(json!([{"kind": "insufficient_quota"}])).await;
    for n in 0..3 {
        let (job, _) = routed.ask(&format!("fail{n} tokens=3")).await;
        assert_eq!(job["error"]["code"], "model_unavailable", "{job}");
        let message = job["error"]["message"].as_str().unwrap();
        assert!(message.contains("class `smart`") && message.contains("no credit"), "{job}");
    }
    assert_eq!(routed.calls().await, (1, 0));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_pool_documents_are_quoted_where_they_shall_be() {
    // The agent `chat` has nothing to quote: it stays with the default.
    let dir = tempfile::tempdir().unwrap();
    let first = Provider::start().await;
    let launch = Launch::new(dir.path()).model(&first.base_url()).env("MILLHAND_AGENTS__RAG__MODEL", "smart");
    let launch = only("extractive")
        .iter()
        .fold(launch, |launch, (key, value)| launch.env(&format!("MILLHAND_ROUTES__SMART__{key}"), *value));
    let server = launch.start().await;
    add(&server.client, "ferry", "ferry.md", "# Ferry\n\nA bicycle costs three crowns.\n").await;
    first.faults(json!([{"kind": "error", "status": 503}])).await;
    let body = json!({"input": "What does a bicycle cost on the ferry?", "collection": "ferry"});
    let job = server.client.finished(&server.client.submit(body).await).await;
    let log = server.client.log(&id(&job), 0).await;
    check_log(&job, &log);
    assert_eq!(
        (job["status"].as_str(), &job["output"]["answered"]),
        (Some("completed"), &json!(true)),
        "{job}"
    );
    let text = job["output"]["text"].as_str().unwrap();
    assert!(text.starts_with("No language model can be asked now"), "{text}");
    let citations = check_citations(&server.client, &job).await;
    assert_eq!(citations[0]["quote"], "A bicycle costs three crowns.");
    assert!(log.iter().any(|event| event.contains("\"model\":\"extractive\"")), "{log:#?}");
    let usage = server.client.get("/v1/usage?by=model").await.json();
    let row = &usage["data"][0];
    assert_eq!(
        (&row["output_tokens"], &row["cost_usd"]),
        (&json!(0), &json!(0.0)),
        "quotations are free: {usage}"
    );
}

/// The wait is no attempt that failed: it goes on for longer than three of those, and no slot is held.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn without_a_pool_a_job_waits_in_the_queue_until_there_is_one() {
    let routed = Routed::start(&only("wait")).await;
    routed.first.faults(json!([{"kind": "error", "status": 503, "times": 5}])).await;
    let job = routed.server.client.chat("patient tokens=3").await;
    wait_for("the job to wait for a model", || async {
        (routed.server.client.job(&job).await["wait"]["reason"] == "model").then_some(())
    })
    .await;
    let (job, log) = routed.end(&job).await;
    is_answer(&job, "patient tokens=3");
    let count = |what: &str| log.iter().filter(|event| event.contains(what)).count();
    assert_eq!((count("\"reason\":\"model\""), count("\"reason\":\"retry\"")), (5, 0), "{log:#?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_that_waits_for_a_model_ends_by_its_deadline() {
    let routed = Routed::start(&only("wait")).await;
    routed.first.faults(json!([{"kind": "insufficient_quota"}])).await;
    let body = json!({"input": "late tokens=3", "agent": "chat", "deadline_seconds": 3});
    let (job, _) = routed.end(&routed.server.client.submit(body).await).await;
    assert_eq!(job["status"], "expired", "{job}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_class_or_pool_that_is_not_there_stops_the_start() {
    let (dir, first) = (tempfile::tempdir().unwrap(), Provider::start().await);
    for (variable, value, says) in [
        ("MILLHAND_AGENTS__CHAT__MODEL", "clever", "there is no `[routes.clever]`"),
        ("MILLHAND_ROUTES__SMART__FALLBACK", "[\"gone\"]", "there is no `[models.gone]`"),
    ] {
        let launch = launch(&dir, &first, &first).env("MILLHAND_ROUTES__SMART__POOLS__SPARE", "1");
        let (status, log) = launch.env(variable, value).try_start().await.err().unwrap();
        assert!(!status.success() && log.contains(says), "{log}");
    }
}
