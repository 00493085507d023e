//! What model calls cost is booked as the provider bills it, whatever breaks; budgets are kept to the last
//! billionth of a dollar.

use futures::StreamExt;
use futures::future::join_all;
use futures::stream;
use serde_json::{Value, json};

use millhand_tests::documents::add;
use millhand_tests::log::check_log;
use millhand_tests::servers::{RabbitMq, Redis};
use millhand_tests::{Client, Launch, Provider, Server, wait_for};

/// What `millhand provider` bills, in billionths of a dollar for a token.
const INPUT: u64 = 150;
const OUTPUT: u64 = 600;

fn priced(launch: Launch, provider: &Provider) -> Launch {
    launch
        .model(&provider.base_url())
        .env("MILLHAND_PRICES__FAKE-1__INPUT_PER_MILLION", "0.15")
        .env("MILLHAND_PRICES__FAKE-1__OUTPUT_PER_MILLION", "0.60")
        .env("MILLHAND_MODEL__IDLE_TIMEOUT", "1s")
}

/// Our ledger, of the one model: calls, input, output, billionths of a dollar.
async fn booked(client: &Client) -> [u64; 4] {
    let rows = client.get("/v1/usage?by=model").await.json()["data"].clone();
    let Some(row) = rows.as_array().expect("a list").first() else { return [0; 4] };
    assert_eq!((&row["model"], rows.as_array().unwrap().len()), (&json!("fake-1"), 1), "{rows}");
    let count = |key: &str| row[key].as_u64().expect("a count");
    [count("calls"), count("input_tokens"), count("output_tokens"), nano(&row["cost_usd"])]
}

fn nano(dollars: &Value) -> u64 {
    (dollars.as_f64().expect("dollars") * 1e9).round() as u64
}

/// The provider's, once no call runs any more: calls, input, output, billionths of a dollar.
async fn billed(provider: &Provider) -> [u64; 4] {
    wait_for("the provider to have ended all calls", async || {
        let running = provider.calls().await.iter().any(|call| call.entry["ended"] == "running");
        (!running).then_some(())
    })
    .await;
    let totals = provider.ledger().await["totals"].clone();
    ["calls", "input_tokens", "output_tokens", "nano_usd"].map(|key| totals[key].as_u64().expect("a sum"))
}

fn question(n: usize) -> Value {
    json!({"input": format!("问{n} tokens=60"), "agent": "chat", "deadline_seconds": 600})
}

/// Faults of every kind that leaves a bill, and some that leave none.
fn faults() -> Value {
    json!([
        {"kind": "error", "p": 0.05, "status": 500},
        {"kind": "error_body", "p": 0.02},
        {"kind": "cut", "p": 0.05},
        {"kind": "stall", "p": 0.02},
        {"kind": "garbage", "p": 0.02},
        {"kind": "no_end", "p": 0.02},
        {"kind": "no_usage", "p": 0.08},
        {"kind": "empty", "p": 0.01},
    ])
}

