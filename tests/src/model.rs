//! A model that does what the question says and writes down each call.
//!
//! The last user message may hold `tokens=N` (20), `gap=MS` between them (0) and `stall=K`: after K
//! tokens nothing more comes. Everything else of it is echoed, so that an answer is told from others.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use serde_json::{Value, json};
use tokio::task::JoinSet;

/// One call as the model saw it.
#[derive(Clone, Debug)]
pub struct Call {
    pub question: String,
    /// Every message, in order.
    pub messages: Vec<(String, String)>,
    pub at: Instant,
    pub traceparent: Option<String>,
}

type Ledger = Arc<Mutex<Vec<Call>>>;

/// A running model; it ends when this is dropped.
pub struct FakeModel {
    address: SocketAddr,
    ledger: Ledger,
    _server: JoinSet<()>,
}

impl FakeModel {
    pub async fn start() -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("loopback");
        let address = listener.local_addr().expect("it is bound");
        let ledger = Ledger::default();
        let app = Router::new().route("/v1/chat/completions", post(complete)).with_state(ledger.clone());
        let mut server = JoinSet::new();
        server.spawn(async move { axum::serve(listener, app).await.expect("it serves until dropped") });
        Self { address, ledger, _server: server }
    }

    /// What the product is told.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("http://{}/v1", self.address)
    }

    #[must_use]
    pub fn calls(&self) -> Vec<Call> {
        self.ledger.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Calls whose question holds `marker`.
    #[must_use]
    pub fn calls_for(&self, marker: &str) -> Vec<Call> {
        self.calls().into_iter().filter(|call| call.question.contains(marker)).collect()
    }
}

/// The text it answers to a question, whole.
#[must_use]
pub fn answer_to(question: &str) -> String {
    let tokens = number(question, "tokens").unwrap_or(20);
    (0..tokens).map(|at| token(question, at)).collect()
}

fn token(question: &str, at: u64) -> String {
    // The first one tells whose answer it is; Chinese and English take turns.
    match at {
        0 => format!("[{}]", question.split_whitespace().next().unwrap_or_default()),
        at if at % 2 == 0 => format!("字{at}"),
        at => format!(" w{at} "),
    }
}

fn number(text: &str, name: &str) -> Option<u64> {
    text.split_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('=')?.parse().ok())
}

async fn complete(State(ledger): State<Ledger>, headers: HeaderMap, body: Bytes) -> Response {
    let request: Value = serde_json::from_slice(&body).expect("the product sends JSON");
    let text = |message: &Value, field: &str| message[field].as_str().unwrap_or_default().to_owned();
    let messages: Vec<(String, String)> = request["messages"]
        .as_array()
        .map(|all| all.iter().map(|one| (text(one, "role"), text(one, "content"))).collect())
        .unwrap_or_default();
    let question = messages.iter().rev().find(|(role, _)| role == "user").map(|(_, content)| content.clone());
    let question = question.unwrap_or_default();
    let traceparent = headers.get("traceparent").and_then(|value| value.to_str().ok()).map(str::to_owned);
    ledger.lock().unwrap_or_else(PoisonError::into_inner).push(Call {
        question: question.clone(),
        messages,
        at: Instant::now(),
        traceparent,
    });
    stream(question)
}

fn stream(question: String) -> Response {
    let tokens = number(&question, "tokens").unwrap_or(20);
    let gap = Duration::from_millis(number(&question, "gap").unwrap_or(0));
    let stall = number(&question, "stall");
    let chunks = futures::stream::unfold(0, move |at| {
        let question = question.clone();
        async move {
            if stall == Some(at) {
                std::future::pending::<()>().await;
            }
            if at > 0 && !gap.is_zero() {
                tokio::time::sleep(gap).await;
            }
            let data = if at < tokens {
                chunk(&json!({"content": token(&question, at)}), None)
            } else if at == tokens {
                let usage =
                    json!({"prompt_tokens": 10, "completion_tokens": tokens, "total_tokens": 10 + tokens});
                chunk(&json!({}), Some(&usage)) + "data: [DONE]\n\n"
            } else {
                return None;
            };
            Some((Ok::<_, Infallible>(data), at + 1))
        }
    });
    ([(header::CONTENT_TYPE, "text/event-stream")], Body::from_stream(chunks)).into_response()
}

fn chunk(delta: &Value, usage: Option<&Value>) -> String {
    let finish = usage.map(|_| "stop");
    let choice = json!({"index": 0, "delta": delta, "finish_reason": finish});
    let mut chunk =
        json!({"id": "c", "object": "chat.completion.chunk", "model": "fake-1", "choices": [choice]});
    if let Some(usage) = usage {
        chunk["usage"] = usage.clone();
    }
    format!("data: {chunk}\n\n")
}
