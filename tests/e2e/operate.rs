//! What operators type, against real servers: lanes, workers, top.

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

/// What it says of each part: whether it is well, and what to do.
async fn doctor(env: &[(&str, &str)], args: &[&str]) -> (bool, Vec<(String, bool, Option<String>)>) {
    let mut command = Command::new(binary());
    command.args(["doctor", "--json"]).args(args).envs(env.iter().copied());
    command.env_remove("OPENAI_BASE_URL").env_remove("OPENAI_API_KEY");
    let output = command.output().await.unwrap();
    let seen: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(i32::from(seen["ok"] != true)), "{seen}");
    let finding = |finding: &Value| {
        let text = |of: &str| finding[of].as_str().map(str::to_owned);
        (text("part").unwrap(), finding["ok"] == true, text("fix"))
    };
    (seen["ok"] == true, seen["findings"].as_array().unwrap().iter().map(finding).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_says_what_is_wrong_and_what_to_type() {
    let (redis, rabbitmq, provider) = futures::join!(Redis::start(), RabbitMq::start(), Provider::start());
    let (broker, store, model) = (rabbitmq.url(), redis.url(), provider.base_url());
    let env = [
        ("MILLHAND_BROKER__KIND", "rabbitmq"),
        ("MILLHAND_BROKER__URL", &broker),
        ("MILLHAND_STORE__KIND", "redis"),
        ("MILLHAND_STORE__URL", &store),
        ("MILLHAND_MODEL__BASE_URL", &model),
        ("MILLHAND_MODEL__NAME", "millhand-chat"),
    ];
    let (is_well, found) = doctor(&env, &[]).await;
    assert!(is_well, "{found:?}");
    let parts: Vec<_> = found.iter().map(|(part, _, _)| part.as_str()).collect();
    assert_eq!(parts, ["settings", "store", "clocks", "broker", "model"]);

    let with = |name: &'static str, value: &'static str| {
        env.iter().copied().filter(|(known, _)| *known != name).chain([(name, value)]).collect::<Vec<_>>()
    };
    for (name, value, part, fix) in [
        ("MILLHAND_MODEL__NAME", "another", "model", "model.name"),
        ("MILLHAND_MODEL__BASE_URL", "http://127.0.0.1:9/v1", "model", "model.base_url"),
        ("MILLHAND_BROKER__URL", "amqp://127.0.0.1:9", "broker", "MILLHAND_BROKER__URL"),
        ("MILLHAND_STORE__URL", "redis://127.0.0.1:9", "store", "MILLHAND_STORE__URL"),
        ("MILLHAND_WORKER__SLOTZ", "1", "settings", "millhand config check"),
    ] {
        let (is_well, found) = doctor(&with(name, value), &[]).await;
        let bad: Vec<_> = found.iter().filter(|(_, ok, _)| !ok).collect();
        assert!(!is_well && bad.len() == 1 && bad[0].0 == part, "{name}: {found:?}");
        assert!(bad[0].2.as_ref().unwrap().contains(fix), "{found:?}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_doctor_looks_into_a_folder_or_asks_the_server_that_uses_it() {
    let dir = tempfile::tempdir().unwrap();
    let data = dir.path().join("data");
    let args = ["--data", data.to_str().unwrap()];
    assert!(doctor(&[], &args).await.0);
    let server = Launch::new(&data).start().await;
    assert!(doctor(&[], &args).await.0);
    server.operator().post("/v1/drain", &json!({})).await;
    let (is_well, found) = doctor(&[], &args).await;
    assert!(!is_well && found[1].0 == "store" && !found[1].1, "{found:?}");
}
