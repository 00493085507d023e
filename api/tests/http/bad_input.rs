//! Bad input and attacks, with the answer each must get; the numbers are the rows of the threat notes.

use std::time::Duration;

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::support::client::Client;
use crate::support::{problem, start, start_with};

const JSON: (&str, &str) = ("Content-Type", "application/json");

#[tokio::test(flavor = "multi_thread")]
async fn row_14_a_tenant_in_body_or_header_is_not_honoured() {
    let ingress = start().await;
    problem(
        &ingress.client.post("/v1/jobs", &json!({ "input": "x", "tenant": "b" })).await,
        422,
        "invalid_request",
    );
    let headers = [("X-Tenant", "b"), ("X-Forwarded-User", "b")];
    assert_eq!(ingress.client.post_with("/v1/jobs", &headers, &json!({ "input": "x" })).await.status, 202);
    let mine = ingress.client.get("/v1/jobs").await.json();
    assert_eq!(mine["data"].as_array().unwrap().len(), 1, "the job is the default tenant's");
}

#[tokio::test(flavor = "multi_thread")]
async fn row_18_bad_idempotency_keys() {
    let ingress = start().await;
    for bad in ["", "a b", "键", &"k".repeat(256)] {
        let answer =
            ingress.client.post_with("/v1/jobs", &[("Idempotency-Key", bad)], &json!({ "input": "x" })).await;
        problem(&answer, 400, "bad_idempotency_key");
    }
    let longest = "k".repeat(255);
    let answer = ingress
        .client
        .post_with("/v1/jobs", &[("Idempotency-Key", &longest)], &json!({ "input": "x" }))
        .await;
    assert_eq!(answer.status, 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_19_bodies_that_are_too_large_or_never_come() {
    let ingress = start_with(|state| state.config.limits.body_timeout = Duration::from_millis(200)).await;
    let large = json!({ "input": "x".repeat(256 * 1024) }).to_string();
    problem(&ingress.client.send("POST", "/v1/jobs", &[JSON], large.as_bytes()).await, 413, "too_large");
    let head = "POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    // Chunks without end.
    let chunk = format!("10000\r\n{}\r\n", "x".repeat(0x10000));
    let endless = format!("{head}Transfer-Encoding: chunked\r\n\r\n{}", chunk.repeat(5));
    problem(&ingress.client.raw(endless.as_bytes()).await, 413, "too_large");
    // More is announced than is sent.
    let short = format!("{head}Content-Length: 100\r\n\r\n{{\"input\"");
    problem(&ingress.client.raw(short.as_bytes()).await, 408, "request_timeout");
    // An exact fit is taken.
    let frame = json!({ "input": "" }).to_string().len();
    let fits = json!({ "input": "x".repeat(256 * 1024 - frame) }).to_string();
    assert_eq!(ingress.client.send("POST", "/v1/jobs", &[JSON], fits.as_bytes()).await.status, 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_20_types_and_encodings() {
    let ingress = start().await;
    let body = br#"{"input":"x"}"#;
    for headers in [
        &[("Content-Type", "text/plain")][..],
        &[],
        &[("Content-Type", "application/x-www-form-urlencoded")],
        &[JSON, ("Content-Encoding", "gzip")],
    ] {
        problem(&ingress.client.send("POST", "/v1/jobs", headers, body).await, 415, "unsupported_media_type");
    }
    let charset = [("Content-Type", "Application/JSON; charset=utf-8")];
    assert_eq!(ingress.client.send("POST", "/v1/jobs", &charset, body).await.status, 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_21_what_is_not_json() {
    let ingress = start().await;
    let deep = [b"{\"input\":".to_vec(), b"[".repeat(10_000)].concat();
    for bad in [
        &br#"{"input":"x""#[..],
        br#"{"input":NaN}"#,
        br#"{"input":1e999}"#,
        br#"{"input":"\ud800"}"#,
        b"{\"input\":\"\xff\"}",
        &deep,
        b"nonsense",
        b"{} {}",
    ] {
        problem(&ingress.client.send("POST", "/v1/jobs", &[JSON], bad).await, 400, "malformed_json");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_22_to_24_what_is_json_and_not_offered() {
    let ingress = start().await;
    let many: Vec<_> = (0..10_000).map(|_| json!({ "role": "user", "content": "x" })).collect();
    for bad in [
        r#"{"input":"a","input":"b"}"#.to_owned(),
        r#"{"input":"a","metadata":{"k":1,"k":2}}"#.to_owned(),
        r#"{"input":"a\u0000b"}"#.to_owned(),
        r#"{}"#.to_owned(),
        r#"[]"#.to_owned(),
        r#"{"input":" \u3000"}"#.to_owned(),
        r#"{"input":[{"role":"system","content":"x"}]}"#.to_owned(),
        r#"{"input":[{"role":"assistant","content":"x"}]}"#.to_owned(),
        r#"{"input":"a","max_output_tokens":-1}"#.to_owned(),
        r#"{"input":"a","max_output_tokens":0}"#.to_owned(),
        r#"{"input":"a","deadline_seconds":0}"#.to_owned(),
        r#"{"input":"a","deadline_seconds":86401}"#.to_owned(),
        r#"{"input":"a","deadline_seconds":1.5}"#.to_owned(),
        r#"{"input":"a","lane":"express"}"#.to_owned(),
        r#"{"input":"a","on_busy":"steer"}"#.to_owned(),
        r#"{"input":"a","not_before":"tomorrow"}"#.to_owned(),
        r#"{"input":"a","filter":{"title":"x"}}"#.to_owned(),
        r#"{"input":"a","metadata":"x"}"#.to_owned(),
        r#"{"input":"a","agent":""}"#.to_owned(),
        r#"{"input":"a","agent":"chat","collection":"c"}"#.to_owned(),
        r#"{"input":"a","webhook":"https://example.com"}"#.to_owned(),
        json!({ "input": &many[..4000] }).to_string(),
    ] {
        let answer = ingress.client.send("POST", "/v1/jobs", &[JSON], bad.as_bytes()).await;
        problem(&answer, 422, "invalid_request");
    }
    // Control characters but NUL come back as they went in.
    let text = "\u{1b}[31m\u{7}\u{202e}你好\u{200b}";
    let id = ingress.submit(text).await;
    ingress.answer(id, text).await;
    assert_eq!(ingress.client.get(&format!("/v1/jobs/{id}")).await.json()["output"]["text"], text);
    // 250 kB that nobody sees, with something to see, is counted by its bytes and taken.
    let invisible = format!("?{}", "\u{200b}\u{202e}".repeat(41_000));
    assert_eq!(ingress.client.post("/v1/jobs", &json!({ "input": invisible })).await.status, 202);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_25_heads_that_are_too_large() {
    let ingress = start().await;
    let many: String = (0..101).map(|n| format!("X-{n}: 1\r\n")).collect();
    let long = "x".repeat(100_000);
    for (request, status) in [
        (format!("GET /healthz HTTP/1.1\r\nHost: x\r\n{many}\r\n"), 431),
        (format!("GET /healthz HTTP/1.1\r\nHost: x\r\nX: {long}\r\n\r\n"), 431),
        (format!("GET /{} HTTP/1.1\r\nHost: x\r\n\r\n", &long[..70_000]), 414),
    ] {
        assert_eq!(ingress.client.raw(request.as_bytes()).await.status, status);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_26_ambiguous_framing_is_refused_and_the_connection_closed() {
    let ingress = start().await;
    let head = "POST /v1/jobs HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n";
    for framing in [
        "Content-Length: 5\r\nContent-Length: 6\r\n",
        "Transfer-Encoding: xchunked\r\n",
        "X: a\r\n b\r\n",
        "X: a\0b\r\n",
    ] {
        let request = format!("{head}{framing}\r\n{{\"a\":GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n");
        let mut stream = TcpStream::connect(ingress.client.address).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut all = Vec::new();
        let _reset = stream.read_to_end(&mut all).await;
        let text = String::from_utf8_lossy(&all);
        assert!(text.starts_with("HTTP/1.1 400"), "{framing:?}: {text}");
        assert_eq!(text.matches("HTTP/1.1").count(), 1, "what follows is not another request: {text}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_27_methods() {
    let ingress = start().await;
    for (method, path, allowed) in [
        ("TRACE", "/v1/jobs", "POST"),
        ("PUT", "/v1/jobs", "GET"),
        ("BREW", "/healthz", "GET"),
        ("POST", "/v1/agents", "GET"),
        ("PATCH", "/v1/collections/c/documents/d", "DELETE"),
    ] {
        let answer = ingress.client.send(method, path, &[], b"").await;
        problem(&answer, 405, "method_not_allowed");
        assert!(answer.header("allow").unwrap().contains(allowed), "{answer:?}");
    }
    assert_eq!(ingress.client.send("HEAD", "/healthz", &[], b"").await.status, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_28_paths_reach_no_other_route() {
    let ingress = start().await;
    for path in [
        "/v1/jobs/%2e%2e/agents",
        "//v1/agents",
        "/v1//agents",
        "/v1/jobs/a%2fcancel",
        "/v1/jobs/%00",
        "/v1/jobs/../agents",
        "/v1/agents/",
        "/V1/agents",
        "/v1/jobs/job_1",
    ] {
        let answer = ingress.client.get(path).await;
        assert!(matches!(answer.status, 400 | 404), "{path}: {answer:?}");
        assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{path}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_29_slow_heads_are_cut_and_others_are_served() {
    let ingress = start_with(|state| state.config.limits.header_timeout = Duration::from_millis(300)).await;
    let mut slow = Vec::new();
    for start in ["", "P", "GET /healthz HT", "GET /healthz HTTP/1.1\r\nX: "] {
        let mut stream = TcpStream::connect(ingress.client.address).await.unwrap();
        stream.write_all(start.as_bytes()).await.unwrap();
        slow.push(stream);
    }
    assert_eq!(ingress.client.get("/healthz").await.status, 200);
    for mut stream in slow {
        let mut rest = Vec::new();
        let closed = tokio::time::timeout(Duration::from_secs(10), stream.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "the server closes it");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn row_35_a_page_of_another_origin_changes_nothing() {
    let ingress =
        start_with(|state| state.config.cors_origins = vec!["https://chat.example".to_owned()]).await;
    let own = format!("http://{}", ingress.client.address);
    for (origin, status) in
        [("https://evil.example", 403), ("null", 403), ("https://chat.example", 202), (own.as_str(), 202)]
    {
        let answer =
            ingress.client.post_with("/v1/jobs", &[("Origin", origin)], &json!({ "input": "x" })).await;
        assert_eq!(answer.status, status, "{origin}");
        let socket = ingress.client.websocket("/v1/ws", &[("origin", origin)]).await;
        assert_eq!(socket.err(), (status == 403).then_some(403), "{origin}");
    }
    // Row 40: a preflight.
    let preflight = async |origin: &str| {
        let headers = [("Origin", origin), ("Access-Control-Request-Method", "POST")];
        ingress.client.send("OPTIONS", "/v1/jobs", &headers, b"").await
    };
    let listed = preflight("https://chat.example").await;
    assert_eq!(listed.status, 204);
    assert_eq!(listed.header("access-control-allow-origin"), Some("https://chat.example"));
    assert_eq!(preflight("https://evil.example").await.header("access-control-allow-origin"), None);
}

#[tokio::test(flavor = "multi_thread")]
async fn row_36_no_credential_in_an_address() {
    let ingress = start().await;
    problem(&ingress.client.get("/v1/jobs?access_token=abc").await, 400, "credential_in_url");
    assert_eq!(ingress.client.websocket("/v1/ws?token=abc", &[]).await.err(), Some(400));
}

#[tokio::test(flavor = "multi_thread")]
async fn row_56_operators_paths_are_not_public() {
    let ingress = start().await;
    for path in ["/metrics", "/v1/queues", "/v1/workers", "/v1/dead-letters", "/v1/drain", "/v1/backup"] {
        problem(&ingress.client.get(path).await, 404, "not_found");
        problem(&ingress.client.send("POST", path, &[], b"").await, 404, "not_found");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn beyond_the_connection_cap_one_is_told_so() {
    let ingress = start_with(|state| state.config.limits.connections = 1).await;
    let held = TcpStream::connect(ingress.client.address).await.unwrap();
    let answer = crate::support::wait_for("the cap", async || {
        let answer = ingress.client.get("/healthz").await;
        (answer.status == 503).then_some(answer)
    })
    .await;
    assert_eq!(answer.json()["code"], "too_many_connections");
    assert!(answer.header("retry-after").is_some());
    drop(held);
    crate::support::wait_for("a place", async || {
        (ingress.client.get("/healthz").await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn http2_is_spoken_and_limited() {
    let ingress = start().await;
    let mut stream = TcpStream::connect(Client::new(ingress.client.address).address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    let mut head = [0; 9];
    stream.read_exact(&mut head).await.unwrap();
    assert_eq!(head[3], 4, "the answer to the preface is a SETTINGS frame");
    let mut settings = vec![0; usize::from(head[2])];
    stream.read_exact(&mut settings).await.unwrap();
    let streams = settings.chunks(6).find(|setting| setting[..2] == [0, 3]).expect("MAX_CONCURRENT_STREAMS");
    assert_eq!(streams[2..], [0, 0, 0, 100]);
}
