//! nginx in front of two ingresses, with the configuration of `compose/nginx`: readers lose nothing when
//! one is killed, nothing is held back, and nothing is sent twice that must not be.

use std::cell::Cell;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use futures::future::join_all;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Mutex;
use tokio::task::JoinSet;

use millhand_tests::client::{Answer, is_terminal};
use millhand_tests::log::check_log;
use millhand_tests::servers::Nginx;
use millhand_tests::{Client, Provider, Server, wait_for};

use crate::cluster::Cluster;

const JOBS: usize = 20;
const READERS: usize = 200;

/// What one reader got over all its connections.
struct Read {
    events: Vec<String>,
    cuts: usize,
}

/// Reads a log over SSE and goes on where it was cut, until the terminal event. `live` counts readers that
/// have seen text.
async fn read(client: &Client, job: &str, live: &AtomicUsize) -> Read {
    let (mut events, mut cuts) = (Vec::new(), 0);
    let seen = Cell::new(false);
    let enough = |piece: &[String]| {
        let has_text = || piece.iter().any(|event| event.contains("\"output_text.delta\""));
        if !seen.get() && has_text() {
            seen.set(true);
            live.fetch_add(1, Ordering::Relaxed);
        }
        false
    };
    loop {
        // Dense from 1, as `check_log` makes sure: the count is the last `seq`.
        let after = events.len() as u64;
        events.extend(client.sse(job, after, enough).await);
        if events.last().is_some_and(|event: &String| event.contains("\"job.completed\"")) {
            return Read { events, cuts };
        }
        cuts += 1;
        assert!(cuts < 10, "cut again and again: {events:?}");
    }
}

