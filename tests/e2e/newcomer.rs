//! The commands as a newcomer types them, without a model, and the page in a real browser.

use std::fs;
use std::path::Path;
use std::process::Output;

use serde_json::{Value, json};
use tokio::process::Command;

use millhand_tests::client::id;
use millhand_tests::documents::check_citations;
use millhand_tests::server::binary;
use millhand_tests::{Browser, Launch, Server, wait_for};

async fn run(server: &Server, args: &[&str]) -> Output {
    let mut command = Command::new(binary());
    command.args(args).env("MILLHAND_URL", &server.url).env("MILLHAND_ADMIN_URL", &server.admin);
    command.output().await.unwrap()
}

async fn prints(server: &Server, args: &[&str]) -> String {
    let output = run(server, args).await;
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "millhand {args:?}: {out}{err}");
    out.into_owned()
}

fn write_handbook(folder: &Path) {
    fs::create_dir_all(folder.join("zh")).unwrap();
    let english = "# Ferry handbook\n\nThe ferry leaves Oakport every forty minutes. A bicycle costs three \
                   crowns.\n\n## Winter\n\nFrom November to March the last crossing is at 18:20.\n";
    let chinese = "# 渡轮手册\n\n渡轮每四十分钟从橡树港出发一班。自行车票价为三克朗。\n\n## 冬季\n\n十一月至次年三月，末班船为十八点二十分。\n";
    fs::write(folder.join("ferry.md"), english).unwrap();
    fs::write(folder.join("zh/渡轮.md"), chinese).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn documents_go_in_and_cited_answers_come_out() {
    let dir = tempfile::tempdir().unwrap();
    let handbook = dir.path().join("handbook");
    write_handbook(&handbook);
    let server = Launch::new(&dir.path().join("data")).start().await;
    prints(&server, &["ingest", handbook.to_str().unwrap(), "--collection", "ferry"]).await;
    let found = prints(&server, &["search", "bicycle price", "--collection", "ferry"]).await;
    assert!(found.contains("ferry.md"), "{found}");
    for (question, expected, document) in [
        ("What does a bicycle cost on the ferry?", "three crowns", "handbook/ferry.md"),
        ("自行车票价是多少？", "三克朗", "handbook/zh/渡轮.md"),
    ] {
        let answer = prints(&server, &["ask", question, "--collection", "ferry"]).await;
        assert!(answer.contains(expected) && answer.contains(document), "{question}: {answer}");
    }
    let jobs: Value = serde_json::from_str(&prints(&server, &["jobs", "--json"]).await).unwrap();
    let asked: Vec<&Value> =
        jobs["data"].as_array().unwrap().iter().filter(|job| job["kind"] == "chat").collect();
    assert_eq!(asked.len(), 2);
    for job in asked {
        check_citations(&server.client, &server.client.job(&id(job)).await).await;
    }
    let honest =
        prints(&server, &["ask", "Who won the chess olympiad in 1987?", "-t", "ferry", "--json"]).await;
    assert!(honest.contains("\"answered\":false"), "{honest}");
    prints(&server, &["dead-letters"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn errors_say_what_to_do_next() {
    let dir = tempfile::tempdir().unwrap();
    let away =
        Command::new(binary()).args(["ask", "x", "--url", "http://127.0.0.1:9"]).output().await.unwrap();
    assert!(!away.status.success());
    let said = String::from_utf8_lossy(&away.stderr);
    assert!(said.contains("millhand up"), "{said}");
    fs::write(dir.path().join("millhand.toml"), "[worker]\nslotz = 3\n").unwrap();
    let check =
        Command::new(binary()).args(["config", "check"]).current_dir(dir.path()).output().await.unwrap();
    assert!(!check.status.success());
    let said = String::from_utf8_lossy(&check.stderr);
    assert!(said.contains("slotz") && said.contains("slots"), "{said}");
    fs::remove_file(dir.path().join("millhand.toml")).unwrap();
    let args = ["up", "--listen", "0.0.0.0:0", "--data", "x"];
    let refused = Command::new(binary()).args(args).current_dir(dir.path()).output().await.unwrap();
    assert!(!refused.status.success());
    assert!(String::from_utf8_lossy(&refused.stderr).contains("--insecure"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_real_browser_shows_the_api_page_and_streams_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let handbook = dir.path().join("handbook");
    write_handbook(&handbook);
    let server = Launch::new(&dir.path().join("data")).start().await;
    prints(&server, &["ingest", handbook.to_str().unwrap(), "--collection", "ferry"]).await;
    let browser = Browser::start();
    let page = format!("{}/docs/", server.url);
    let listed = browser
        .run(
            &page,
            "new Promise(done => { const look = () => document.body.innerText.includes('/v1/jobs') \
             ? done(true) : setTimeout(look, 20); look(); })",
        )
        .await;
    assert_eq!(listed, true, "the page lists the paths");
    let streamed = browser.run(&page, STREAM).await;
    assert!(streamed["text"].as_str().unwrap().contains("三克朗"), "{streamed}");
    let seqs: Vec<u64> = streamed["seqs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|seq| seq.as_str().unwrap().parse().unwrap())
        .collect();
    assert_eq!(seqs, (1..=seqs.len() as u64).collect::<Vec<_>>(), "{streamed}");
}

/// Asks, follows the log with the browser's own `EventSource`, and ends it at the terminal event.
const STREAM: &str = r#"
(async () => {
    const body = JSON.stringify({ input: "自行车票价是多少？", collection: "ferry" });
    const asked = await fetch("/v1/jobs", { method: "POST", headers: { "content-type": "application/json" }, body });
    const job = await asked.json();
    const seqs = [];
    let text = "";
    await new Promise((done, failed) => {
        const events = new EventSource(job.links.events);
        const types = ["job.queued", "attempt.started", "job.waiting", "step.started", "step.completed",
            "retrieval.completed", "output_text.delta", "citation.added", "model.called", "usage.updated", "job.completed", "job.failed"];
        for (const type of types) {
            events.addEventListener(type, event => {
                seqs.push(event.lastEventId);
                if (type === "output_text.delta") text += JSON.parse(event.data).data.text;
                if (type.startsWith("job.") && type.match(/completed|failed/)) { events.close(); done(); }
            });
        }
    });
    return { seqs, text };
})()
"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_existing_folder_is_ready_in_a_second() {
    let dir = tempfile::tempdir().unwrap();
    Launch::new(dir.path()).start().await.sigterm().await;
    let server = Launch::new(dir.path()).start().await;
    let line = server.logged();
    let ready = line.lines().find(|line| line.contains("started_ms")).expect("it says when it is ready");
    let ready: Value = serde_json::from_str(ready).unwrap();
    let millis = ready["started_ms"].as_u64().or_else(|| ready["fields"]["started_ms"].as_u64()).unwrap();
    assert!(millis < 1000, "{millis} ms");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_sample_answers_as_soon_as_the_first_start_is_ready() {
    let dir = tempfile::tempdir().unwrap();
    let server = Launch::with_sample(dir.path()).start().await;
    let ready = wait_for("it to be ready", || async {
        let answer = server.client.get("/readyz").await;
        (answer.status == 200).then(|| answer.json())
    })
    .await;
    assert_eq!(ready["loading"], false);
    for question in ["How do I stop the mill in an emergency?", "如何紧急停机？"] {
        let job = server.client.submit(json!({"input": question})).await;
        let answer = server.client.finished(&job).await;
        assert_eq!(answer["output"]["answered"], true, "{answer}");
    }
}
