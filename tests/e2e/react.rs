//! The agent `react` searches by itself; what it has found and bought is kept when its worker dies.

use serde_json::{Value, json};

use millhand_tests::documents::{add, check_citations};
use millhand_tests::{Launch, Provider, Server};

const DOCUMENTS: [(&str, &str); 3] = [
    ("fares.md", "# Fares\n\nA bicycle costs three crowns on every crossing.\n"),
    ("kitchen.md", "# Kitchen\n\nSoup is served in the afternoon, with bread from the oven.\n"),
    ("水磨.md", "# 水磨\n\n水磨坊每天上午九点开始磨面。\n"),
];

async fn with_documents(launch: Launch) -> Server {
    let server = launch.start().await;
    for (name, text) in DOCUMENTS {
        add(&server.client, "ferry", name, text).await;
    }
    server
}

async fn log(server: &Server, job: &str) -> Vec<Value> {
    let events = server.client.log(job, 0).await;
    events.iter().map(|event| serde_json::from_str(event).unwrap()).collect()
}

fn of<'a>(events: &'a [Value], kind: &str) -> Vec<&'a Value> {
    events.iter().filter(|event| event["type"] == kind).map(|event| &event["data"]).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_model_searches_as_often_as_it_asks_for_and_cites_what_was_found() {
    let (dir, model) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let server = with_documents(Launch::new(dir.path()).model(&model.base_url())).await;
    for (question, calls, cited) in [
        ("What does a bicycle cost?", 1, "fares.md"),
        ("When is soup served? calls=3", 3, "kitchen.md"),
        ("水磨坊几点开始磨面？", 1, "水磨.md"),
    ] {
        let body = json!({"input": question, "agent": "react", "collection": "ferry"});
        let job = server.client.submit(body).await;
        let job = server.client.finished(&job).await;
        assert_eq!(
            (&job["status"], &job["output"]["answered"]),
            (&json!("completed"), &json!(true)),
            "{job}"
        );
        check_citations(&server.client, &job).await;
        assert_eq!(job["output"]["citations"][0]["document"], cited, "{job}");
        let events = log(&server, job["id"].as_str().unwrap()).await;
        let called = of(&events, "tool.called");
        assert_eq!(called.len(), calls, "{events:#?}");
        assert_eq!(called[0], &json!({"name": "search_documents", "arguments": {"query": question}}));
        assert_eq!(of(&events, "tool.returned").len(), calls);
        assert_eq!(of(&events, "usage.updated").len(), calls + 1, "each reply was paid");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_never_stops_asking_has_to_answer_in_the_end() {
    let (dir, model) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let server = with_documents(Launch::new(dir.path()).model(&model.base_url())).await;
    let body = json!({"input": "When is soup served? calls=9", "agent": "react", "collection": "ferry"});
    let job = server.client.submit(body).await;
    let job = server.client.finished(&job).await;
    assert_eq!(job["output"]["answered"], true, "{job}");
    assert_eq!(model.calls().await.len(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_agent_goes_on_where_it_was_and_buys_nothing_again() {
    let (dir, model) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let launch = || Launch::new(dir.path()).model(&model.base_url());
    let server = with_documents(launch()).await;
    // So slow that it dies in the middle of its second reply.
    let body = json!({"input": "What does a bicycle cost? gap=400", "agent": "react", "collection": "ferry"});
    let job = server.client.submit(body).await;
    server.client.sse(&job, 0, |events| events.iter().any(|event| event.contains("output_text.delta"))).await;
    server.kill9().await;
    let server = launch().start().await;
    let job = server.client.finished(&job).await;
    assert_eq!(job["output"]["answered"], true, "{job}");
    check_citations(&server.client, &job).await;
    let events = log(&server, job["id"].as_str().unwrap()).await;
    let replayed = of(&events, "step.completed").into_iter().filter(|step| step["replayed"] == true);
    let replayed: Vec<&str> = replayed.map(|step| step["key"].as_str().unwrap()).collect();
    assert_eq!(replayed[0], "model:1", "{events:#?}");
    assert_eq!(replayed[1], "tool:1.1", "{events:#?}");
    assert_eq!(model.calls().await.len(), 3, "only the reply that was under way is bought again");
}
