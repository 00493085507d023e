//! Clients that come at a rate, whatever becomes of those before them, and insist on their answers.

use std::time::Duration;

use millhand_tests::Client;
use millhand_tests::load::{Address, History, insist};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

/// An answer of 130 tokens at 20 ms takes 2.9 s: ten a second need 29 slots.
const TOKENS: u32 = 130;
/// Nothing of a day may end for want of time.
const DEADLINE_SECONDS: u32 = 900;

/// One job: its number, and when it is due.
pub(crate) struct Job(u32, Duration);

/// Jobs that come evenly.
pub(crate) fn jobs(first: u32, rate: f64, lasts: Duration) -> Vec<Job> {
    let count = (rate * lasts.as_secs_f64()) as u32;
    (0..count).map(|n| Job(first + n, Duration::from_secs_f64(f64::from(n) / rate))).collect()
}

/// What tells a job from all others, in its key and in its question.
pub(crate) fn marker(number: u32) -> String {
    format!("job-{number}:")
}

/// Starts each client when it is due; half of them at either door.
pub(crate) async fn come(
    clients: &mut JoinSet<History>,
    jobs: Vec<Job>,
    doors: [Address; 2],
    begin: Instant,
) {
    for Job(number, due) in jobs {
        sleep_until(begin + due).await;
        let body = json!({"input": format!("{} tokens={TOKENS}", marker(number)), "agent": "chat",
            "deadline_seconds": DEADLINE_SECONDS});
        let door = doors[number as usize % doors.len()].clone();
        clients.spawn(insist(door, body, marker(number)));
    }
}

/// How many jobs there are.
pub(crate) async fn kept(client: &Client) -> usize {
    let (mut kept, mut cursor) = (0, String::new());
    loop {
        let page = client.get(&format!("/v1/jobs?limit=100{cursor}")).await.json();
        kept += page["data"].as_array().map_or(0, Vec::len);
        match page["next_cursor"].as_str() {
            Some(next) => cursor = format!("&cursor={next}"),
            None => return kept,
        }
    }
}
