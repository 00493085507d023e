//! A client that is told to want an answer whatever happens to the server.

use serde_json::{Value, json};
use tokio::sync::watch;

use crate::client::{Answer, Client, id, is_terminal};
use crate::wait::PATIENCE;

/// What one client saw of one job: everything the checker needs.
#[derive(Clone, Debug)]
pub struct History {
    pub key: String,
    /// The id of every accept that was answered, retries included.
    pub ids: Vec<String>,
    /// The record as it was at the end.
    pub job: Value,
    /// Every event over every connection, in the order it came.
    pub streamed: Vec<String>,
    /// Connections it took.
    pub connections: u32,
    /// Submits that were refused or not answered.
    pub refused: u32,
}

/// Where the server is now; it may move while clients live.
pub type Address = watch::Receiver<Client>;

/// Submits under `key` until it is accepted, then reads the stream to its end over as many
/// connections as it takes, resuming after the last event seen.
///
/// # Panics
///
/// When an accepted job is not found, or an answer is none that the contract has.
pub async fn insist(mut server: Address, body: Value, key: String) -> History {
    let started = tokio::time::Instant::now();
    let mut history = History {
        key: key.clone(),
        ids: Vec::new(),
        job: Value::Null,
        streamed: Vec::new(),
        connections: 0,
        refused: 0,
    };
    loop {
        assert!(started.elapsed() < PATIENCE * 3, "no end in sight: {history:?}");
        let client = server.borrow_and_update().clone();
        if history.ids.is_empty() {
            match client.try_submit(&body, &key).await {
                Ok(answer) if answer.status == 202 => history.ids.push(id(&answer.json())),
                Ok(answer) => assert_refusal(&answer),
                Err(_) => {}
            }
            if history.ids.is_empty() {
                history.refused += 1;
                moved(&mut server).await;
                continue;
            }
        }
        let job = history.ids[0].clone();
        history.connections += 1;
        let last = history.streamed.last().map_or(0, |event| seq(event));
        let events = client.sse(&job, last, |_| false).await;
        history.streamed.extend(events);
        match client.try_get(&format!("/v1/jobs/{job}")).await {
            // The store is away: the job is not denied.
            Ok(answer) if answer.status == 503 => {
                assert_refusal(&answer);
                moved(&mut server).await;
            }
            Ok(answer) => {
                assert_eq!(answer.status, 200, "after 202 GET never denies the job: {}", answer.text);
                let record = answer.json();
                let ended = history.streamed.last().is_some_and(|event| seq_is_last(event, &record));
                if is_terminal(&record) && ended {
                    history.job = record;
                    return history;
                }
            }
            Err(_) => moved(&mut server).await,
        }
    }
}

/// The server is away: until it is somewhere else, or a moment.
async fn moved(server: &mut Address) {
    // Either way the next round finds out.
    let _ = tokio::time::timeout(std::time::Duration::from_millis(100), server.changed()).await;
}

fn assert_refusal(answer: &Answer) {
    assert!(matches!(answer.status, 429 | 503), "{} {}", answer.status, answer.text);
    assert!(answer.headers.contains_key("retry-after"), "a refusal says when to come back");
}

fn seq(event: &str) -> u64 {
    let event: Value = serde_json::from_str(event).expect("an event is JSON");
    event["seq"].as_u64().expect("an event has a seq")
}

fn seq_is_last(event: &str, record: &Value) -> bool {
    let event: Value = serde_json::from_str(event).expect("an event is JSON");
    let kind = event["type"].as_str().unwrap_or_default();
    kind.strip_prefix("job.").is_some_and(|status| record["status"] == status && status != "queued")
}

/// A question to the model that is told from all others by `marker`.
#[must_use]
pub fn question(marker: &str, tokens: u32, gap_ms: u32) -> Value {
    json!({"input": format!("{marker} tokens={tokens} gap={gap_ms}"), "agent": "chat", "deadline_seconds": 120})
}
