//! A history checker: many clients at once, kills in the middle, and every fact they saw must fit.

use std::collections::{HashMap, HashSet};

use futures::future::join_all;
use serde_json::{Value, json};
use tokio::sync::watch;

use millhand_tests::client::id;
use millhand_tests::load::{History, insist};
use millhand_tests::log::check_log;
use millhand_tests::{Launch, Provider, wait_for};

const CONVERSATIONS: usize = 20;
const TURNS: usize = 3;
const KILLS: usize = 3;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_concurrent_clients_saw_over_kills_is_one_history() {
    let (dir, model) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let launch = Launch::new(dir.path()).model(&model.base_url()).arg("--slots").arg("16");
    let mut server = launch.start().await;
    let (address, seen) = watch::channel(server.client.clone());

    let mut conversations = Vec::new();
    for _ in 0..CONVERSATIONS {
        let made = server.client.post("/v1/conversations", &json!({})).await;
        conversations.push(id(&made.json()));
    }
    let clients = join_all(conversations.iter().enumerate().flat_map(|(c, conversation)| {
        let seen = &seen;
        (0..TURNS).map(move |turn| {
            let body = json!({"input": format!("c{c}t{turn} tokens=15 gap=10"), "agent": "chat",
                "conversation_id": conversation, "deadline_seconds": 300});
            insist(seen.clone(), body, format!("c{c}-t{turn}"))
        })
    }));
    let nemesis = async {
        for kill in 1..=KILLS {
            // In units of work done, so that a slow machine is killed at the same places.
            let calls = kill * CONVERSATIONS * TURNS / (KILLS + 2);
            wait_for("work to be under way", || async { (model.calls().await.len() >= calls).then_some(()) })
                .await;
            server.kill9().await;
            server = launch.start().await;
            address.send_replace(server.client.clone());
        }
        server
    };
    let (histories, server) = futures::join!(clients, nemesis);

    let jobs = check_each(&histories);
    for history in &histories {
        let job = &history.ids[0];
        assert_eq!(history.streamed, server.client.log(job, 0).await, "all readers see the same bytes");
        assert_eq!(history.job, server.client.job(job).await, "a terminal state never changes");
    }
    let mut kept = HashSet::new();
    let mut cursor = String::new();
    loop {
        let page = server.client.get(&format!("/v1/jobs?limit=100{cursor}")).await.json();
        kept.extend(page["data"].as_array().unwrap().iter().map(id));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(kept, jobs.keys().cloned().collect(), "no job was lost, none exists that nobody submitted");
    check_turns(&conversations, &histories);

    let resumed = histories.iter().filter(|history| history.connections > 1).count();
    let retried = histories.iter().filter(|history| history.job["attempt"].as_u64() > Some(1)).count();
    println!("{} jobs, {KILLS} kills, {retried} jobs ran again, {resumed} readers resumed", jobs.len());
    assert!(retried >= KILLS && resumed >= CONVERSATIONS, "the kills met nothing: {retried}, {resumed}");
    server.idle().await;
}

fn check_each(histories: &[History]) -> HashMap<String, Value> {
    let mut jobs = HashMap::new();
    for history in histories {
        assert!(
            matches!(history.job["status"].as_str(), Some("completed" | "failed")),
            "only its deadline or poison ends a job otherwise: {}",
            history.job
        );
        check_log(&history.job, &history.streamed);
        let distinct: HashSet<_> = history.ids.iter().collect();
        assert_eq!(distinct.len(), 1, "one key, one job: {history:?}");
        let before = jobs.insert(history.ids[0].clone(), history.job.clone());
        assert!(before.is_none(), "two keys share a job");
    }
    jobs
}

/// Within a conversation no attempt starts before the job ahead of it is over.
fn check_turns(conversations: &[String], histories: &[History]) {
    for conversation in conversations {
        let mut turns: Vec<&Value> = histories
            .iter()
            .map(|history| &history.job)
            .filter(|job| job["conversation_id"] == conversation.as_str())
            .collect();
        assert_eq!(turns.len(), TURNS);
        turns.sort_by_key(|job| job["started_at"].as_str().map(str::to_owned));
        for pair in turns.windows(2) {
            let (ended, started) = (pair[0]["finished_at"].as_str(), pair[1]["started_at"].as_str());
            assert!(ended <= started, "{} and {} overlap", pair[0], pair[1]);
        }
    }
}