/// How often this ingress was asked for its agents.
async fn asked_for_agents(ingress: &Server) -> bool {
    ingress.metrics().await.lines().any(|line| line.contains("route=\"/v1/agents\""))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_go_on_through_the_other_ingress_and_the_killed_one_comes_back() {
    let (cluster, model) = futures::join!(Cluster::on_kafka(), Provider::start());
    let api = cluster.launch("api").model(&model.base_url());
    let worker = cluster.launch("worker").model(&model.base_url());
    let (first, second, _one, _two) =
        futures::join!(api.start(), api.start(), worker.start(), worker.start());
    let nginx = Nginx::start([&first.url, &second.url]).await;
    let client = Client::new(&nginx.url());
    let questions: Vec<String> = (0..JOBS).map(|n| format!("渡{n} tokens=100 gap=100")).collect();
    let jobs = join_all(questions.iter().map(|question| client.chat(question))).await;

    let live = AtomicUsize::new(0);
    let readers = join_all((0..READERS).map(|n| read(&client, &jobs[n % JOBS], &live)));
    let cut = async {
        wait_for("every reader to have text", || async {
            (live.load(Ordering::Relaxed) == READERS).then_some(())
        })
        .await;
        // All have text while no answer is whole: nothing was held back on the way.
        for job in &jobs {
            assert_eq!(second.client.job(job).await["status"], "in_progress");
        }
        let (here, there) = (
            first.metric("millhand_api_stream_readers").await,
            second.metric("millhand_api_stream_readers").await,
        );
        let back = api.clone().at(&first.url);
        first.kill9().await;
        // What had not reached it goes to the other one, with a key or without.
        let meanwhile = join_all((0..8).map(|_| client.chat("间 tokens=2"))).await;
        (back, here, there, meanwhile)
    };
    let (reads, (back, here, there, meanwhile)) = futures::join!(readers, cut);

    let cuts: usize = reads.iter().map(|read| read.cuts).sum();
    let reads_cut = reads.iter().filter(|read| read.cuts > 0).count();
    println!("{READERS} streams, {here} and {there} by ingress; {reads_cut} were cut, {cuts} times in all");
    assert!(READERS / 4 < reads_cut && reads_cut < READERS, "{reads_cut} of {READERS} streams were cut");
    assert!(here + there >= READERS as f64, "{here} + {there} streams were open");
    for (n, job) in jobs.iter().enumerate() {
        let (record, log) = (client.finished(job).await, second.client.log(job, 0).await);
        check_log(&record, &log);
        assert_eq!(record["status"], "completed");
        for read in reads.iter().skip(n).step_by(JOBS) {
            assert_eq!(read.events, log, "a reader that was cut {} times", read.cuts);
        }
    }
    for job in &meanwhile {
        assert_eq!(client.finished(job).await["status"], "completed");
    }

    let back = back.start().await;
    wait_for("nginx to use the ingress that came back", || async {
        assert_eq!(client.get("/v1/agents").await.status, 200);
        asked_for_agents(&back).await.then_some(())
    })
    .await;
    let job = client.chat("套接字 tokens=20 gap=20").await;
    let log = client.ws(&job, 0).await;
    check_log(&client.finished(&job).await, &log);
    assert!(is_terminal(&back.client.job(&job).await));
    assert_eq!(second.metric("millhand_api_stream_gaps_total").await, 0.0);
    let said = nginx.log();
    assert!(said.contains("\"path\":\"/v1/agents\""), "a line of JSON for each request: {said}");
}

/// Says `answer` to every request, or nothing at all, and keeps what it was sent.
struct Fake {
    url: String,
    heads: Arc<Mutex<Vec<String>>>,
    _task: JoinSet<()>,
}

impl Fake {
    async fn start(answer: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let heads = Arc::<Mutex<Vec<String>>>::default();
        let (mut task, kept) = (JoinSet::new(), heads.clone());
        task.spawn(async move {
            loop {
                let (mut conn, _) = listener.accept().await.unwrap();
                if let Some(head) = head_of(&mut conn).await {
                    kept.lock().await.push(head);
                    conn.write_all(answer.as_bytes()).await.unwrap();
                }
            }
        });
        Self { url, heads, _task: task }
    }

    async fn seen(&self) -> usize {
        self.heads.lock().await.len()
    }
}

/// Reads a whole request; answers its head, in small letters.
async fn head_of(conn: &mut TcpStream) -> Option<String> {
    let (mut text, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let read = conn.read(&mut buffer).await.ok().filter(|read| *read > 0)?;
        text.extend_from_slice(&buffer[..read]);
        let Some(end) = text.windows(4).position(|end| end == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&text[..end + 4]).to_lowercase();
        let body = head.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
        if end + 4 + body.unwrap_or(0) <= text.len() {
            return Some(head);
        }
    }
}

/// Sends one request through a new nginx to two ingresses that say `answer`. Answers how many of them saw
/// it, and what the client was told.
async fn through(answer: &'static str, method: &str, path: &str, key: Option<&str>) -> (usize, Answer) {
    let (first, second) = futures::join!(Fake::start(answer), Fake::start(answer));
    let nginx = Nginx::start([&first.url, &second.url]).await;
    let client = Client::new(&nginx.url());
    let mut request = client.request(method, path);
    if method == "POST" {
        request = request.json(&json!({"input": "x"}));
    }
    if let Some(key) = key {
        request = request.header("idempotency-key", key);
    }
    let told = client.send(request).await.unwrap();
    (first.seen().await + second.seen().await, told)
}

/// Also not when an ingress breaks, which is when nginx writes whole requests into its errors.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_ticket_is_in_no_log() {
    let (first, second) = futures::join!(Fake::start(""), Fake::start(""));
    let nginx = Nginx::start([&first.url, &second.url]).await;
    let client = Client::new(&nginx.url());
    let answer = client.get("/v1/jobs/job_1/events?ticket=mht_canary").await;
    assert_eq!((answer.status, first.seen().await + second.seen().await), (502, 2));
    wait_for("the request to be logged", || async {
        nginx.log().contains("/v1/jobs/job_1/events").then_some(())
    })
    .await;
    assert!(!nginx.log().contains("canary"), "{}", nginx.log());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn only_what_may_be_repeated_is_sent_to_a_second_ingress() {
    // Both take the request and end before they answer.
    for (method, path, key, times) in [
        ("POST", "/v1/jobs", None, 1),
        ("POST", "/v1/jobs", Some("k1"), 2),
        ("POST", "/v1/jobs?x=1", Some("k1"), 2),
        ("POST", "/v1/collections/c/documents", None, 1),
        ("POST", "/v1/collections/c/documents", Some("k1"), 2),
        ("POST", "/v1/conversations", None, 1),
        ("POST", "/v1/jobs/job_1/cancel", None, 2),
        ("GET", "/v1/jobs", None, 2),
        ("GET", "/v1/jobs/job_1/events", None, 2),
        ("DELETE", "/v1/jobs/job_1", None, 2),
    ] {
        let (seen, told) = through("", method, path, key).await;
        assert_eq!(seen, times, "{method} {path} {key:?}");
        assert_eq!(told.status, 502);
        assert_eq!(told.headers["content-type"], "application/problem+json");
        let problem = told.json();
        assert_eq!(problem["code"], "no_ingress");
        assert_eq!(problem["retryable"], method != "POST" || key.is_some(), "{method} {path}");
        assert_eq!(problem["request_id"].as_str(), told.headers["x-request-id"].to_str().ok());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_refusal_is_passed_on_and_takes_no_ingress_out() {
    const FULL: &str = "HTTP/1.1 503 Service Unavailable\r\nRetry-After: 7\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
    let (first, second) = futures::join!(Fake::start(FULL), Fake::start(FULL));
    let nginx = Nginx::start([&first.url, &second.url]).await;
    let client = Client::new(&nginx.url());
    for sent in 1..=8 {
        let told = client.get("/v1/jobs").await;
        assert_eq!((told.status, told.text.as_str()), (503, "{}"));
        assert_eq!(told.headers["retry-after"], "7");
        assert_eq!(first.seen().await + second.seen().await, sent, "each is sent once");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_ingress_is_told_who_asks_and_large_bodies_stay_outside() {
    const FINE: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\n{}";
    let (first, second) = futures::join!(Fake::start(FINE), Fake::start(FINE));
    let nginx = Nginx::start([&first.url, &second.url]).await;
    let client = Client::new(&nginx.url());
    let spoofed = client.request("GET", "/v1/jobs").header("x-forwarded-for", "6.6.6.6");
    client.send(spoofed.header("x-request-id", "mine")).await.unwrap();
    let mut heads = first.heads.lock().await.clone();
    heads.extend(second.heads.lock().await.clone());
    let host = nginx.url().replace("http://", "");
    let headers = ["x-forwarded-for: 127.0.0.1", "x-forwarded-proto: http", &format!("host: {host}")];
    for header in headers {
        assert!(heads[0].contains(&format!("\r\n{header}\r\n")), "{header}: {}", heads[0]);
    }
    let id = heads[0].lines().find_map(|line| line.strip_prefix("x-request-id: ")).unwrap();
    assert_eq!(id.len(), 32, "{id}");
    assert!(!heads[0].contains("\r\nconnection:"), "the connection is kept: {}", heads[0]);

    let large = vec![b'x'; 256 * 1024 + 1];
    for (path, status) in [("/v1/jobs", 413), ("/v1/collections/c/documents", 200)] {
        let told = client.send(client.request("POST", path).body(large.clone())).await.unwrap();
        assert_eq!(told.status, status, "{path}: {}", told.text);
        if status == 413 {
            assert_eq!(
                (told.json()["code"].as_str(), &told.json()["retryable"]),
                (Some("too_large"), &json!(false))
            );
        }
    }
    assert_eq!(first.seen().await + second.seen().await, 2, "the one that is too large never got there");
}
