//! A real browser: headless Chromium, told what to do by its DevTools protocol.

use std::process::Command;
use std::time::{Duration, Instant};

use futures::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio_tungstenite::tungstenite::Message;

use crate::servers::Process;
use crate::wait::{PATIENCE, wait_for};

/// A browser with a profile of its own.
pub struct Browser {
    process: Process,
    client: reqwest::Client,
}

impl Browser {
    /// # Panics
    ///
    /// When it cannot be started: `./tests/run` installs it.
    #[must_use]
    pub fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder for its profile");
        let process = Process::start("chromium", folder, |folder| {
            let mut command = Command::new("chromium");
            command.args(["--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-sync"]);
            // Nothing of its own goes out.
            command.args(["--disable-background-networking", "--disable-component-update"]);
            command.args(["--remote-debugging-port=0", "about:blank"]);
            command.arg(format!("--user-data-dir={}", folder.display()));
            command
        });
        Self { process, client: reqwest::Client::new() }
    }

    /// Opens `url`, runs `script` there, and gives what its promise resolves to.
    ///
    /// # Panics
    ///
    /// When the page or the script fails; with its error.
    pub async fn run(&self, url: &str, script: &str) -> Value {
        let file = self.process.folder().join("DevToolsActivePort");
        let port = wait_for("the browser's port", || async {
            Some(std::fs::read_to_string(&file).ok()?.lines().next()?.to_owned())
        })
        .await;
        let open = format!("http://127.0.0.1:{port}/json/new?{url}");
        let page = self.client.put(open).send().await.expect("the browser answers");
        let page: Value = page.json().await.expect("it describes the page");
        let address = page["webSocketDebuggerUrl"].as_str().expect("the page can be driven");
        let (mut socket, _) = tokio_tungstenite::connect_async(address).await.expect("the page listens");
        let loaded = format!("document.readyState === 'complete' && location.href.startsWith({url:?})");
        let started = Instant::now();
        // A page that is being replaced answers with an error.
        while evaluate(&mut socket, &loaded).await != Ok(Value::Bool(true)) {
            assert!(started.elapsed() < PATIENCE, "{url} is not loaded after {PATIENCE:?}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        evaluate(&mut socket, script).await.unwrap_or_else(|err| panic!("the script failed: {err}"))
    }
}

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn evaluate(socket: &mut Socket, script: &str) -> Result<Value, Value> {
    let params = json!({"expression": script, "awaitPromise": true, "returnByValue": true});
    let call = json!({"id": 1, "method": "Runtime.evaluate", "params": params});
    socket.send(Message::text(call.to_string())).await.expect("the page listens");
    while let Some(message) = socket.next().await {
        let Ok(Message::Text(text)) = message else { continue };
        let answer: Value = serde_json::from_str(&text).expect("the protocol is JSON");
        if answer["id"] == 1 {
            let failed = answer.get("error").or(answer["result"].get("exceptionDetails"));
            return failed.cloned().map_or_else(|| Ok(answer["result"]["result"]["value"].clone()), Err);
        }
    }
    panic!("the page closed before the script ended")
}
