//! API keys on the operators' address: whoever may use it may make keys.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use http::{HeaderMap, StatusCode};
use millhand_common::model::{ApiKey, Timestamp};
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::json;
use crate::params::{NoParams, Params};
use crate::state::{AdminState, ask};

const BODY_BYTES: usize = 16 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Every key, oldest first, without what opens anything.
pub(crate) async fn list(
    State(admin): State<AdminState>,
    Params(NoParams {}): Params<NoParams>,
) -> Result<Json<Value>, ApiError> {
    let keys = ask(admin.keys.keys()).await?;
    Ok(Json(json!({ "data": keys, "next_cursor": null })))
}

/// Takes a key in. Its secret stays with who made it: only the digest comes here.
pub(crate) async fn add(
    State(admin): State<AdminState>,
    Params(NoParams {}): Params<NoParams>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<ApiKey>), ApiError> {
    json::check_json(&headers)?;
    json::check_headers(&headers, BODY_BYTES)?;
    let body = json::read_body(body, BODY_BYTES, BODY_TIMEOUT).await?;
    let key: ApiKey = json::typed(json::parse(&body)?)?;
    ask(admin.keys.add_key(&key)).await?;
    Ok((StatusCode::CREATED, Json(key)))
}

/// Revokes a key: within a second it opens nothing more.
pub(crate) async fn revoke(
    State(admin): State<AdminState>,
    Params(NoParams {}): Params<NoParams>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    match ask(admin.keys.revoke_key(&id, Timestamp::now())).await? {
        true => Ok(StatusCode::NO_CONTENT),
        false => Err(ApiError::not_found("key_not_found", "There is no such key.")),
    }
}
