//! A follow-up that names nothing is about what was asked before.

use serde_json::json;

use millhand_tests::client::id;
use millhand_tests::documents::{add, check_citations, retrieved};
use millhand_tests::{Launch, Provider, Server};

/// Three places of which the same is said: a question without its subject fits each of them.
async fn places(server: &Server) {
    for (place, zh, hour, hour_zh) in [
        ("clock museum", "钟表博物馆", "ten", "十"),
        ("swimming pool", "游泳池", "seven", "七"),
        ("town library", "市图书馆", "nine", "九"),
    ] {
        let text = format!(
            "# The {place}\n\nThe {place} stands in the old town, beside the river.\n\n## Visiting\n\nThe {place} opens at \
             {hour} o'clock. Tickets are sold at the entrance.\n"
        );
        add(&server.client, "town", &format!("{place}.md"), &text).await;
        let text = format!(
            "# {zh}\n\n{zh}位于老城区的河边。\n\n## 参观\n\n{zh}上午{hour_zh}点开门。门票在入口处出售。\n"
        );
        add(&server.client, "town", &format!("{zh}.md"), &text).await;
    }
}

/// Asks about one place, then about "it".
async fn asks_of_it(server: &Server) {
    for (first, follow_up, document, said) in [
        ("Where does the swimming pool stand?", "When does it open?", "swimming pool.md", "seven"),
        ("Where does the town library stand?", "And when does it open?", "town library.md", "nine"),
        ("钟表博物馆在哪里？", "它几点开门？", "钟表博物馆.md", "十点"),
        ("市图书馆在哪里？", "那它几点开门？", "市图书馆.md", "九点"),
    ] {
        let before = server.client.submit(json!({"input": first, "collection": "town"})).await;
        let before = server.client.finished(&before).await;
        assert_eq!(before["output"]["answered"], true, "{before}");
        let body =
            json!({"input": follow_up, "collection": "town", "conversation_id": before["conversation_id"]});
        let job = server.client.submit(body).await;
        let job = server.client.finished(&job).await;
        let found = retrieved(&server.client.log(&id(&job), 0).await);
        assert_eq!(found[0], document, "{follow_up} after {first}: {found:?}");
        assert_eq!(job["output"]["answered"], true, "{follow_up} after {first}: {job}");
        let citations = check_citations(&server.client, &job).await;
        let said_there = |citation: &serde_json::Value| {
            citation["document"] == document
                && citation["quote"].as_str().is_some_and(|quote| quote.contains(said))
        };
        assert!(citations.iter().any(said_there), "{follow_up} after {first}: {job}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follow_up_with_only_a_pronoun_finds_the_earlier_subject_without_a_model() {
    let dir = tempfile::tempdir().unwrap();
    let server = Launch::new(dir.path()).start().await;
    places(&server).await;
    asks_of_it(&server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follow_up_with_only_a_pronoun_finds_the_earlier_subject_with_a_model() {
    let (dir, model) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let server = Launch::new(dir.path()).model(&model.base_url()).start().await;
    places(&server).await;
    asks_of_it(&server).await;
    assert_eq!(model.calls().await.len(), 8, "one call for each question");
}
