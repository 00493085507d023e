//! The crash matrix: the process aborts at each named point, at the first pass and at the seventh, and
//! every promise holds after the restart. A point that is never passed fails the run.

use std::collections::HashSet;
use std::time::Duration;

use futures::future::join_all;
use serde_json::json;
use tokio::sync::watch;

use millhand_common::crash::POINTS;
use millhand_tests::client::{id, is_terminal};
use millhand_tests::load::{History, insist, question};
use millhand_tests::log::check_log;
use millhand_tests::provider::answer_to;
use millhand_tests::wait::PATIENCE;
use millhand_tests::{Launch, Provider, Server, wait_for};

const CHATS: usize = 10;
const DOCUMENTS: usize = 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_promise_holds_after_an_abort_at_each_crash_point() {
    let mut checked = 0;
    for point in POINTS {
        for hit in [1, 7] {
            abort_at(point, hit).await;
            checked += 1;
            println!("crash point {point}, hit {hit}: held");
        }
    }
    assert_eq!(checked, POINTS.len() * 2);
}

async fn abort_at(point: &str, mut hit: u32) {
    let (dir, model) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let drains = point == "drain.released";
    let mut launch = Launch::new(dir.path()).model(&model.base_url());
    if drains {
        launch = launch.env("MILLHAND_WORKER__DRAIN_TIMEOUT", "100ms");
    }
    let server = loop {
        match launch.clone().crash(point, hit).try_start().await {
            Ok(server) => break server,
            // Its own start passed the point, before there was a client: the next pass, then.
            Err((_, log)) if log.contains(&format!("crash point {point} hit")) && hit < 20 => hit += 1,
            Err((status, log)) => panic!("{point}: the server ended with {status}:\n{log}"),
        }
    };
    let (address, seen) = watch::channel(server.client.clone());

    // Long enough for a drain to meet them, else short.
    let gap = if drains { 100 } else { 5 };
    let chats = join_all(
        (0..CHATS).map(|n| insist(seen.clone(), question(&format!("问{n}"), 20, gap), format!("chat-{n}"))),
    );
    let documents = join_all((0..DOCUMENTS).map(|n| add_document(seen.clone(), n)));
    let restart = async {
        if drains {
            wait_for("jobs to run", || async { (model.calls().await.len() >= CHATS).then_some(()) }).await;
            server.signal(rustix::process::Signal::TERM);
        }
        let (status, log) = server.ended().await;
        assert!(
            log.contains(&format!("crash point {point} hit {hit} times")),
            "{point} was never passed {hit} times ({status}): is the binary built with crash points?\n{log}"
        );
        let server = launch.start().await;
        address.send_replace(server.client.clone());
        server
    };
    let (histories, names, server) = futures::join!(chats, documents, restart);
    check(point, &server, &model, &histories, &names).await;
}

async fn check(point: &str, server: &Server, model: &Provider, histories: &[History], names: &[String]) {
    let ids: HashSet<&String> = histories.iter().flat_map(|history| &history.ids).collect();
    assert_eq!(ids.len(), CHATS, "{point}: one job for one key");
    for (n, history) in histories.iter().enumerate() {
        let marker = format!("问{n}");
        let job = &history.job;
        assert_eq!(job["status"], "completed", "{point}: {job}");
        let asked = question(&marker, 20, if point == "drain.released" { 100 } else { 5 });
        assert_eq!(job["output"]["text"], answer_to(asked["input"].as_str().unwrap()), "{point}");
        check_log(job, &history.streamed);
        let id = id(job);
        assert_eq!(history.streamed, server.client.log(&id, 0).await, "{point}: streams tell the log");
        // P13: bought once, or once more and said so.
        let bought = model.calls_for(&format!("{marker} ")).await.len();
        let doubted = history.streamed.iter().filter(|event| event.contains("\"in_doubt\":true")).count();
        assert!(
            bought <= 1 + doubted,
            "{point}: {bought} calls, {doubted} in doubt: {:#?}",
            history.streamed
        );
    }
    let listed = server.client.get("/v1/jobs?limit=100").await.json();
    let kept = listed["data"].as_array().unwrap();
    let chats = kept.iter().filter(|job| job["kind"] == "chat").count();
    assert_eq!(chats, CHATS, "{point}: nobody submitted the others");
    // An ingest whose client got no answer was repeated: both end, and the name is there once. The
    // earlier one may come to run after the later one; then it says so and changes nothing.
    for job in kept.iter().filter(|job| job["kind"] == "ingest") {
        let job = server.client.finished(&id(job)).await;
        let reason = job["error"]["message"].as_str().unwrap_or_default();
        let superseded = reason.contains("a newer version of this document is stored");
        assert!(job["status"] == "completed" || superseded, "{point}: {job}");
    }
    let documents = server.client.get("/v1/collections/notes/documents?limit=100").await.json();
    let mut found: Vec<String> = documents["data"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| one["name"].as_str().unwrap().to_owned())
        .collect();
    found.sort();
    assert_eq!(found, names, "{point}");
    for name in names {
        let query = json!({"query": format!("keyword{name}")});
        let results = server.client.post("/v1/collections/notes/search", &query).await.json();
        assert_eq!(results["results"][0]["document"], name.as_str(), "{point}: searchable: {results}");
    }
    server.idle().await;
}

/// Adds a document until its job is over; answers its name.
async fn add_document(mut server: watch::Receiver<millhand_tests::Client>, n: usize) -> String {
    let name = format!("note{n}");
    let text = format!("# 笔记 {n}\n\nThis note is about keyword{name}. 这是第{n}篇笔记。\n");
    let body = json!({"name": name, "text": text, "content_type": "text/markdown"});
    let started = std::time::Instant::now();
    let mut job: Option<String> = None;
    loop {
        assert!(started.elapsed() < PATIENCE * 2, "waited for document {name}");
        let client = server.borrow_and_update().clone();
        if let Some(known) = &job {
            if let Ok(answer) = client.try_get(&format!("/v1/jobs/{known}?wait=5")).await {
                assert_eq!(answer.status, 200, "{}", answer.text);
                if is_terminal(&answer.json()) {
                    return name;
                }
                continue;
            }
        } else {
            let request = client.request("POST", "/v1/collections/notes/documents").json(&body);
            if let Some(answer) = client.send(request).await.ok().filter(|answer| answer.status == 202) {
                job = Some(id(&answer.json()));
                continue;
            }
        }
        // The server is away; until it is somewhere else, or a moment.
        let _ = tokio::time::timeout(Duration::from_millis(100), server.changed()).await;
    }
}
