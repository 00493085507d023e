//! What operators type, against real servers: lanes, workers, top.

mod doctor;
mod errors;

use std::process::Output;

use serde_json::{Value, json};
use tokio::process::Command;

use millhand_tests::server::binary;
use millhand_tests::servers::{Kind, RabbitMq, Redis};
use millhand_tests::{Launch, Provider, Server, wait_for};

/// A command on the admin address of a server.
async fn millhand(server: &Server, args: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(args).args(["--url", &server.admin]).env_remove("MILLHAND_KEY");
    command.output().await.unwrap()
}

/// The JSON it prints.
async fn answer(server: &Server, args: &[&str]) -> Value {
    let output = millhand(server, &[args, &["--json"]].concat()).await;
    assert!(output.status.success(), "{args:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

fn question(lane: &str) -> Value {
    json!({"input": "问 tokens=5", "agent": "chat", "lane": lane, "deadline_seconds": 120})
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn lanes_are_paused_and_workers_drained_by_any_process() {
    let (redis, rabbitmq, provider) = futures::join!(Redis::start(), RabbitMq::start(), Provider::start());
    let launch = |role| {
        let shared = Launch::shared(role).cluster(Kind::RabbitMq, &rabbitmq.url(), &redis.url());
        shared.model(&provider.base_url()).env("MILLHAND_MODEL__LIMITS__TOKENS_PER_MINUTE", "600000")
    };
    let api = launch("api").start().await;
    let first = launch("worker").arg("--slots").arg("4").start().await;

    let paused = answer(&api, &["lanes", "pause", "batch"]).await;
    assert_eq!(paused, json!({"lane": "batch", "paused": true}));
    let batch = api.client.submit(question("batch")).await;
    let interactive = api.client.submit(question("interactive")).await;
    assert_eq!(api.client.finished(&interactive).await["status"], "completed");
    // By hint or from the due index, whoever comes: a worker that starts now does not take it either.
    let second = launch("worker").arg("--slots").arg("2").start().await;
    wait_for("both workers", async || {
        let seen = answer(&api, &["top", "--once"]).await;
        (seen["slots"]["all"] == 6).then_some(())
    })
    .await;
    let seen = answer(&second, &["top"]).await;
    let lane = &seen["lanes"][1];
    assert_eq!((&lane["lane"], &lane["paused"], &lane["ready"]), (&json!("batch"), &json!(true), &json!(1)));
    assert_eq!((&seen["lanes"][0]["ended"], &seen["lanes"][0]["calls"]), (&json!(1), &json!(1)), "{seen}");
    assert_eq!(
        (&seen["limits"][0]["pool"], &seen["limits"][0]["limit"]),
        (&json!("default"), &json!("tokens/min"))
    );
    assert_eq!(api.client.job(&batch).await["status"], "queued");
    let output = millhand(&api, &["top"]).await;
    let page = String::from_utf8(output.stdout).unwrap();
    assert!(page.contains("paused") && page.contains("slots are busy") && !page.contains('\x1b'), "{page}");
    answer(&first, &["lanes", "resume", "batch"]).await;
    assert_eq!(api.client.finished(&batch).await["status"], "completed");

    let workers = answer(&api, &["workers", "list"]).await;
    let with_four = workers["data"].as_array().unwrap().iter().find(|worker| worker["slots"] == 4);
    let id = with_four.unwrap()["id"].as_str().unwrap().to_owned();
    answer(&second, &["workers", "drain", &id]).await;
    wait_for("it to drain", async || {
        let ready = first.operator().get("/readyz").await;
        (ready.status == 503).then_some(())
    })
    .await;
    assert_eq!(second.operator().get("/readyz").await.status, 200, "the other one goes on");
    let job = api.client.submit(question("interactive")).await;
    assert_eq!(api.client.finished(&job).await["status"], "completed");
    wait_for("it to be gone", async || {
        let workers = answer(&api, &["workers", "list"]).await;
        workers["data"].as_array().unwrap().iter().all(|worker| worker["id"] != id.as_str()).then_some(())
    })
    .await;
    let unknown = millhand(&api, &["workers", "drain", &id]).await;
    let said = String::from_utf8_lossy(&unknown.stderr);
    assert!(!unknown.status.success() && said.contains("No such worker"), "{said}");
}
