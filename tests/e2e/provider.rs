//! `millhand provider`: the limits of a provider, its faults and its bill, without one.

use std::process::Stdio;

use futures::future::join_all;
use serde_json::{Value, json};
use tokio::process::Command;

use millhand_tests::client::Answer;
use millhand_tests::server::binary;
use millhand_tests::{Provider, wait_for};

async fn ask(provider: &Provider, question: &str) -> Answer {
    let messages = json!([{"role": "user", "content": question}]);
    provider
        .client()
        .post("/v1/chat/completions", &json!({"model": "m", "messages": messages, "max_tokens": 50}))
        .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn limits_are_enforced_said_in_headers_and_changed_while_it_runs() {
    let provider = Provider::start().await;
    provider.control(json!({"quota": {"mode": "window", "requests_per_minute": 3}})).await;
    let answers = join_all((0..3).map(|n| ask(&provider, if n < 2 { "same" } else { "other" })));
    // A minute may begin anywhere, but not twice in a moment.
    let mut statuses: Vec<u16> = answers.await.iter().map(|answer| answer.status).collect();
    let refused = loop {
        let answer = ask(&provider, "more").await;
        statuses.push(answer.status);
        if answer.status == 429 {
            break answer;
        }
        assert!(statuses.len() <= 7, "a minute lets in three: {statuses:?}");
    };
    let wait: u64 = refused.headers["retry-after"].to_str().unwrap().parse().unwrap();
    assert!((1..=60).contains(&wait), "{wait}");
    assert_eq!(refused.headers["x-ratelimit-limit-requests"], "3");
    assert_eq!(refused.headers["x-ratelimit-remaining-requests"], "0");
    assert!(refused.json()["error"]["message"].as_str().unwrap().contains("Limit 3, Used 3, Requested 1"));
    provider.control(json!({"dialect": "anthropic", "quota": {"requests_per_minute": 100}})).await;
    let answer = ask(&provider, "again").await;
    assert_eq!(
        (answer.status, &answer.headers["anthropic-ratelimit-requests-limit"]),
        (200, &"100".parse().unwrap())
    );

    let ledger = provider.ledger().await;
    let let_in = statuses.len() as u64;
    assert_eq!(ledger["totals"]["calls"], let_in + 1);
    assert_eq!((&ledger["totals"]["limited"], &ledger["totals"]["let_in"]), (&json!(1), &json!(let_in)));
    assert!(ledger["totals"]["repeated_bodies"].as_u64() >= Some(1), "{ledger}");
    assert!(ledger["totals"]["nano_usd"].as_u64() > Some(0), "{ledger}");
    assert_eq!(
        (&ledger["limits"][0]["charged"], &ledger["limits"][0]["overdrawn"]),
        (&json!(let_in), &json!(0))
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hidden_slices_refuse_while_the_headers_show_room() {
    let provider = Provider::start().await;
    provider
        .control(json!({"dialect": "azure", "quota": {"mode": "slices", "requests_per_minute": 60}}))
        .await;
    let mut let_in = 0;
    let refused = loop {
        let answer = ask(&provider, "more").await;
        if answer.status == 429 {
            break answer;
        }
        let_in += 1;
        assert!(let_in <= 20, "ten seconds let in ten, and they begin once meanwhile");
    };
    let left: u64 = refused.headers["x-ratelimit-remaining-requests"].to_str().unwrap().parse().unwrap();
    assert!(let_in >= 10 && left >= 40, "{left} left after {let_in}");
    let wait: u64 = refused.headers["retry-after-ms"].to_str().unwrap().parse().unwrap();
    assert!(wait <= 10_000, "{wait}");
}

/// Twice the same calls: each asks for 50 tokens at most and writes 20.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_charge_at_arrival_takes_the_longest_answer_and_gives_nothing_back() {
    for (mode, charged) in [("bucket", 20), ("arrival", 50)] {
        let provider = Provider::start().await;
        let limits = json!({"mode": mode, "output_tokens_per_minute": 200});
        provider.control(json!({"quota": limits})).await;
        for _ in 0..3 {
            assert_eq!(ask(&provider, "same").await.status, 200, "{mode}");
        }
        let ledger = provider.ledger().await;
        assert_eq!(ledger["limits"][0]["charged"], 3 * charged, "{mode}: {ledger}");
        assert_eq!(ledger["totals"]["output_tokens"], 60, "{mode}: {ledger}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_calls_run_at_a_time_than_it_allows_and_callers_that_leave_make_room() {
    let provider = Provider::start().await;
    provider.control(json!({"quota": {"concurrency": 1}})).await;
    let stalled = ask(&provider, "stall=0");
    let others = async {
        wait_for("the first to run", || async { (provider.calls().await.len() == 1).then_some(()) }).await;
        assert_eq!(ask(&provider, "second").await.status, 429);
    };
    // The stalled call is dropped with its connection when the others are done.
    tokio::select! {
        answer = stalled => panic!("a stalled call answered {}", answer.text),
        () = others => {}
    }
    wait_for("room", || async { (ask(&provider, "third").await.status == 200).then_some(()) }).await;
    assert_eq!(provider.calls().await[0].entry["ended"], "abandoned");
    assert_eq!(provider.ledger().await["totals"]["most_at_a_time"], 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_is_the_same_streamed_and_whole_and_billed_by_token() {
    let provider = Provider::start().await;
    let whole = ask(&provider, "账单 tokens=7").await.json();
    let body = json!({"model": "m", "stream": true, "stream_options": {"include_usage": true}, "max_tokens": 50,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "账单 tokens=7"}]}]});
    let streamed = provider.client().post("/v1/chat/completions", &body).await;
    assert_eq!(streamed.headers["content-type"], "text/event-stream");
    let mut events: Vec<&str> =
        streamed.text.lines().filter_map(|line| line.strip_prefix("data: ")).collect();
    assert_eq!(events.pop(), Some("[DONE]"));
    let chunks: Vec<Value> = events.iter().map(|event| serde_json::from_str(event).unwrap()).collect();
    let text: String =
        chunks.iter().filter_map(|chunk| chunk["choices"][0]["delta"]["content"].as_str()).collect();
    assert_eq!(whole["choices"][0]["message"]["content"], text);
    assert_eq!(chunks.last().unwrap()["usage"], whole["usage"]);
    assert_eq!(whole["usage"]["completion_tokens"], 7);
    let short =
        json!({"model": "m", "max_tokens": 3, "messages": [{"role": "user", "content": "账单 tokens=7"}]});
    let short = provider.client().post("/v1/chat/completions", &short).await.json();
    assert_eq!(
        (&short["choices"][0]["finish_reason"], &short["usage"]["completion_tokens"]),
        (&json!("length"), &json!(3))
    );
    let totals = provider.ledger().await["totals"].clone();
    let input = whole["usage"]["prompt_tokens"].as_u64().unwrap() * 3;
    assert_eq!((&totals["input_tokens"], &totals["output_tokens"]), (&json!(input), &json!(17)));
    assert_eq!(totals["nano_usd"], input * 150 + 17 * 600);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn embeddings_and_rankings_put_near_texts_near() {
    let provider = Provider::start().await;
    let post = |path: &'static str, body: Value| {
        let provider = &provider;
        async move { provider.client().post(path, &body).await }
    };
    let documents = json!(["Soup is served.", {"text": "Bicycles cost three crowns."}, "Roses bloom."]);
    let ranking = json!({"model": "r", "query": "bicycle cost", "documents": documents, "top_n": 2, "return_documents": true});
    let ranked = post("/v1/rerank", ranking).await.json();
    assert_eq!((&ranked["results"][0]["index"], ranked["results"].as_array().unwrap().len()), (&json!(1), 2));
    assert_eq!(ranked["results"][0]["document"]["text"], "Bicycles cost three crowns.");
    let floats = post("/v1/embeddings", json!({"model": "e", "input": ["磨坊", "mill"]})).await.json();
    assert_eq!(floats["data"][1]["embedding"].as_array().unwrap().len(), 256);
    let short = json!({"model": "e", "input": "mill", "dimensions": 8, "encoding_format": "base64"});
    let short = post("/v1/embeddings", short).await.json();
    assert_eq!(short["data"][0]["embedding"].as_str().unwrap().len(), 44, "32 bytes");
    let wrong = post("/v1/embeddings", json!({"model": "e", "input": []})).await;
    assert_eq!((wrong.status, &wrong.json()["error"]["type"]), (400, &json!("invalid_request_error")));
    assert!(provider.client().get("/v1/models").await.text.contains("millhand-embed"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn time_passes_as_it_was_told_and_more_calls_at_a_time_take_longer() {
    let flags = ["--first-token", "60ms", "--per-token", "5ms", "--parallel", "1"];
    let provider = Provider::traced(&flags).await;
    let took = |calls: &[Value]| calls.iter().map(|call| call["took_ms"].as_u64().unwrap()).max().unwrap();
    ask(&provider, "alone tokens=21").await;
    let alone = provider.client().get("/ledger").await.json()["calls"].as_array().unwrap().clone();
    assert!(took(&alone) >= 160, "{alone:?}");
    assert!(alone[0]["first_token_ms"].as_u64() >= Some(60), "{alone:?}");
    join_all((0..4).map(|n| ask(&provider, if n % 2 == 0 { "a tokens=21" } else { "b tokens=21" }))).await;
    let all = provider.client().get("/ledger?after=1").await.json()["calls"].as_array().unwrap().clone();
    assert!(took(&all) >= 160 * 3, "four share one place: {all:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_log_and_its_ledger_hold_no_prompt_reply_or_key() {
    let provider = Provider::traced(&["--first-token", "0ms", "--per-token", "0ms"]).await;
    let canary = "canary-金丝雀-77aa";
    let body = json!({"model": "m", "messages": [{"role": "user", "content": canary}]});
    let request =
        provider.client().request("POST", "/v1/chat/completions").bearer_auth("sk-canary-5f1c").json(&body);
    let answer = provider.client().send(request).await.unwrap();
    assert!(answer.text.contains(canary), "the reply holds it: {}", answer.text);
    provider.client().post("/v1/embeddings", &json!({"model": "e", "input": canary})).await;
    let wrong = provider.client().post("/v1/chat/completions", &json!({"messages": canary})).await;
    assert_eq!(wrong.status, 400);
    let (log, ledger) = (provider.logged(), provider.client().get("/ledger").await.text);
    assert!(log.contains("\"call\":1") && ledger.contains("\"caller\":\"key_"), "{log} {ledger}");
    for secret in [canary, "金丝雀", "sk-canary-5f1c"] {
        assert!(!log.contains(secret), "{secret} is in the log");
        assert!(!ledger.contains(secret), "{secret} is in the ledger");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_it_cannot_be_told_is_refused_with_a_reason() {
    let provider = Provider::start().await;
    for wrong in [
        json!({"nonsense": 1}),
        json!({"physics": {"jitter": 7}}),
        json!({"faults": [{"kind": "cut", "p": 3}]}),
        json!({"quota": {"mode": "none"}}),
    ] {
        let answer = provider.client().post("/control", &wrong).await;
        assert_eq!(answer.status, 422, "{wrong}");
        assert!(answer.json()["error"].as_str().is_some_and(|reason| !reason.is_empty()), "{}", answer.text);
    }
    let open = ["provider", "--listen", "0.0.0.0:0"];
    let refused = Command::new(binary()).args(open).stdin(Stdio::null()).output().await.unwrap();
    assert!(!refused.status.success() && String::from_utf8_lossy(&refused.stderr).contains("--insecure"));
}
