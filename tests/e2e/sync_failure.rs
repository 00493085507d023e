//! A disk that does not sync: the process aborts and never says 202 for what may not be there.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

use serde_json::json;

use millhand_tests::{Launch, Provider};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_sync_that_fails_aborts_and_acknowledges_nothing() {
    let (dir, model) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let shim = dir.path().join("shim.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/sync_failure.c");
    let built =
        Command::new("cc").args(["-shared", "-fPIC", "-o"]).arg(&shim).arg(source).arg("-ldl").status();
    assert!(built.unwrap().success());
    let (data, trigger) = (dir.path().join("data"), dir.path().join("fail-now"));
    let launch = Launch::new(&data).model(&model.base_url());
    let broken = launch
        .clone()
        .env("LD_PRELOAD", shim.to_string_lossy())
        .env("FAIL_SYNC_WHEN", trigger.to_string_lossy());
    let server = broken.start().await;
    let job = server.client.chat("kept tokens=3").await;
    server.client.finished(&job).await;

    fs::write(&trigger, "").unwrap();
    let body = json!({"input": "unsure tokens=3", "agent": "chat"});
    let answer = server.client.try_submit(&body, "unsure").await;
    assert!(!answer.is_ok_and(|answer| answer.status == 202), "nobody knows whether it is there");
    let (status, log) = server.ended().await;
    assert_eq!(status.signal(), Some(6), "it aborts: {status} {log}");

    let server = launch.start().await;
    assert_eq!(server.client.job(&job).await["status"], "completed");
    let again = server.client.try_submit(&body, "unsure").await.unwrap();
    assert_eq!(again.status, 202);
    server.client.finished(&millhand_tests::client::id(&again.json())).await;
}
