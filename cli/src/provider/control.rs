//! What the owner asks: settings, the ledger, the names of models.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::{Value, json};

use super::desk::Desk;

/// Calls of one page of the ledger.
const PAGE: usize = 1000;

pub(super) async fn show(State(desk): State<Arc<Desk>>) -> Response {
    Json(desk.settings()).into_response()
}

pub(super) async fn change(State(desk): State<Arc<Desk>>, body: Bytes) -> Response {
    let patch: Value = match serde_json::from_slice(&body) {
        Ok(patch) => patch,
        Err(err) => return refuse(&format!("not JSON: {err}")),
    };
    match desk.change(&patch) {
        Ok(settings) => Json(settings).into_response(),
        Err(reason) => refuse(&reason),
    }
}

fn refuse(reason: &str) -> Response {
    let hint = "GET /control shows every setting; send the ones to change, null takes one away";
    (StatusCode::UNPROCESSABLE_ENTITY, Json(json!({"error": reason, "hint": hint}))).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Page {
    #[serde(default)]
    after: u64,
    limit: Option<usize>,
}

pub(super) async fn ledger(State(desk): State<Arc<Desk>>, Query(page): Query<Page>) -> Response {
    let limit = page.limit.unwrap_or(PAGE).min(PAGE);
    let (up_ms, totals, limits, calls) = desk.ledger(page.after, limit);
    let next_after = calls.last().filter(|_| calls.len() == limit).map(|call| call.id);
    let now = json!({"up_ms": up_ms, "totals": totals, "limits": limits, "calls": calls,
        "next_after": next_after});
    Json(now).into_response()
}

pub(super) async fn models() -> Response {
    let model = |id: &str| json!({"id": id, "object": "model", "created": 0, "owned_by": "millhand"});
    let names = ["millhand-chat", "millhand-embed", "millhand-rerank"];
    Json(json!({"object": "list", "data": names.map(model)})).into_response()
}
