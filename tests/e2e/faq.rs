//! How good search and answers without a model are on real documents: the Debian FAQ, in English and
//! Chinese. The questions were written down before anything was tuned, and half of them (`held_out`)
//! are never looked at while tuning.
//!
//! `cargo test -p millhand-tests --test e2e faq -- --nocapture` prints the table, and with
//! `FAQ_SHOW=dev` every question of that half that went wrong.

use std::collections::HashMap;
use std::fs;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::{Value, json};
use tokio::process::Command;

use millhand_tests::server::binary;
use millhand_tests::{Launch, Server};

/// Where Debian's packages `debian-faq` and `debian-faq-zh-cn` put it.
const FAQ: &str = "/usr/share/doc/debian/FAQ";

#[derive(Deserialize)]
struct Question {
    question: String,
    /// Absent: the documents do not say.
    document: Option<String>,
    /// Stands in the document, once.
    answer: Option<String>,
    half: String,
}

/// What was counted over some questions.
#[derive(Default)]
struct Score {
    answerable: u32,
    hits: u32,
    right_spans: u32,
    unanswerable: u32,
    abstained: u32,
    citations: u32,
    false_citations: u32,
}

impl Score {
    fn add(&mut self, other: &Self) {
        self.answerable += other.answerable;
        self.hits += other.hits;
        self.right_spans += other.right_spans;
        self.unanswerable += other.unanswerable;
        self.abstained += other.abstained;
        self.citations += other.citations;
        self.false_citations += other.false_citations;
    }
}

fn percent(part: u32, whole: u32) -> f64 {
    100.0 * f64::from(part) / f64::from(whole)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn answers_from_the_debian_faq_are_found_quoted_and_honest() {
    let dir = tempfile::tempdir().unwrap();
    let server = Launch::new(dir.path()).start().await;
    let english = html_files(Path::new(FAQ), ".en.html");
    let chinese = html_files(&Path::new(FAQ).join("zh-cn"), ".zh-cn.html");
    let mut table = String::from("language  half      hit rate@5  right span  abstention  false citations\n");
    let mut totals = Vec::new();
    for (language, files) in [("en", english), ("zh", chinese)] {
        ingest(&server, language, &files).await;
        let path = format!("{}/data/faq/{language}.json", env!("CARGO_MANIFEST_DIR"));
        let questions: Vec<Question> = serde_json::from_slice(&fs::read(path).unwrap()).unwrap();
        let texts = texts(&server, language).await;
        let mut total = Score::default();
        for half in ["dev", "held_out"] {
            let mut score = Score::default();
            for question in questions.iter().filter(|question| question.half == half) {
                score.add(&ask(&server, language, question, &texts).await);
            }
            row(&mut table, language, half, &score);
            total.add(&score);
        }
        row(&mut table, language, "all", &total);
        totals.push((language, total));
    }
    println!("{table}");
    for (language, score) in totals {
        assert!(20 <= score.answerable && 8 <= score.unanswerable, "{language}: too few questions");
        assert!(score.answerable <= score.citations, "{language}: answers cite");
        assert_eq!(score.false_citations, 0, "{language}: a quote is the text it names\n{table}");
        assert!(85.0 <= percent(score.hits, score.answerable), "{language}: hit rate\n{table}");
        assert!(60.0 <= percent(score.right_spans, score.answerable), "{language}: right spans\n{table}");
        assert!(75.0 <= percent(score.abstained, score.unanswerable), "{language}: abstention\n{table}");
    }
}

fn row(table: &mut String, language: &str, half: &str, score: &Score) {
    use std::fmt::Write as _;
    let _ = writeln!(
        table,
        "{language:<9} {half:<9} {:>8.0} %  {:>8.0} %  {:>8.0} %  {:>6} of {}",
        percent(score.hits, score.answerable),
        percent(score.right_spans, score.answerable),
        percent(score.abstained, score.unanswerable),
        score.false_citations,
        score.citations,
    );
}

fn html_files(folder: &Path, suffix: &str) -> Vec<PathBuf> {
    let listed = fs::read_dir(folder);
    let listed =
        listed.unwrap_or_else(|_| panic!("{} is missing: ./tests/run installs it", folder.display()));
    let mut files: Vec<_> = listed.map(|file| file.unwrap().path()).collect();
    files.retain(|file| file.to_string_lossy().ends_with(suffix));
    files.sort();
    assert!(10 < files.len(), "{} holds the chapters", folder.display());
    files
}

async fn ingest(server: &Server, collection: &str, files: &[PathBuf]) {
    let mut command = Command::new(binary());
    command.arg("ingest").args(files).args(["--collection", collection]).env("MILLHAND_URL", &server.url);
    let output = command.output().await.unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}

/// Every document's id and canonical text, by its file's name.
async fn texts(server: &Server, collection: &str) -> HashMap<String, (String, String)> {
    let listed = server.client.get(&format!("/v1/collections/{collection}/documents?limit=100")).await.json();
    let mut texts = HashMap::new();
    for document in listed["data"].as_array().unwrap() {
        let (id, name) = (document["id"].as_str().unwrap(), document["name"].as_str().unwrap());
        let text = server.client.get(&format!("/v1/collections/{collection}/documents/{id}/text")).await.text;
        let file = name.rsplit('/').next().unwrap();
        texts.insert(file.to_owned(), (id.to_owned(), text));
    }
    texts
}

async fn ask(
    server: &Server,
    collection: &str,
    question: &Question,
    texts: &HashMap<String, (String, String)>,
) -> Score {
    let mut score = Score::default();
    let input = json!({"input": question.question, "collection": collection});
    let job = server.client.finished(&server.client.submit(input).await).await;
    let output = &job["output"];
    let citations = output["citations"].as_array().unwrap();
    score.citations = u32::try_from(citations.len()).unwrap();
    for citation in citations {
        let text = texts.values().find(|(id, _)| citation["document_id"] == **id).map(|(_, text)| text);
        let (from, to) = span(citation);
        if text.and_then(|text| text.get(from..to)) != citation["quote"].as_str() {
            score.false_citations += 1;
        }
    }
    let (Some(document), Some(answer)) = (&question.document, &question.answer) else {
        score.unanswerable = 1;
        score.abstained = u32::from(output["answered"] == false);
        show(question, score.abstained == 1, "answered what the documents do not say", output);
        return score;
    };
    let (id, text) = &texts[document];
    let from = text.find(answer.as_str()).unwrap_or_else(|| panic!("{document} says {answer:?}"));
    let to = from + answer.len();
    let meets = |found: &Value| {
        let (start, end) = span(found);
        found["document_id"] == **id && start < to && from < end
    };
    let search = json!({"query": question.question, "limit": 5});
    let found = server.client.post(&format!("/v1/collections/{collection}/search"), &search).await.json();
    score.answerable = 1;
    score.hits = u32::from(found["results"].as_array().unwrap().iter().any(meets));
    score.right_spans = u32::from(citations.iter().any(meets));
    show(question, score.hits == 1, "not found", &found);
    show(question, score.right_spans == 1, "other words quoted", output);
    score
}

fn span(found: &Value) -> (usize, usize) {
    let end = |at: usize| usize::try_from(found["span"][at].as_u64().unwrap()).unwrap();
    (end(0), end(1))
}

fn show(question: &Question, right: bool, what: &str, seen: &Value) {
    if !right && std::env::var("FAQ_SHOW").is_ok_and(|half| half == question.half) {
        println!("{}: {what}; wanted {:?}\n  {seen}\n", question.question, question.answer);
    }
}
