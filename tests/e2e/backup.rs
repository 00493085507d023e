//! `millhand backup DIR` copies a folder in use, and the copy serves.

use tokio::process::Command;

use millhand_tests::server::binary;
use millhand_tests::{Launch, Provider};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_backup_of_a_running_server_is_restored() {
    let (dir, model) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let (data, copy) = (dir.path().join("data"), dir.path().join("copy"));
    let server = Launch::new(&data).model(&model.base_url()).start().await;
    let done = server.client.chat("备份 tokens=5").await;
    server.client.finished(&done).await;
    let text =
        serde_json::json!({"name": "mill.md", "text": "# Mill\n\nThe waterwheel was built in 1764.\n"});
    let added = server.client.post("/v1/collections/notes/documents", &text).await;
    server.client.finished(&millhand_tests::client::id(&added.json())).await;
    let running = server.client.chat("under-way tokens=30 gap=30").await;
    server.client.reaches(&running, "in_progress").await;
    let made =
        Command::new(binary()).arg("backup").arg(&copy).arg("--data").arg(&data).output().await.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let before = (server.client.job(&done).await, server.client.log(&done, 0).await);
    server.kill9().await;

    let server = Launch::new(&copy).model(&model.base_url()).start().await;
    assert_eq!((server.client.job(&done).await, server.client.log(&done, 0).await), before);
    assert_eq!(server.client.finished(&running).await["status"], "completed", "it goes on in the copy");
    let query = serde_json::json!({"query": "When was the waterwheel built?"});
    let found = server.client.post("/v1/collections/notes/search", &query).await.json();
    assert_eq!(found["results"][0]["document"], "mill.md", "{found}");
    let again =
        Command::new(binary()).arg("backup").arg(&copy).arg("--data").arg(&copy).output().await.unwrap();
    assert!(!again.status.success(), "a folder that holds files is not written over");
}
