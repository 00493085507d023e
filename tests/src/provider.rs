//! The model of the tests: `millhand provider`, the real one, in a process of its own.

use std::fs::{self, File};
use std::process::Stdio;

use serde_json::{Value, json};
use tokio::process::{Child, Command};

use crate::Client;
use crate::server::binary;
use crate::wait::wait_for;

/// One call as the provider saw it.
#[derive(Clone, Debug)]
pub struct Call {
    /// The last message of the user.
    pub question: String,
    /// Every message, role and text, in order.
    pub messages: Vec<(String, String)>,
    /// Milliseconds since the provider started.
    pub at_ms: u64,
    pub status: u64,
    pub traceparent: Option<String>,
    /// All that the ledger has of it.
    pub entry: Value,
}

/// A running provider. Dropped, it is killed.
pub struct Provider {
    _child: Child,
    client: Client,
    out: tempfile::TempDir,
}

impl Provider {
    /// One that answers at once and keeps what it is asked.
    pub async fn start() -> Self {
        Self::launch(&["--first-token", "0ms", "--per-token", "0ms", "--keep-bodies"], "warn").await
    }

    /// One with these flags.
    pub async fn with(flags: &[&str]) -> Self {
        Self::launch(flags, "warn").await
    }

    /// One with these flags, that logs everything it can.
    pub async fn traced(flags: &[&str]) -> Self {
        Self::launch(flags, "trace").await
    }

    async fn launch(flags: &[&str], log: &str) -> Self {
        let out = tempfile::tempdir().expect("a folder for its output");
        let file = |name| File::create(out.path().join(name)).expect("a file for its output");
        let mut command = Command::new(binary());
        command.args(["provider", "--listen", "127.0.0.1:0"]).args(flags).env("RUST_LOG", log);
        command.stdin(Stdio::null()).stdout(file("stdout")).stderr(file("stderr")).kill_on_drop(true);
        let child = command.spawn().expect("the binary starts");
        let read = |name| fs::read_to_string(out.path().join(name)).unwrap_or_default();
        let url = wait_for("the provider to be ready", || async {
            address(&read("stdout")).or_else(|| {
                let said = read("stderr");
                assert!(!said.contains("error:"), "{said}");
                None
            })
        })
        .await;
        Self { _child: child, client: Client::new(&url), out }
    }

    /// Everything it has logged.
    #[must_use]
    pub fn logged(&self) -> String {
        fs::read_to_string(self.out.path().join("stderr")).unwrap_or_default()
    }

    /// What the product is told.
    #[must_use]
    pub fn base_url(&self) -> String {
        format!("{}/v1", self.client.url)
    }

    /// Speaks to it as the product does.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// Changes what `patch` names, while it runs.
    pub async fn control(&self, patch: Value) {
        let answer = self.client.post("/control", &patch).await;
        assert_eq!(answer.status, 200, "{}", answer.text);
    }

    /// From now on these go wrong, and nothing else.
    pub async fn faults(&self, faults: Value) {
        self.control(json!({"faults": faults})).await;
    }

    /// Sums and limits of the ledger.
    pub async fn ledger(&self) -> Value {
        self.client.get("/ledger?limit=1").await.json()
    }

    /// Every call for an answer, oldest first.
    pub async fn calls(&self) -> Vec<Call> {
        self.ledger_of(|endpoint| endpoint == "chat").await
    }

    /// Every call for vectors or an order, oldest first.
    pub async fn readings(&self) -> Vec<Call> {
        self.ledger_of(|endpoint| endpoint == "embeddings" || endpoint == "rerank").await
    }

    async fn ledger_of(&self, of: impl Fn(&Value) -> bool) -> Vec<Call> {
        let (mut calls, mut after) = (Vec::new(), 0);
        loop {
            let page = self.client.get(&format!("/ledger?after={after}")).await.json();
            let entries = page["calls"].as_array().expect("a list").iter();
            calls.extend(entries.filter(|entry| of(&entry["endpoint"])).map(call));
            match page["next_after"].as_u64() {
                Some(next) => after = next,
                None => return calls,
            }
        }
    }

    /// Calls whose question holds `marker`.
    pub async fn calls_for(&self, marker: &str) -> Vec<Call> {
        self.calls().await.into_iter().filter(|call| call.question.contains(marker)).collect()
    }
}

/// The address it prints, once everything is printed.
fn address(banner: &str) -> Option<String> {
    let line = banner.lines().find(|line| line.trim_start().starts_with("API "))?;
    banner
        .ends_with('\n')
        .then(|| line.split_whitespace().nth(1)?.strip_suffix("/v1").map(str::to_owned))
        .flatten()
}

fn call(entry: &Value) -> Call {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let messages: Vec<(String, String)> = entry["messages"]
        .as_array()
        .map(|all| all.iter().map(|one| (text(&one["role"]), text(&one["content"]))).collect())
        .unwrap_or_default();
    let question = messages.iter().rev().find(|(role, _)| role == "user").map(|(_, text)| text.clone());
    Call {
        question: question.unwrap_or_default(),
        messages,
        at_ms: entry["at_ms"].as_u64().unwrap_or_default(),
        status: entry["status"].as_u64().unwrap_or_default(),
        traceparent: entry["traceparent"].as_str().map(str::to_owned),
        entry: entry.clone(),
    }
}

/// The text it answers to a question without documents, whole.
#[must_use]
pub fn answer_to(question: &str) -> String {
    // The first token tells whose answer it is; then Chinese and English take turns.
    let token = |at| match at {
        0 => format!("[{}]", question.split_whitespace().next().unwrap_or_default()),
        at if at % 2 == 0 => format!("字{at}"),
        at => format!(" w{at} "),
    };
    let tokens = question.split_whitespace().find_map(|word| word.strip_prefix("tokens=")?.parse().ok());
    (0..tokens.unwrap_or(20_u64)).map(token).collect()
}
