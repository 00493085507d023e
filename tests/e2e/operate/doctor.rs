//! `millhand doctor`: what is wrong with which part, and what to type.

use serde_json::{Value, json};
use tokio::process::Command;

use millhand_tests::server::binary;
use millhand_tests::servers::{RabbitMq, Redis};
use millhand_tests::{Launch, Provider};

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

/// Many endpoints serve models that they do not list.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_is_not_listed_is_judged_by_its_answer() {
    let (dir, model) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let (data, url) = (dir.path().to_str().unwrap(), model.base_url());
    let env = [
        ("MILLHAND_MODEL__BASE_URL", url.as_str()),
        ("MILLHAND_MODEL__NAME", "of-no-list"),
        ("MILLHAND_EMBEDDER__BASE_URL", &url),
        ("MILLHAND_EMBEDDER__NAME", "of-no-list-either"),
        ("MILLHAND_RERANKER__BASE_URL", &url),
        ("MILLHAND_RERANKER__NAME", "nor-this"),
    ];
    let look = async || doctor(&env, &["--data", data]).await;
    let (is_well, found) = look().await;
    let models = |found: &[(String, bool, Option<String>)]| found[2..].to_vec();
    let of = |part: &str, ok: bool, fix: Option<&str>| (part.to_owned(), ok, fix.map(str::to_owned));
    assert!(is_well, "{found:?}");
    assert_eq!(
        models(&found),
        [of("model", true, None), of("embedder", true, None), of("reranker", true, None)],
        "they answer"
    );

    model.faults(json!([{"kind": "error", "status": 503}])).await;
    let (is_well, found) = look().await;
    assert!(is_well, "a warning is no failure: {found:?}");
    assert!(
        models(&found).iter().all(|(_, ok, fix)| *ok && fix.as_ref().unwrap().contains("name")),
        "{found:?}"
    );

    model.faults(json!([{"kind": "error", "status": 404}])).await;
    let (is_well, found) = look().await;
    assert!(!is_well && models(&found).iter().all(|(_, ok, fix)| !ok && fix.is_some()), "{found:?}");
}
