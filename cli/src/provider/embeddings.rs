//! `POST /v1/embeddings` and `POST /v1/rerank`.

use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use serde::Deserialize;
use serde_json::{Value, json};

use super::desk::{Call, Desk, Request};
use super::dialect::Problem;
use super::faults::{Endpoint, Kind};
use super::ledger::Ended;
use super::quota::Ask;
use super::settings::{MAX_DIMENSIONS, Settings};
use super::tokens;
use super::vectors::{Meanings, embed, nearness};

#[derive(Deserialize)]
struct Texts {
    #[serde(default)]
    model: String,
    input: OneOrMany,
    #[serde(default)]
    encoding_format: Option<String>,
    #[serde(default)]
    dimensions: Option<u64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum OneOrMany {
    One(String),
    Many(Vec<String>),
}

#[derive(Deserialize)]
struct Ranking {
    #[serde(default)]
    model: String,
    query: String,
    documents: Vec<Document>,
    #[serde(default)]
    top_n: Option<usize>,
    #[serde(default)]
    return_documents: bool,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Document {
    Text(String),
    Object { text: String },
}

impl Document {
    fn text(&self) -> &str {
        match self {
            Self::Text(text) | Self::Object { text } => text,
        }
    }
}

pub(super) async fn embeddings(State(desk): State<Arc<Desk>>, headers: HeaderMap, body: Bytes) -> Response {
    let settings = desk.settings();
    let asked: Texts = match serde_json::from_slice(&body) {
        Ok(asked) => asked,
        Err(err) => return invalid(&settings, &format!("We could not parse the request: {err}")),
    };
    let texts = match asked.input {
        OneOrMany::One(text) => vec![text],
        OneOrMany::Many(texts) => texts,
    };
    if texts.is_empty() || texts.iter().any(String::is_empty) {
        return invalid(&settings, "'$.input' is invalid: it has no text");
    }
    let dimensions = asked.dimensions.unwrap_or(settings.answers.dimensions);
    if !(1..=MAX_DIMENSIONS).contains(&dimensions) {
        return invalid(&settings, "'dimensions' is out of range");
    }
    let input: u64 = texts.iter().map(|text| tokens::count(text)).sum();
    let request = Request {
        endpoint: Endpoint::Embeddings,
        model: asked.model.clone(),
        stream: false,
        headers: &headers,
        body: &body,
        text: texts.last().map_or("", String::as_str),
        ask: Ask { input, max_output: 0 },
        messages: &json!(texts),
    };
    answer(&desk, &settings, &request, || {
        let meanings = Meanings::of(&settings.answers.synonyms);
        let dimensions = usize::try_from(dimensions).unwrap_or(1);
        let vectors = texts.iter().map(|text| embed(text, dimensions, &meanings)).enumerate();
        let rows: Vec<Value> = vectors
            .map(|(index, vector)| {
                let embedding = match asked.encoding_format.as_deref() {
                    Some("base64") => json!(base64(&vector)),
                    _ => json!(vector),
                };
                json!({"object": "embedding", "index": index, "embedding": embedding})
            })
            .collect();
        json!({"object": "list", "model": asked.model, "data": rows,
            "usage": {"prompt_tokens": input, "total_tokens": input}})
    })
    .await
}

/// Four bytes for each number, the lowest first.
fn base64(vector: &[f32]) -> String {
    let bytes: Vec<u8> = vector.iter().flat_map(|number| number.to_le_bytes()).collect();
    base64::engine::general_purpose::STANDARD.encode(bytes)
}

pub(super) async fn rerank(State(desk): State<Arc<Desk>>, headers: HeaderMap, body: Bytes) -> Response {
    let settings = desk.settings();
    let asked: Ranking = match serde_json::from_slice(&body) {
        Ok(asked) => asked,
        Err(err) => return invalid(&settings, &format!("We could not parse the request: {err}")),
    };
    if asked.documents.is_empty() {
        return invalid(&settings, "'documents' is empty");
    }
    let documents = asked.documents.iter().map(Document::text);
    let input = documents.map(tokens::count).sum::<u64>() + tokens::count(&asked.query);
    let request = Request {
        endpoint: Endpoint::Rerank,
        model: asked.model.clone(),
        stream: false,
        headers: &headers,
        body: &body,
        text: &asked.query,
        ask: Ask { input, max_output: 0 },
        messages: &json!(asked.query),
    };
    answer(&desk, &settings, &request, || {
        let meanings = Meanings::of(&settings.answers.synonyms);
        let dimensions = usize::try_from(settings.answers.dimensions).unwrap_or(1);
        let query = embed(&asked.query, dimensions, &meanings);
        let near = |document: &Document| nearness(&query, &embed(document.text(), dimensions, &meanings));
        let mut ranked: Vec<(usize, f32)> = asked.documents.iter().map(near).enumerate().collect();
        ranked.sort_by(|a, b| b.1.total_cmp(&a.1));
        ranked.truncate(asked.top_n.unwrap_or(usize::MAX));
        let result = |(index, near): (usize, f32)| {
            let mut result = json!({"index": index, "relevance_score": (near + 1.0) / 2.0});
            if asked.return_documents {
                result["document"] = json!({"text": asked.documents[index].text()});
            }
            result
        };
        let results: Vec<Value> = ranked.into_iter().map(result).collect();
        json!({"model": asked.model, "results": results, "usage": {"total_tokens": input}})
    })
    .await
}

fn invalid(settings: &Settings, message: &str) -> Response {
    Problem::Invalid(message.to_owned()).response(settings.dialect, "", &[])
}

/// What `make` makes, after its time, or what goes wrong instead.
async fn answer(
    desk: &Arc<Desk>,
    settings: &Settings,
    request: &Request<'_>,
    make: impl FnOnce() -> Value,
) -> Response {
    let call = match desk.admit(request) {
        Ok(call) => call,
        Err(refused) => return *refused,
    };
    tokio::time::sleep(call.until_first(request.ask.input)).await;
    let headers = call.headers();
    let mut response = match call.fault().map(|fault| fault.kind) {
        Some(Kind::Stall | Kind::Drip) => std::future::pending().await,
        Some(Kind::ErrorBody) => {
            call.end(Ended::Failed);
            Json(Problem::Failed { status: 500, retry_after: None }.body(settings.dialect, &request.model))
                .into_response()
        }
        Some(Kind::Cut) => cut(call),
        Some(Kind::Garbage | Kind::LongLine | Kind::Empty | Kind::NoEnd) => {
            call.end(Ended::Broken);
            ([(header::CONTENT_TYPE, "application/json")], "{\"data\":[{\u{1}<html>").into_response()
        }
        fault => {
            let mut object = make();
            if let (Some(Kind::NoUsage), Some(object)) = (fault, object.as_object_mut()) {
                object.remove("usage");
            }
            call.end(Ended::Finished);
            Json(object).into_response()
        }
    };
    response.headers_mut().extend(headers);
    response
}

fn cut(call: Call) -> Response {
    call.end(Ended::Broken);
    let pieces = [Ok(Bytes::from_static(b"{\"object\":")), Err(std::io::Error::other("cut on demand"))];
    let body = Body::from_stream(futures::stream::iter(pieces));
    ([(header::CONTENT_TYPE, "application/json")], body).into_response()
}
