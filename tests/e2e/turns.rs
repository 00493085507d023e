//! P4: a conversation's jobs run one after the other, and share their history.

use serde_json::json;

use millhand_tests::provider::answer_to;
use millhand_tests::{Launch, Provider};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn turns_run_in_order_and_hear_what_was_said_before() {
    let (dir, model) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let launch = Launch::new(dir.path()).model(&model.base_url());
    let server = launch.start().await;
    let mut questions = vec!["第一 tokens=20 gap=15".to_owned()];
    let mut jobs = vec![server.client.chat(&questions[0]).await];
    let conversation = server.client.job(&jobs[0]).await["conversation_id"].clone();
    for turn in 2..=4 {
        let question = format!("turn{turn} tokens=20 gap=15");
        let body = json!({"input": question, "agent": "chat", "conversation_id": conversation});
        jobs.push(server.client.submit(body).await);
        questions.push(question);
    }
    server.client.reaches(&jobs[1], "in_progress").await;
    server.kill9().await;
    let server = launch.start().await;
    let mut ended = String::new();
    for job in &jobs {
        let job = server.client.finished(job).await;
        assert_eq!(job["status"], "completed");
        let started = job["started_at"].as_str().unwrap();
        assert!(started >= ended.as_str(), "{job} started before {ended}");
        ended = job["finished_at"].as_str().unwrap().to_owned();
    }
    let calls = model.calls_for("turn4").await;
    let heard: Vec<_> = calls.last().unwrap().messages.iter().filter(|(role, _)| role != "system").collect();
    let said = questions.iter().flat_map(|question| [question.clone(), answer_to(question)]);
    let expected: Vec<String> = said.take(7).collect();
    assert_eq!(heard.iter().map(|(_, text)| text.clone()).collect::<Vec<_>>(), expected);

    let page =
        server.client.get(&format!("/v1/conversations/{}/messages", conversation.as_str().unwrap())).await;
    assert_eq!(page.json()["data"].as_array().unwrap().len(), 8, "{}", page.text);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_interrupt_stops_what_runs_and_the_model_is_left_alone() {
    let (dir, model) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let server = Launch::new(dir.path()).model(&model.base_url()).start().await;
    let first = server.client.chat("slow tokens=10 stall=2").await;
    let running = server.client.reaches(&first, "in_progress").await;
    let busy = json!({"input": "x", "agent": "chat", "conversation_id": running["conversation_id"], "on_busy": "reject"});
    let answer = server.client.post("/v1/jobs", &busy).await;
    assert_eq!((answer.status, answer.json()["code"].as_str()), (409, Some("conversation_busy")));
    let body = json!({"input": "now tokens=3", "agent": "chat",
        "conversation_id": running["conversation_id"], "on_busy": "interrupt"});
    let second = server.client.submit(body).await;
    assert_eq!(server.client.job(&first).await["status"], "cancelled");
    assert_eq!(server.client.finished(&second).await["status"], "completed");
    let heard = model.calls_for("now").await.pop().unwrap().messages;
    assert!(
        !heard.iter().any(|(_, text)| text.contains("slow")),
        "cancelled turns are no history: {heard:?}"
    );
}
