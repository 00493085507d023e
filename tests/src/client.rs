//! A client that speaks the contract and nothing more.

use std::sync::Once;
use std::time::Duration;

use futures::{SinkExt, StreamExt};
use reqwest::header::HeaderMap;
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::{Message, client::IntoClientRequest};

use crate::wait::{PATIENCE, wait_for};

/// One server's clients share connections.
#[derive(Clone)]
pub struct Client {
    http: reqwest::Client,
    pub url: String,
}

/// What a request was answered.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    /// The body.
    ///
    /// # Panics
    ///
    /// When it is not JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|err| panic!("{err}: {}", self.text))
    }
}

impl Client {
    #[must_use]
    pub fn new(url: &str) -> Self {
        static PROVIDER: Once = Once::new();
        PROVIDER.call_once(|| {
            // An error means a provider is installed already.
            let _ = rustls::crypto::ring::default_provider().install_default();
        });
        let http = reqwest::Client::builder().no_proxy().timeout(Duration::from_secs(90)).build();
        Self { http: http.expect("a client needs nothing from outside"), url: url.to_owned() }
    }

    /// Sends a request; `Err` when there was no whole answer.
    pub async fn send(&self, request: reqwest::RequestBuilder) -> Result<Answer, reqwest::Error> {
        let response = request.send().await?;
        let (status, headers) = (response.status().as_u16(), response.headers().clone());
        Ok(Answer { status, headers, text: response.text().await? })
    }

    pub fn request(&self, method: &str, path: &str) -> reqwest::RequestBuilder {
        let method = method.parse().expect("a method");
        self.http.request(method, format!("{}{path}", self.url))
    }

    pub async fn try_get(&self, path: &str) -> Result<Answer, reqwest::Error> {
        self.send(self.request("GET", path)).await
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.try_get(path).await.unwrap_or_else(|err| panic!("GET {path}: {err:?}"))
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        let request = self.request("POST", path).json(body);
        self.send(request).await.unwrap_or_else(|err| panic!("POST {path}: {err:?}"))
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.send(self.request("DELETE", path)).await.unwrap_or_else(|err| panic!("DELETE {path}: {err:?}"))
    }

    /// Submits with a key, so that it may be repeated.
    pub async fn try_submit(&self, body: &Value, key: &str) -> Result<Answer, reqwest::Error> {
        self.send(self.request("POST", "/v1/jobs").header("idempotency-key", key).json(body)).await
    }

    /// Submits what must be accepted; answers the job's id.
    pub async fn submit(&self, body: Value) -> String {
        let answer = self.post("/v1/jobs", &body).await;
        assert_eq!(answer.status, 202, "{}", answer.text);
        id(&answer.json())
    }

    /// A question to the model, in a conversation of its own.
    pub async fn chat(&self, question: &str) -> String {
        self.submit(json!({"input": question, "agent": "chat"})).await
    }

    pub async fn job(&self, id: &str) -> Value {
        let answer = self.get(&format!("/v1/jobs/{id}")).await;
        assert_eq!(answer.status, 200, "an accepted job is always found: {}", answer.text);
        answer.json()
    }

    /// The job once it is over.
    pub async fn finished(&self, id: &str) -> Value {
        wait_for(&format!("{id} to end"), || async {
            let answer = self.get(&format!("/v1/jobs/{id}?wait=20")).await;
            assert_eq!(answer.status, 200, "an accepted job is always found: {}", answer.text);
            Some(answer.json()).filter(is_terminal)
        })
        .await
    }

    /// The job once it has this status.
    pub async fn reaches(&self, id: &str, status: &str) -> Value {
        wait_for(&format!("{id} to be {status}"), || async {
            Some(self.job(id).await).filter(|job| job["status"] == status)
        })
        .await
    }

    /// The whole log so far, as the JSON pages give it: each event as it came, byte for byte.
    pub async fn log(&self, id: &str, after: u64) -> Vec<String> {
        #[derive(serde::Deserialize)]
        struct Page {
            events: Vec<Box<serde_json::value::RawValue>>,
            next_after: Option<u64>,
        }
        let (mut events, mut after) = (Vec::new(), after);
        loop {
            let answer = self.get(&format!("/v1/jobs/{id}/events?after={after}")).await;
            assert_eq!(answer.status, 200, "{}", answer.text);
            let page: Page = serde_json::from_str(&answer.text).expect("a page of events");
            let empty = page.events.is_empty();
            events.extend(page.events.into_iter().map(|event| event.get().to_owned()));
            match page.next_after {
                Some(next) if !empty => after = next,
                _ => return events,
            }
        }
    }

    /// Reads an event stream until it ends, breaks, or `enough` of what was read says so. Answers the
    /// `data` lines.
    pub async fn sse(&self, id: &str, after: u64, enough: impl Fn(&[String]) -> bool) -> Vec<String> {
        let request = self
            .request("GET", &format!("/v1/jobs/{id}/events"))
            .header("accept", "text/event-stream")
            .header("last-event-id", after.to_string());
        let Ok(response) = request.send().await else { return Vec::new() };
        match response.status().as_u16() {
            200 => {}
            204 => return Vec::new(),
            // Our own trouble: honest when it says when to come back.
            503 if response.headers().contains_key("retry-after") => return Vec::new(),
            status => panic!("an event stream was refused with {status}"),
        }
        let mut bytes = response.bytes_stream();
        let (mut buffer, mut events) = (Vec::new(), Vec::new());
        while !enough(&events) {
            let next = tokio::time::timeout(PATIENCE, bytes.next()).await.expect("a heartbeat at least");
            let Some(Ok(chunk)) = next else { break };
            buffer.extend_from_slice(&chunk);
            while let Some(at) = buffer.windows(2).position(|pair| pair == b"\n\n") {
                let block: Vec<u8> = buffer.drain(..at + 2).collect();
                let block = String::from_utf8(block).expect("streams are UTF-8");
                events.extend(
                    block
                        .lines()
                        .filter_map(|line| line.strip_prefix("data:"))
                        .map(|data| data.strip_prefix(' ').unwrap_or(data).to_owned()),
                );
            }
        }
        events
    }

    /// Reads the same events over a WebSocket, until it is closed.
    pub async fn ws(&self, id: &str, after: u64) -> Vec<String> {
        let url = format!("{}/v1/jobs/{id}/events?after={after}", self.url.replace("http://", "ws://"));
        let request = url.into_client_request().expect("an address");
        let (mut socket, _) = tokio_tungstenite::connect_async(request).await.expect("an upgrade");
        let mut events = Vec::new();
        loop {
            let next = tokio::time::timeout(PATIENCE, socket.next()).await.expect("the log ends");
            match next {
                Some(Ok(Message::Text(text))) => events.push(text.to_string()),
                Some(Ok(Message::Close(frame))) => {
                    assert_eq!(frame.map(|frame| u16::from(frame.code)), Some(1000));
                    // An error means the other side is gone already.
                    let _ = socket.close(None).await;
                    return events;
                }
                Some(Ok(Message::Ping(data))) => socket.send(Message::Pong(data)).await.expect("it is open"),
                Some(Ok(_)) => {}
                Some(Err(err)) => panic!("{err}"),
                None => return events,
            }
        }
    }
}

#[must_use]
pub fn id(job: &Value) -> String {
    job["id"].as_str().unwrap_or_else(|| panic!("no id in {job}")).to_owned()
}

#[must_use]
pub fn is_terminal(job: &Value) -> bool {
    !matches!(job["status"].as_str(), Some("queued" | "in_progress"))
}
