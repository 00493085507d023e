//! Documents in, and what answers say of them.

use serde_json::{Value, json};

use crate::Client;
use crate::client::id;

/// Adds a document and waits until it can be found.
pub async fn add(client: &Client, collection: &str, name: &str, text: &str) {
    let body = json!({"name": name, "text": text, "content_type": "text/markdown"});
    let answer = client.post(&format!("/v1/collections/{collection}/documents"), &body).await;
    assert_eq!(answer.status, 202, "{}", answer.text);
    let job = client.finished(&id(&answer.json())).await;
    assert_eq!(job["status"], "completed", "{job}");
}

/// Every quote is the canonical text at its span, byte for byte, and belongs to a part of the answer;
/// answers the citations.
///
/// # Panics
///
/// When a quote is another text, or there is no citation.
pub async fn check_citations(client: &Client, job: &Value) -> Vec<Value> {
    let answer = job["output"]["text"].as_str().expect("an answer");
    let citations = job["output"]["citations"].as_array().expect("a list").clone();
    assert!(!citations.is_empty(), "{job}");
    for citation in &citations {
        let field = |name: &str| {
            citation[name].as_str().unwrap_or_else(|| panic!("no {name}: {citation}")).to_owned()
        };
        let path = format!("/v1/collections/{}/documents/{}/text", field("collection"), field("document_id"));
        let text = client.get(&path).await.text;
        let span = |name: &str| {
            let end = |at: usize| {
                usize::try_from(citation[name][at].as_u64().expect("an offset")).expect("it fits")
            };
            end(0)..end(1)
        };
        assert_eq!(text.get(span("span")), Some(field("quote").as_str()), "{citation}");
        let part = answer.get(span("answer_span"));
        assert!(part.is_some_and(|part| !part.trim().is_empty()), "{citation} in {answer}");
    }
    citations
}

/// The documents of the passages that an answer was looked for in, best first.
#[must_use]
pub fn retrieved(log: &[String]) -> Vec<String> {
    let mut events = log.iter().map(|event| serde_json::from_str::<Value>(event).expect("JSON"));
    let found = events.rfind(|event| event["type"] == "retrieval.completed").expect("it searched");
    let passages = found["data"]["passages"].as_array().expect("a list").iter();
    passages.map(|passage| passage["document"].as_str().expect("a name").to_owned()).collect()
}
