//! Answers of a model from documents: every source is checked, none is made up.

use serde_json::{Value, json};

use millhand_tests::client::id;
use millhand_tests::documents::{add, check_citations};
use millhand_tests::log::check_log;
use millhand_tests::{Launch, Provider, Server};

const FERRY: &str = "# Ferry handbook ⛴\n\nThe ferry — it is blue — leaves Oakport every forty minutes.\nA bicycle \
                     costs three crowns.\n\n## Winter\n\nFrom November to March the last crossing is at 18:20.\n";
const FERRY_ZH: &str = "# 渡轮手册\n\n渡轮每四十分钟从橡树港出发一班。自行车票价为三克朗。\n\n## 冬季\n\n十一月至次年三月，末班船为十八点二十分。\n";

/// A server with both handbooks, and its model.
async fn with_handbooks(data: &tempfile::TempDir) -> (Server, Provider) {
    let model = Provider::start().await;
    let server = Launch::new(data.path()).model(&model.base_url()).start().await;
    add(&server.client, "ferry", "ferry.md", FERRY).await;
    add(&server.client, "ferry", "渡轮.md", FERRY_ZH).await;
    (server, model)
}

async fn ask(server: &Server, question: &str) -> Value {
    let job = server.client.submit(json!({"input": question, "collection": "ferry"})).await;
    let job = server.client.finished(&job).await;
    assert_eq!(job["status"], "completed", "{job}");
    check_log(&job, &server.client.log(&id(&job), 0).await);
    job
}

fn quotes(citations: &[Value]) -> Vec<&str> {
    citations.iter().map(|citation| citation["quote"].as_str().unwrap()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_grounded_answer_with_a_model_cites_spans_byte_exact() {
    let dir = tempfile::tempdir().unwrap();
    let (server, model) = with_handbooks(&dir).await;
    for (question, quote, document) in [
        ("What does a bicycle cost on the ferry?", "A bicycle costs three crowns.", "ferry.md"),
        ("自行车票价是多少？", "自行车票价为三克朗。", "渡轮.md"),
        (
            "When is the last crossing from November to March?",
            "From November to March the last crossing",
            "ferry.md",
        ),
    ] {
        let job = ask(&server, question).await;
        assert_eq!(job["output"]["answered"], true, "{job}");
        let citations = check_citations(&server.client, &job).await;
        assert!(citations[0]["quote"].as_str().unwrap().contains(quote), "{job}");
        assert_eq!(citations[0]["document"], document, "{job}");
        let text = job["output"]["text"].as_str().unwrap();
        assert!(text.contains(" [1]") && !text.contains("[["), "marks become numbers: {text}");
        assert!(job["usage"]["input_tokens"].as_u64() > Some(100), "the passages were paid for: {job}");
    }
    let calls = model.calls().await;
    assert_eq!(calls.len(), 3);
    let asked = &calls[0].messages;
    assert!(asked[0].1.contains("[[none]]") && asked.last().unwrap().1.contains("id="), "{asked:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_finds_no_answer_in_the_passages_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let (server, _model) = with_handbooks(&dir).await;
    let job = ask(&server, "Who won the ferry race in 1987?").await;
    let output = &job["output"];
    assert_eq!((&output["answered"], &output["citations"]), (&json!(false), &json!([])), "{job}");
    assert!(!output["text"].as_str().unwrap().contains("[["), "{job}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn citations_of_passages_that_are_not_there_are_dropped() {
    let dir = tempfile::tempdir().unwrap();
    let (server, model) = with_handbooks(&dir).await;
    model.faults(json!([{"kind": "wrong_marks"}])).await;
    let job = ask(&server, "What does a bicycle cost on the ferry?").await;
    let output = &job["output"];
    assert_eq!((&output["answered"], &output["citations"]), (&json!(false), &json!([])), "{job}");
    let text = output["text"].as_str().unwrap();
    assert!(text.contains("three crowns") && !text.contains("zzzz") && !text.contains("[["), "{text}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn invented_citations_are_dropped_and_true_ones_stay() {
    let dir = tempfile::tempdir().unwrap();
    let (server, model) = with_handbooks(&dir).await;
    model.faults(json!([{"kind": "invented_quotes"}])).await;
    let job = ask(&server, "What does a bicycle cost on the ferry?").await;
    let text = job["output"]["text"].as_str().unwrap();
    assert!(text.contains("4711 members"), "it did lie: {text}");
    let citations = check_citations(&server.client, &job).await;
    assert!(quotes(&citations).iter().all(|quote| !quote.contains("4711")), "{job}");
    assert!(quotes(&citations).iter().any(|quote| quote.contains("three crowns")), "{job}");
    let lie = text.find("The board").unwrap() as u64;
    assert!(citations.iter().all(|citation| citation["answer_span"][1].as_u64().unwrap() <= lie), "{job}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_whose_usage_nobody_counted_is_an_answer() {
    let dir = tempfile::tempdir().unwrap();
    let (server, model) = with_handbooks(&dir).await;
    model.faults(json!([{"kind": "no_usage"}])).await;
    let job = ask(&server, "What does a bicycle cost on the ferry?").await;
    check_citations(&server.client, &job).await;
    let call = model.calls().await.pop().unwrap().entry;
    assert_eq!(job["usage"]["input_tokens"], call["input_tokens"], "unknown is not zero: {job}");
    assert!(job["usage"]["output_tokens"].as_u64() >= call["output_tokens"].as_u64(), "{job} {call}");
    assert_eq!(server.metric("millhand_model_usage_inexact_total").await, 1.0);
}

/// A plain image has none.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_without_tls_needs_no_certificates_of_the_system() {
    let (dir, model) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let launch = Launch::new(dir.path()).model(&model.base_url());
    let launch = launch.env("SSL_CERT_FILE", "/nowhere").env("SSL_CERT_DIR", "/nowhere");
    let server = launch.start().await;
    let job = server.client.chat("问 tokens=3").await;
    assert_eq!(server.client.finished(&job).await["status"], "completed");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn chat_without_documents_or_an_index_uses_history() {
    let (dir, model) = (tempfile::tempdir().unwrap(), Provider::start().await);
    let launch = Launch::new(dir.path()).model(&model.base_url()).env("MILLHAND_INDEX__KIND", "none");
    let server = launch.start().await;
    let first = server.client.chat("My name is 安娜. tokens=4").await;
    let first = server.client.finished(&first).await;
    let body = json!({"input": "What is it? tokens=3", "agent": "chat", "conversation_id": first["conversation_id"]});
    let second = server.client.submit(body).await;
    assert_eq!(server.client.finished(&second).await["status"], "completed");
    let heard = model.calls_for("What is it?").await.pop().unwrap().messages;
    let said: Vec<(&str, &str)> =
        heard.iter().skip(1).map(|(role, text)| (role.as_str(), text.as_str())).collect();
    let answer = first["output"]["text"].as_str().unwrap();
    let expected =
        [("user", "My name is 安娜. tokens=4"), ("assistant", answer), ("user", "What is it? tokens=3")];
    assert_eq!(said, expected);
    let refused = server.client.post("/v1/jobs", &json!({"input": "x", "agent": "rag"})).await;
    assert_eq!((refused.status, refused.json()["code"].as_str()), (422, Some("index_not_configured")));
}
