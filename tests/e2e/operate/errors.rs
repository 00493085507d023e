//! Who has how much of the work, what went wrong, and what is done about it.

use serde_json::{Value, json};

use millhand_tests::{Client, Launch, Provider, Server, wait_for};

use super::{answer, millhand};
use crate::credentials::{becomes, keys};

async fn refusing() -> Provider {
    let model = Provider::start().await;
    model.faults(json!([{"kind": "error", "status": 400, "when": "refused"}])).await;
    model
}

async fn fails(server: &Server, question: &str) -> String {
    let job = server.client.submit(json!({"input": question, "agent": "chat"})).await;
    assert_eq!(server.client.finished(&job).await["status"], "failed");
    job
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn dead_letters_are_listed_shown_replayed_and_dropped_by_hand() {
    let (dir, model) = (tempfile::tempdir().unwrap(), refusing().await);
    let server = Launch::new(dir.path()).model(&model.base_url()).start().await;
    let none = millhand(&server, &["dead-letters"]).await;
    assert_eq!(String::from_utf8_lossy(&none.stdout), "No dead letters.\n");
    let (first, second) = (fails(&server, "refused 一").await, fails(&server, "refused 二").await);

    let listed = answer(&server, &["dead-letters", "list"]).await;
    let ids: Vec<_> = listed["data"].as_array().unwrap().iter().map(|letter| &letter["job"]["id"]).collect();
    assert_eq!(ids, [&second, &first], "newest first");
    let page = millhand(&server, &["dead-letters"]).await;
    let page = String::from_utf8(page.stdout).unwrap();
    assert!(page.contains(&first) && page.contains("millhand dead-letters replay"), "{page}");

    let shown = answer(&server, &["dead-letters", "show", &first]).await;
    assert_eq!((&shown["job"]["id"], &shown["replayed_as"]), (&json!(first), &Value::Null));
    let code = shown["job"]["error"]["code"].as_str().unwrap();
    let page = millhand(&server, &["dead-letters", "show", &first]).await;
    let page = String::from_utf8(page.stdout).unwrap();
    assert!(page.contains("dead since") && page.contains(code), "{page}");

    // The cause is gone.
    model.faults(json!([])).await;
    let replayed = answer(&server, &["dead-letters", "replay", &first]).await;
    let anew = replayed["id"].as_str().unwrap();
    assert_eq!(replayed["replay_of"], first.as_str());
    assert_eq!(server.client.finished(anew).await["status"], "completed");
    assert_eq!(answer(&server, &["dead-letters", "replay", &first]).await["id"], anew, "it runs once");
    assert_eq!(answer(&server, &["dead-letters", "show", &first]).await["replayed_as"], anew);

    assert_eq!(answer(&server, &["dead-letters", "drop", &second]).await["dropped"], second.as_str());
    for command in ["show", "replay", "drop"] {
        let gone = millhand(&server, &["dead-letters", command, &second]).await;
        let said = String::from_utf8_lossy(&gone.stderr);
        assert!(!gone.status.success() && said.contains("dead letter"), "{command}: {said}");
    }
    assert_eq!(server.client.job(&second).await["status"], "failed", "the job itself stays");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn top_shows_what_went_wrong() {
    let (dir, model) = (tempfile::tempdir().unwrap(), refusing().await);
    let server = Launch::new(dir.path()).model(&model.base_url()).start().await;
    fails(&server, "refused").await;
    fails(&server, "refused again").await;
    assert_eq!(server.client.finished(&server.client.chat("问 tokens=2").await).await["status"], "completed");
    model.control(json!({"physics": {"first_token": "10s"}})).await;
    let late = json!({"input": "late", "agent": "chat", "deadline_seconds": 1});
    let late = server.client.submit(late).await;
    assert_eq!(server.client.finished(&late).await["status"], "expired");

    let seen = answer(&server, &["top", "--once"]).await;
    assert_eq!(seen["ends"], json!({"answered": 1, "failed": 2, "expired": 1}));
    assert_eq!(seen["rates"], Value::Null, "there was no look before");
    assert_eq!(seen["dead_letters"], json!({"count": 2, "more": false}));
    let errors = seen["errors"].as_array().unwrap();
    assert_eq!((errors.len(), &errors[0]["jobs"]), (1, &json!(2)), "{seen}");
    let page = String::from_utf8(millhand(&server, &["top"]).await.stdout).unwrap();
    let code = errors[0]["code"].as_str().unwrap();
    assert!(page.contains("1 answered, 2 failed, 1 expired") && page.contains(code), "{page}");
}

/// A slot for each of two tenants, and a third that waits; tenants are in no metric.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn top_shows_who_has_how_much() {
    let (dir, model) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let launch = Launch::new(dir.path()).model(&model.base_url()).arg("--slots").arg("2");
    let launch = launch.env("MILLHAND_MODEL__FIRST_TOKEN_TIMEOUT", "1h");
    let server = launch.env("MILLHAND_TENANTS__CAPPED__MAX_RUNNING", "1").start().await;
    model.control(json!({"physics": {"first_token": "1h"}})).await;
    let data = dir.path().to_str().unwrap();
    let mut jobs = Vec::new();
    for (tenant, count) in [("capped", 3), ("steady", 1), ("waits", 2)] {
        let key = keys(&["create", "--tenant", tenant, "--data", data], &[]).await;
        let key = key["key"].as_str().unwrap().to_owned();
        // While no key is known everybody is one tenant.
        becomes(&server.client, "mh_none", "/v1/jobs", 401).await;
        becomes(&server.client, &key, "/v1/jobs", 200).await;
        for _ in 0..count {
            jobs.push((submit(&server.client, &key).await, key.clone()));
        }
        wait_for("its first job to run, or all of them to wait", async || {
            let seen = answer(&server, &["top"]).await;
            let all = seen["tenants"]["data"].as_array()?.clone();
            let own = all.iter().find(|one| one["tenant"] == tenant)?;
            (own["running"] == 1 || tenant == "waits" && own["waiting"] == count).then_some(())
        })
        .await;
    }
    let seen = answer(&server, &["top"]).await;
    let tenants: Vec<_> = seen["tenants"]["data"].as_array().unwrap().iter().map(parts).collect();
    assert_eq!(tenants, [("capped", 2, 1, true), ("waits", 2, 0, false), ("steady", 0, 1, false)], "{seen}");
    assert_eq!(seen["tenants"]["others"], json!({"tenants": 0, "waiting": 0, "running": 0}));
    let page = String::from_utf8(millhand(&server, &["top"]).await.stdout).unwrap();
    assert!(page.contains("unserved for") && page.contains("capped"), "{page}");

    let metrics = server.metrics().await;
    for line in [
        "millhand_store_tenants{state=\"waiting\"} 2",
        "millhand_store_tenants{state=\"running\"} 2",
        "millhand_store_tenants{state=\"capped\"} 1",
    ] {
        assert!(metrics.lines().any(|found| found == line), "{line}: {metrics}");
    }
    for name in ["\"capped\"", "steady", "waits"] {
        let told =
            metrics.lines().filter(|line| !line.contains("state=\"capped\"") && !line.starts_with('#'));
        assert!(!told.into_iter().any(|line| line.contains(name)), "{name}: {metrics}");
    }
    for (job, key) in jobs {
        let cancel = server.client.request("POST", &format!("/v1/jobs/{job}/cancel")).bearer_auth(&key);
        assert_eq!(server.client.send(cancel).await.unwrap().status, 200);
    }
}

async fn submit(client: &Client, key: &str) -> String {
    let body = json!({"input": "等", "agent": "chat", "deadline_seconds": 3600});
    let request = client.request("POST", "/v1/jobs").bearer_auth(key).json(&body);
    let answer = client.send(request).await.unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text);
    answer.json()["id"].as_str().unwrap().to_owned()
}

fn parts(tenant: &Value) -> (&str, u64, u64, bool) {
    let count = |of: &str| tenant[of].as_u64().unwrap();
    (tenant["tenant"].as_str().unwrap(), count("waiting"), count("running"), tenant["at_cap"] == true)
}
