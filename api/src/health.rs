//! Is this process alive, and should it get work?

use std::time::Duration;

use axum::Json;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use millhand_common::ports::{Broker, JobStore};
use serde_json::{Value, json};

use crate::state::{AdminState, Api, Stage};

/// Longest wait for one part's answer; probes time out after 1 s by default.
const CHECK_TIMEOUT: Duration = Duration::from_millis(800);

/// Liveness: the process answers.
#[utoipa::path(get, path = "/healthz", tag = "health", responses((status = 200, body = Object)))]
pub(crate) async fn live() -> Json<Value> {
    Json(json!({ "status": "ok" }))
}

/// Readiness: off until the sample is there at the first start, while draining, and when broker or store is away.
#[utoipa::path(get, path = "/readyz", tag = "health",
    responses((status = 200, body = Object), (status = 503, description = "Send no work here", body = Object)))]
pub(crate) async fn ready(State(api): State<Api>) -> Response {
    let ports = &api.ports;
    // Reasons may name addresses of our own servers: they are for the admin listener.
    readiness(&ports.stage, &*ports.store, &*ports.broker, false).await
}

/// The same, with reasons.
pub(crate) async fn admin_ready(State(admin): State<AdminState>) -> Response {
    readiness(&admin.stage, &*admin.store, &*admin.broker, true).await
}

async fn readiness(stage: &Stage, store: &dyn JobStore, broker: &dyn Broker, reasons: bool) -> Response {
    let (store, broker) = tokio::join!(check(store.ready()), check(broker.ready()));
    let (loading, draining) = (stage.is_loading(), stage.is_draining());
    let ready = !loading && !draining && store.is_ok() && broker.is_ok();
    let word = |result: Result<(), String>| match result {
        Ok(()) => "ok".to_owned(),
        Err(reason) if reasons => reason,
        Err(_) => "away".to_owned(),
    };
    let body = json!({
        "status": if ready { "ready" } else { "not_ready" },
        "loading": loading,
        "draining": draining,
        "store": word(store),
        "broker": word(broker),
    });
    let status = if ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    // Not a problem document: this answer is for probes, and 503 is one of its two good answers.
    let mut response = Json(body).into_response();
    *response.status_mut() = status;
    response.extensions_mut().insert(crate::envelope::Whole);
    response
}

async fn check<E: std::fmt::Display>(ready: impl Future<Output = Result<(), E>>) -> Result<(), String> {
    match tokio::time::timeout(CHECK_TIMEOUT, ready).await {
        Ok(result) => result.map_err(|error| error.to_string()),
        Err(_) => Err("no answer in time".to_owned()),
    }
}