fn cluster(role: &'static str, redis: &Redis, rabbit: &RabbitMq, provider: &Provider) -> Launch {
    priced(Launch::shared(role), provider)
        .env("MILLHAND_BROKER__KIND", "rabbitmq")
        .env("MILLHAND_BROKER__URL", rabbit.url())
        .env("MILLHAND_STORE__KIND", "redis")
        .env("MILLHAND_STORE__URL", redis.url())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn our_ledger_agrees_with_the_provider_s_though_calls_break_and_workers_are_killed() {
    const JOBS: usize = 2000;
    let flags = ["--first-token", "40ms", "--per-token", "8ms"];
    let (redis, rabbit, provider) = futures::join!(Redis::start(), RabbitMq::start(), Provider::with(&flags));
    let api = cluster("api", &redis, &rabbit, &provider).start().await;
    let worker = cluster("worker", &redis, &rabbit, &provider).arg("--slots").arg("8");
    let (first, second) = futures::join!(worker.start(), worker.start());
    provider.faults(faults()).await;
    // All of them wait at once, so it is a brownout, in which text is written ten times a second.
    let submits = stream::iter(0..JOBS).map(|n| api.client.submit(question(n)));
    let jobs: Vec<String> = submits.buffered(256).collect().await;
    let breaking = async {
        let mut dying = vec![first, second];
        for _ in 0..3 {
            let before = provider.calls().await.len();
            wait_for("calls", async || (provider.calls().await.len() > before + 400).then_some(())).await;
            let next = worker.start().await;
            dying.remove(0).kill9().await;
            dying.push(next);
        }
        dying
    };
    let cancelling = async {
        for job in jobs.iter().skip(JOBS / 2).step_by(20) {
            api.client.reaches(job, "in_progress").await;
            api.client.post(&format!("/v1/jobs/{job}/cancel"), &json!({})).await;
        }
    };
    let (workers, ()) = futures::join!(breaking, cancelling_or_ended(&api, &jobs, cancelling));
    let mut sum = 0;
    for job in join_all(jobs.iter().map(|job| api.client.finished(job))).await {
        check_log(&job, &api.client.log(job["id"].as_str().unwrap(), 0).await);
        sum += if job["usage"].is_null() { 0 } else { nano(&job["usage"]["cost_usd"]) };
    }
    let (ours, theirs) = (booked(&api.client).await, billed(&provider).await);
    assert_eq!(sum, ours[3], "every job's usage is in the ledger, and nothing else");
    let off = (ours[3] as f64 - theirs[3] as f64) * 100.0 / theirs[3] as f64;
    println!("ours {ours:?}, the provider's {theirs:?}: {off:+.3} %");
    // What a killed worker had read and not yet written is guessed, as are tokens that the provider does not tell.
    assert!(off.abs() <= 0.1, "{off} %");
    drop(workers);
}

/// Some jobs end before they can be cancelled.
async fn cancelling_or_ended(api: &Server, jobs: &[String], cancelling: impl Future<Output = ()>) {
    let all_ended = async {
        for job in jobs {
            api.client.finished(job).await;
        }
    };
    tokio::select! {
        () = cancelling => {}
        () = all_ended => {}
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tenant_s_budget_is_never_exceeded_as_the_provider_bills() {
    const BUDGET: u64 = 1_000_000;
    let flags = ["--first-token", "20ms", "--per-token", "2ms"];
    let (redis, rabbit, provider) = futures::join!(Redis::start(), RabbitMq::start(), Provider::with(&flags));
    let limited = |role| {
        cluster(role, &redis, &rabbit, &provider)
            .env("MILLHAND_TENANTS__DEFAULT__BUDGET_PER_DAY_USD", "0.001")
    };
    let (api, worker) = (limited("api").start().await, limited("worker"));
    let (_one, two) = futures::join!(worker.start(), worker.start());
    let ask = json!({"input": "多少？ tokens=20", "agent": "chat", "max_output_tokens": 40});
    let answers = join_all((0..200).map(|_| api.client.post("/v1/jobs", &ask))).await;
    let jobs: Vec<String> = answers
        .iter()
        .filter(|answer| answer.status == 202)
        .map(|answer| answer.json()["id"].as_str().unwrap().to_owned())
        .collect();
    let ended = join_all(jobs.iter().map(|job| api.client.finished(job))).await;
    let completed = ended.iter().filter(|job| job["status"] == "completed").count();
    for job in ended.iter().filter(|job| job["status"] != "completed") {
        let error = &job["error"];
        assert_eq!(
            (&error["code"], &error["retryable"]),
            (&json!("budget_exhausted"), &json!(true)),
            "{job}"
        );
        assert!(error["message"].as_str().unwrap().contains("the next day begins at"), "{job}");
    }
    let (ours, theirs) = (booked(&api.client).await, billed(&provider).await);
    println!("{completed} of {} answered for {} of {BUDGET}", jobs.len(), theirs[3]);
    assert!(theirs[3] <= BUDGET, "{theirs:?}");
    assert!(theirs[3] * 100 >= BUDGET * 93, "it is used: {theirs:?}");
    assert_eq!(ours, theirs);
    let ask = json!({"input": "多少？", "agent": "chat", "max_output_tokens": 150});
    let refused = api.client.post("/v1/jobs", &ask).await;
    assert_eq!(
        (refused.status, &refused.json()["code"]),
        (429, &json!("budget_exhausted")),
        "{}",
        refused.text
    );
    let retry_after: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=86_400).contains(&retry_after), "{retry_after}");
    assert!(two.metric("millhand_worker_model_cost_nano_usd_total").await > 0.0);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_keeps_what_was_spent_and_an_unfinished_call_is_paid_whole() {
    let provider = Provider::with(&["--first-token", "10ms", "--per-token", "5ms"]).await;
    let dir = tempfile::tempdir().unwrap();
    let launch =
        priced(Launch::new(dir.path()), &provider).env("MILLHAND_BUDGETS__PER_TENANT_DAY_USD", "0.0002");
    let server = launch.start().await;
    let ask = |tokens: u32| json!({"input": format!("x tokens={tokens}"), "agent": "chat", "max_output_tokens": tokens});
    let done = server.client.finished(&server.client.submit(ask(20)).await).await;
    assert_eq!(done["status"], "completed", "{done}");
    let before = booked(&server.client).await;
    assert_eq!((before, nano(&done["usage"]["cost_usd"])), (billed(&provider).await, before[3]));
    // Of the 188,000 that are left at most, a call may cost 126,000, and is made again after the crash.
    let job = server.client.submit(ask(200)).await;
    wait_for("text", async || {
        server.client.log(&job, 0).await.iter().any(|event| event.contains("output_text.delta")).then_some(())
    })
    .await;
    server.kill9().await;
    let server = launch.start().await;
    let ended = server.client.finished(&job).await;
    assert_eq!(
        (&ended["status"], &ended["error"]["code"]),
        (&json!("failed"), &json!("budget_exhausted")),
        "{ended}"
    );
    let after = booked(&server.client).await;
    let theirs = billed(&provider).await;
    assert_eq!(after[0], 2);
    assert_eq!(after[3], before[3] + nano(&ended["usage"]["cost_usd"]));
    let off = after[2].abs_diff(theirs[2]);
    println!("{after:?} booked, {theirs:?} billed");
    assert!(off <= 60, "{after:?} against {theirs:?}: nothing of this model's answers was known");
    let refused = server.client.post("/v1/jobs", &ask(200)).await;
    assert_eq!(refused.status, 429, "{}", refused.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_job_over_its_own_budget_ends_with_the_text_it_has() {
    let provider = Provider::with(&["--first-token", "0ms", "--per-token", "1ms"]).await;
    let dir = tempfile::tempdir().unwrap();
    let launch = priced(Launch::new(dir.path()), &provider).env("MILLHAND_BUDGETS__PER_JOB_USD", "0.00008");
    let server = launch.start().await;
    let never = json!({"input": "tokens=5", "agent": "chat", "max_output_tokens": 1000});
    let ended = server.client.finished(&server.client.submit(never).await).await;
    let error = &ended["error"];
    assert_eq!((&ended["status"], &error["code"]), (&json!("failed"), &json!("budget_exceeded")), "{ended}");
    assert_eq!((&error["retryable"], &ended["usage"]), (&json!(false), &Value::Null), "{ended}");
    assert!(error["message"].as_str().unwrap().contains("$0.00008"), "{ended}");
    assert!(provider.calls().await.is_empty(), "no call was made");
    // Two calls of a hundred tokens do not fit, one does, and what it really cost is not known.
    provider.faults(json!([{"kind": "cut", "times": 1, "after": 10}])).await;
    let asked = json!({"input": "tokens=50", "agent": "chat", "max_output_tokens": 100});
    let ended = server.client.finished(&server.client.submit(asked.clone()).await).await;
    check_log(&ended, &server.client.log(ended["id"].as_str().unwrap(), 0).await);
    assert_eq!(ended["status"], "incomplete", "{ended}");
    assert_eq!(ended["error"]["code"], "budget_exceeded", "{ended}");
    assert!(!ended["output"]["text"].as_str().unwrap().is_empty(), "{ended}");
    let call = provider.calls().await.pop().unwrap().entry;
    assert_eq!(ended["usage"]["input_tokens"], call["input_tokens"], "{ended} {call}");
    assert_eq!(call["max_output_tokens"], 100);
    let ended = server.client.finished(&server.client.submit(asked).await).await;
    assert_eq!(ended["status"], "completed", "each job has its own: {ended}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_without_a_price_costs_as_much_as_the_dearest_and_quotations_cost_nothing() {
    let provider = Provider::start().await;
    let dir = tempfile::tempdir().unwrap();
    let server = Launch::new(dir.path()).model(&provider.base_url()).start().await;
    for question in ["one tokens=7", "two tokens=7"] {
        let job = server.client.finished(&server.client.chat(question).await).await;
        let [input, output] =
            ["input_tokens", "output_tokens"].map(|key| job["usage"][key].as_u64().expect("a count"));
        assert_eq!(nano(&job["usage"]["cost_usd"]), 15_000 * input + 75_000 * output, "{job}");
    }
    let warned = server.logged().matches("no price is known for this model").count();
    assert_eq!(warned, 1, "once is enough");
    let [calls, input, output, _] = booked(&server.client).await;
    assert_eq!([calls, input, output], billed(&provider).await[..3]);
    assert_eq!(billed(&provider).await[3], INPUT * input + OUTPUT * output);

    let dir = tempfile::tempdir().unwrap();
    let server = Launch::with_sample(dir.path()).start().await;
    let asked = json!({"input": "What does a bicycle cost?"});
    let job = server.client.finished(&server.client.submit(asked).await).await;
    assert_eq!(job["usage"], json!({"input_tokens": 0, "output_tokens": 0, "cost_usd": 0.0}), "{job}");
    assert_eq!(booked(&server.client).await, [0; 4]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cancelled_call_is_booked_as_far_as_it_came() {
    let provider = Provider::with(&["--first-token", "0ms", "--per-token", "10ms"]).await;
    let dir = tempfile::tempdir().unwrap();
    let server = priced(Launch::new(dir.path()), &provider).start().await;
    let warm = server.client.chat("warm tokens=40").await;
    server.client.finished(&warm).await;
    let job = server.client.chat("long tokens=500").await;
    wait_for("some of it", async || {
        let calls = provider.calls().await;
        (calls.last()?.entry["output_tokens"].as_u64()? > 40).then_some(())
    })
    .await;
    server.client.post(&format!("/v1/jobs/{job}/cancel"), &json!({})).await;
    let ended = server.client.finished(&job).await;
    assert_eq!(ended["status"], "cancelled", "{ended}");
    let (ours, theirs) = (booked(&server.client).await, billed(&provider).await);
    println!("{ours:?} booked, {theirs:?} billed");
    assert_eq!(ours[..2], theirs[..2]);
    assert!(ended["usage"]["output_tokens"].as_u64() > Some(10), "{ended}");
    assert!(ours[2].abs_diff(theirs[2]) <= 3, "{ours:?} against {theirs:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_worker_s_talk_is_not_guessed_by_answers_with_marks_that_nobody_sees() {
    let provider = Provider::with(&["--first-token", "0ms", "--per-token", "1ms"]).await;
    let dir = tempfile::tempdir().unwrap();
    let launch = priced(Launch::new(dir.path()), &provider);
    let server = launch.start().await;
    add(&server.client, "ferry", "fares.md", "# Fares\n\nA bicycle costs three crowns on every crossing.\n")
        .await;
    for _ in 0..3 {
        let asked = json!({"input": "What does a bicycle cost?", "collection": "ferry"});
        let job = server.client.finished(&server.client.submit(asked).await).await;
        assert_eq!(job["output"]["answered"], true, "{job}");
    }
    server.client.finished(&server.client.chat("warm tokens=30").await).await;
    let before = (booked(&server.client).await, billed(&provider).await);
    assert_eq!(before.0, before.1);
    let job = server.client.chat("long tokens=200 gap=10").await;
    wait_for("some of it", async || {
        (provider.calls().await.last()?.entry["output_tokens"].as_u64()? > 80).then_some(())
    })
    .await;
    server.kill9().await;
    let server = launch.start().await;
    assert_eq!(server.client.finished(&job).await["status"], "completed");
    let (ours, theirs) = (booked(&server.client).await, billed(&provider).await);
    println!("{ours:?} booked, {theirs:?} billed");
    assert!(ours[2].abs_diff(theirs[2]) <= 8, "{ours:?} against {theirs:?}");
}
