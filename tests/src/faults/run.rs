//! One run: load, fault, check.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use futures::future::{self, join_all};
use futures::stream::{self, StreamExt};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::check::{self, Report};
use super::fault::Fault;
use super::system::System;
use crate::client::id;
use crate::load::{History, insist};
use crate::{Client, Provider, wait_for};

/// Jobs of one conversation.
const TURNS: usize = 3;
/// Conversations under way at a time: few enough that jobs are accepted from the beginning to the end.
const CLIENTS: usize = 18;
/// One in so many jobs is cancelled while it waits or runs.
const CANCELS: usize = 10;

const FENCED: &str = "millhand_store_fenced_writes_total";

/// Has at least `jobs` jobs answered while `fault` strikes `strikes` times, and checks all that was seen.
///
/// # Panics
///
/// When a promise is broken, or when the fault met nothing.
pub async fn run(system: &mut System, fault: Fault, jobs: usize, strikes: usize, name: &str) -> Report {
    let served = system.model.calls().await.len();
    let fenced = system.worked(FENCED).await;
    let clients = system.clients.clone();
    let over = AtomicBool::new(false);
    let load = stream::iter(0..)
        .take_while(|n| future::ready(*n < jobs / TURNS || !over.load(Ordering::Relaxed)))
        .map(|n| conversation(clients[n % clients.len()].clone(), name, n))
        .buffer_unordered(CLIENTS)
        .concat();
    let nemesis = async {
        let mut struck = Vec::new();
        for turn in 0..strikes {
            work_goes_on(&system.model, jobs / (strikes + 3)).await;
            struck.push(fault.strike(system, turn).await);
        }
        work_goes_on(&system.model, jobs / (strikes + 3)).await;
        over.store(true, Ordering::Relaxed);
        struck
    };
    let (histories, struck) = futures::join!(load, nemesis);
    system.heal().await;
    check_store(&system.clients, &histories).await;
    for node in &system.workers {
        node.server().idle().await;
    }
    let calls = system.model.calls().await.split_off(served);
    let mut report = check::check(&histories, &calls, &struck);
    let fenced = system.worked(FENCED).await - fenced;
    report.fenced = fenced.max(0.0) as u64;
    assert!(fault.met(&report), "the fault met nothing: {report:?}");
    report
}

/// Until so many more calls were made: in units of work, so that a slow machine is struck at the same places.
async fn work_goes_on(model: &Provider, calls: usize) {
    let until = model.calls().await.len() + calls;
    wait_for("work to go on", || async { (until <= model.calls().await.len()).then_some(()) }).await;
}

/// The jobs of one conversation, all submitted at once by a client that insists.
async fn conversation(client: Client, name: &str, number: usize) -> Vec<History> {
    let (_stays, address) = watch::channel(client.clone());
    let made = wait_for("a conversation", || async {
        client
            .send(client.request("POST", "/v1/conversations").json(&json!({})))
            .await
            .ok()
            .filter(|answer| answer.status == 201)
    })
    .await;
    let conversation = id(&made.json());
    join_all((0..TURNS).map(|turn| {
        let (address, client) = (address.clone(), client.clone());
        let key = format!("{name}-{number}-{turn}");
        let body = json!({"input": format!("{key}: tokens=15 gap=15"), "agent": "chat",
            "conversation_id": conversation, "deadline_seconds": 300});
        let cancelled = (number * TURNS + turn) % CANCELS == CANCELS - 1;
        async move {
            let history = insist(address, body.clone(), key.clone());
            if !cancelled {
                return history.await;
            }
            let (history, ()) = futures::join!(history, cancel(&client, &body, &key));
            history
        }
    }))
    .await
}

/// Cancels a job that its client may be submitting this moment: the key finds it.
async fn cancel(client: &Client, body: &Value, key: &str) {
    wait_for("the cancel to be heard", || async {
        let accepted = client.try_submit(body, key).await.ok().filter(|answer| answer.status == 202)?;
        let path = format!("/v1/jobs/{}/cancel", id(&accepted.json()));
        client.send(client.request("POST", &path)).await.ok().filter(|answer| answer.status == 200)
    })
    .await;
}

/// What is kept is what was seen, through either ingress, and nothing else.
async fn check_store(clients: &[Client], histories: &[History]) {
    let since = histories.iter().map(|history| history.ids[0].as_str()).min().unwrap_or_default();
    let mut kept = HashSet::new();
    let mut cursor = String::new();
    loop {
        let page = clients[0].get(&format!("/v1/jobs?limit=100{cursor}")).await.json();
        let ids: Vec<String> = page["data"].as_array().expect("a list").iter().map(id).collect();
        // Ids grow with time: what is older is of an earlier run.
        let older = ids.iter().any(|id| id.as_str() < since);
        kept.extend(ids.into_iter().filter(|id| since <= id.as_str()));
        match page["next_cursor"].as_str() {
            Some(next) if !older => cursor = format!("&cursor={next}"),
            _ => break,
        }
    }
    let seen: HashSet<String> = histories.iter().map(|history| history.ids[0].clone()).collect();
    assert_eq!(kept, seen, "no job was lost, none exists that nobody submitted");
    for (at, history) in histories.iter().enumerate() {
        let (client, job) = (&clients[at % clients.len()], &history.ids[0]);
        assert_eq!(history.streamed, client.log(job, 0).await, "all readers see the same bytes");
        assert_eq!(history.job, client.job(job).await, "a terminal state never changes");
    }
}

/// Milliseconds since 1970.
pub(super) fn millis(at: SystemTime) -> u128 {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_millis()
}
