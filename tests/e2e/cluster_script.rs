//! `just cluster`: every server, nginx, two ingresses and three workers by one script, and all of them gone
//! with it.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Stdio;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::json;
use tempfile::TempDir;
use tokio::process::{Child, Command};

use millhand_tests::documents::check_citations;
use millhand_tests::server::binary;
use millhand_tests::{Client, wait_for};

/// A running script. Dropped, it is killed, and with it all that it started.
struct Cluster {
    script: Child,
    client: Client,
    said: PathBuf,
}

impl Cluster {
    /// Starts it on `folder`, and waits until it says that it is ready.
    async fn start(broker: &str, folder: &Path) -> Self {
        let said = folder.with_extension("out");
        let out = File::create(&said).unwrap();
        let mut command = Command::new(concat!(env!("CARGO_MANIFEST_DIR"), "/../compose/cluster"));
        command.args([broker, "--port", "0", "--data"]).arg(folder).env("MILLHAND", binary());
        command.env_remove("OPENAI_BASE_URL").env_remove("OPENAI_API_KEY");
        command.stdin(Stdio::null()).stdout(out.try_clone().unwrap()).stderr(out).kill_on_drop(true);
        let mut script = command.spawn().expect("bash runs it");
        let url = wait_for("the cluster to be ready", || {
            let text = fs::read_to_string(&said).unwrap();
            assert!(script.try_wait().unwrap().is_none(), "it ended before it was ready: {text}");
            async move {
                let ready = text.lines().find(|line| line.starts_with("The cluster is ready: "))?;
                // The last line: the questions are printed.
                text.contains("Stop: Ctrl-C").then(|| ready.split_whitespace().nth(4).unwrap().to_owned())
            }
        })
        .await;
        Self { script, client: Client::new(&url), said }
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.said).unwrap()
    }

    async fn end_by(mut self, signal: Signal) -> (Option<i32>, String) {
        let pid = Pid::from_raw(self.script.id().unwrap().try_into().unwrap()).unwrap();
        kill_process(pid, signal).unwrap();
        let status = self.script.wait().await.unwrap();
        (status.code(), self.said())
    }
}

/// The processes that speak of `folder`, in their arguments or in their environment.
fn processes_of(folder: &Path) -> Vec<String> {
    let folder = folder.to_str().unwrap();
    let mut found = Vec::new();
    for process in fs::read_dir("/proc").unwrap() {
        let path = process.unwrap().path();
        let read = |name| fs::read(path.join(name)).map(|text| String::from_utf8_lossy(&text).into_owned());
        // The last of the files: where the lock of the folder is held.
        let holds = || {
            let files = fs::read_dir(path.join("fd")).into_iter().flatten().flatten();
            files.filter_map(|file| fs::read_link(file.path()).ok()).any(|file| file.starts_with(folder))
        };
        let command = read("cmdline").unwrap_or_default().replace('\0', " ");
        // Of a process that has ended and is not waited for, nothing is left to read.
        if !command.is_empty() && (command.contains(folder) || holds()) {
            found.push(command);
        }
    }
    found
}

async fn answers(cluster: &Cluster, question: &str, text: &str) {
    let asked = cluster.client.request("POST", "/v1/jobs").header("prefer", "wait=30");
    let answer = cluster.client.send(asked.json(&json!({ "input": question }))).await.unwrap();
    assert_eq!(answer.status, 200, "{}", answer.text);
    let job = answer.json();
    assert_eq!((&job["status"], &job["output"]["answered"]), (&json!("completed"), &json!(true)), "{job}");
    assert!(job["output"]["text"].as_str().unwrap().contains(text), "{job}");
    check_citations(&cluster.client, &job).await;
}

/// The processes of a cluster, by name.
fn all(broker: &str) -> [&str; 9] {
    ["api-1", "api-2", "worker-1", "worker-2", "worker-3", "nginx", broker, "redis", "postgres"]
}

/// A folder for a cluster, in one that PostgreSQL may enter: it runs as nobody where the test runs as root.
fn folder() -> (TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    fs::set_permissions(dir.path(), Permissions::from_mode(0o755)).unwrap();
    let folder = dir.path().join("cluster");
    (dir, folder)
}

/// Starts a cluster, asks it, and kills the script: then it can tell nobody to stop.
async fn serves_and_leaves_nothing_behind(broker: &str, folder: &Path) {
    let cluster = Cluster::start(broker, folder).await;
    let said = cluster.said();
    let line = said.lines().find(|line| line.trim_start().starts_with("processes")).unwrap();
    let named: Vec<&str> = line.split_whitespace().skip(1).collect();
    assert_eq!(said.matches("curl -s ").count(), 3, "{said}");
    for name in all(broker) {
        assert!(named.contains(&name), "{line}");
    }
    answers(&cluster, "如何紧急停机？", "拉下楼梯旁的红色拉杆").await;
    answers(&cluster, "How do I add my own documents?", "millhand ingest").await;
    assert!(all(broker).len() <= processes_of(folder).len(), "{:#?}", processes_of(folder));
    cluster.end_by(Signal::KILL).await;
    wait_for("every process to be gone", || async { processes_of(folder).is_empty().then_some(()) }).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_script_serves_on_rabbitmq_and_leaves_nothing_behind() {
    let (_dir, folder) = folder();
    serves_and_leaves_nothing_behind("rabbitmq", &folder).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_script_serves_on_kafka_goes_on_after_a_kill_and_stops_in_order() {
    let (_dir, folder) = folder();
    serves_and_leaves_nothing_behind("kafka", &folder).await;
    // On the same folder, with all that was in it: the sample and two answers.
    let cluster = Cluster::start("kafka", &folder).await;
    let kept = cluster.client.get("/v1/jobs?status=completed").await.json();
    assert_eq!(kept["data"].as_array().unwrap().len(), 3, "{kept}");
    answers(&cluster, "How do I add my own documents?", "millhand ingest").await;
    let (code, said) = cluster.end_by(Signal::INT).await;
    assert_eq!(code, Some(0), "{said}");
    assert_eq!(processes_of(&folder), Vec::<String>::new(), "{said}");
    for name in ["api-1", "api-2", "worker-1", "worker-2", "worker-3"] {
        let log = fs::read_to_string(folder.join(name).with_extension("log")).unwrap();
        assert!(
            log.trim_end().lines().last().unwrap().contains("\"stopped\""),
            "{name} ended in order: {log}"
        );
    }
}
