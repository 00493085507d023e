//! P8: a job that kills its worker dies three times, alone in the end, and is kept.

use serde_json::json;

use millhand_tests::client::id;
use millhand_tests::log::check_log;
use millhand_tests::{Launch, Provider, wait_for};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poison_job_fails_and_its_neighbours_do_not() {
    let (dir, model) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let launch = Launch::new(dir.path()).model(&model.base_url());
    let mut server = launch.start().await;
    let poison = server.client.chat("poison tokens=5 stall=1").await;
    let mut neighbours = Vec::new();
    for n in 0..4 {
        neighbours.push(server.client.chat(&format!("neighbour{n} tokens=40 gap=50")).await);
    }
    for death in 1..=3_usize {
        // "It kills its worker": each time it has begun, the process dies.
        wait_for("its call", || async { (model.calls_for("poison").await.len() >= death).then_some(()) })
            .await;
        server.kill9().await;
        server = launch.start().await;
    }
    let job = server.client.finished(&poison).await;
    assert_eq!((job["status"].as_str(), job["error"]["code"].as_str()), (Some("failed"), Some("poison")));
    assert_eq!(model.calls_for("poison").await.len(), 3, "it ran three times");
    check_log(&job, &server.client.log(&poison, 0).await);
    for neighbour in &neighbours {
        let job = server.client.finished(neighbour).await;
        assert_eq!(job["status"], "completed", "a neighbour of a poison job: {job}");
    }

    let operator = server.operator();
    let letters = operator.get("/v1/dead-letters").await;
    assert!(letters.text.contains(&poison), "{}", letters.text);
    let replay = format!("/v1/dead-letters/{poison}/replay");
    let first = operator.post(&replay, &json!({})).await;
    let again = operator.post(&replay, &json!({})).await;
    let new = id(&first.json());
    assert_eq!((id(&again.json()), new == poison), (new.clone(), false));
    assert_eq!(server.client.job(&new).await["replay_of"], poison.as_str());
    server.client.post(&format!("/v1/jobs/{new}/cancel"), &json!({})).await;
    assert_eq!(server.client.finished(&new).await["status"], "cancelled");
    let dropped = operator.post(&format!("/v1/dead-letters/{poison}/drop"), &json!({})).await;
    assert!(dropped.status < 300, "{}", dropped.text);
    assert!(!operator.get("/v1/dead-letters").await.text.contains(&poison));
    assert_eq!(server.client.job(&poison).await["status"], "failed", "the job itself stays");
}
