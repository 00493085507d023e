//! With an embedder, what is meant is found too, beside what is said.

use serde_json::{Value, json};

use millhand_tests::documents::{add, check_citations};
use millhand_tests::{Launch, Provider, Server};

const DOCUMENTS: [(&str, &str); 5] = [
    ("fares.md", "# Fares\n\nA bicycle costs three crowns on every crossing.\n"),
    ("kitchen.md", "# Kitchen\n\nSoup is served in the afternoon, with bread from the oven.\n"),
    ("dust.md", "# Dust\n\nFlour can explode: smoking and candles are forbidden on all floors.\n"),
    ("tariff.md", "# Tariff\n\nVelocipede is an old name, found on the tariff of 1890.\n"),
    ("garden.md", "# Garden\n\nRoses bloom in June; the gate is locked after dark.\n"),
];
/// What the embedder knows and no word of the documents says.
const MEANINGS: [[&str; 3]; 2] = [["bicycle", "velocipede", "单车"], ["crowns", "money", "票价"]];

async fn search(server: &Server, query: &str) -> Vec<Value> {
    let answer = server.client.post("/v1/collections/ferry/search", &json!({"query": query})).await;
    assert_eq!(answer.status, 200, "{}", answer.text);
    answer.json()["results"].as_array().unwrap().clone()
}

fn places(results: &[Value]) -> Vec<&str> {
    results.iter().map(|result| result["document"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_paraphrase_without_shared_words_is_found_with_an_embedder() {
    let (dir, plain, model) =
        (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap(), Provider::start().await);
    model.control(json!({"answers": {"synonyms": MEANINGS}})).await;
    let by_words = Launch::new(plain.path()).start().await;
    let fused = Launch::new(dir.path())
        .env("MILLHAND_EMBEDDER__BASE_URL", model.base_url())
        .env("MILLHAND_EMBEDDER__NAME", "millhand-embed")
        .start()
        .await;
    for (name, text) in DOCUMENTS {
        add(&by_words.client, "ferry", name, text).await;
        add(&fused.client, "ferry", name, text).await;
    }
    // No word of it stands in any document.
    let foreign = "单车票价";
    assert_eq!(places(&search(&by_words, foreign).await), Vec::<&str>::new());
    assert_eq!(places(&search(&fused, foreign).await)[0], "fares.md");

    // One document has the words, another one the meaning: both come before the rest.
    let both = search(&fused, "velocipede tariff").await;
    let first: Vec<&str> = places(&both)[..2].to_vec();
    assert!(first.contains(&"tariff.md") && first.contains(&"fares.md"), "{both:?}");
    assert_eq!(places(&search(&by_words, "velocipede tariff").await), ["tariff.md"]);
    let result = &both[first.iter().position(|name| *name == "fares.md").unwrap()];
    let text = result["text"].as_str().unwrap();
    assert!(text.ends_with("A bicycle costs three crowns on every crossing."), "{result}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_embedder_that_fails_costs_the_meaning_and_not_the_answer() {
    let (dir, model) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let server = Launch::new(dir.path())
        .env("MILLHAND_EMBEDDER__BASE_URL", model.base_url())
        .env("MILLHAND_EMBEDDER__NAME", "millhand-embed")
        .start()
        .await;
    let (name, text) = DOCUMENTS[0];
    add(&server.client, "ferry", name, text).await;
    model.faults(json!([{"kind": "error", "on": "embeddings"}])).await;
    let job =
        server.client.submit(json!({"input": "What does a bicycle cost?", "collection": "ferry"})).await;
    let job = server.client.finished(&job).await;
    assert_eq!(job["output"]["answered"], true, "{job}");
    check_citations(&server.client, &job).await;
}

/// Where a job's passages are from, best first.
async fn retrieved(server: &Server, input: &str) -> (Value, Vec<String>) {
    let job = server.client.submit(json!({"input": input, "collection": "ferry"})).await;
    let job = server.client.finished(&job).await;
    let events = server.client.log(job["id"].as_str().unwrap(), 0).await;
    let mut events = events.iter().map(|event| serde_json::from_str::<Value>(event).unwrap());
    let found = events.find(|event| event["type"] == "retrieval.completed").unwrap();
    let passages = found["data"]["passages"].as_array().unwrap();
    let names = passages.iter().map(|passage| passage["document"].as_str().unwrap().to_owned()).collect();
    (job, names)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_reranker_orders_what_was_found_and_is_not_needed() {
    let (dir, model) = (tempfile::tempdir().unwrap(), Provider::start().await);
    model.control(json!({"answers": {"synonyms": MEANINGS}})).await;
    let server = Launch::new(dir.path())
        .env("MILLHAND_RERANKER__BASE_URL", model.base_url())
        .env("MILLHAND_RERANKER__NAME", "millhand-rerank")
        .start()
        .await;
    let documents = [
        ("old.md", "# Old names\n\nCrossing and velocipede are old words, says the crossing guide.\n"),
        ("fares.md", "# Fares\n\nA bicycle costs three crowns on every crossing.\n"),
    ];
    for (name, text) in documents {
        add(&server.client, "ferry", name, text).await;
    }
    let asked = "velocipede money crossing";
    let (job, ranked) = retrieved(&server, asked).await;
    assert_eq!(ranked, ["fares.md", "old.md"], "{job}");
    check_citations(&server.client, &job).await;

    // By words the other one has more of the question.
    model.faults(json!([{"kind": "error", "on": "rerank"}])).await;
    let (job, unranked) = retrieved(&server, asked).await;
    assert_eq!(unranked, ["old.md", "fares.md"], "{job}");
    assert_eq!(job["status"], "completed");
}
