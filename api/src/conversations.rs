//! Conversations and their messages.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use millhand_common::model::ConversationId;
use millhand_common::ports::{Lookup, StoreError};
use serde_json::Value;

use crate::access::Tenant;
use crate::error::{ApiError, Problem};
use crate::json;
use crate::params::{ListParams, NoParams, Params, cursor, page_limit, path_id};
use crate::state::{Api, ask};
use crate::submit::conversation_not_found;
use crate::view::{ConversationView, ListView, MessageView};

/// Make a conversation. A submit without one makes its own.
#[utoipa::path(post, path = "/v1/conversations", tag = "conversations",
    responses((status = 201, body = ConversationView), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn create(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    Params(NoParams {}): Params<NoParams>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let limits = &api.ports.config.limits;
    json::check_headers(&headers, limits.body_bytes)?;
    let body = json::read_body(body, limits.body_bytes, limits.body_timeout).await?;
    if !body.is_empty() {
        json::check_json(&headers)?;
        match json::parse(&body)? {
            Value::Object(fields) if fields.is_empty() => {}
            _ => return Err(ApiError::invalid("The body is empty, or an object without fields.")),
        }
    }
    let conversation = ask(api.ports.conversations.create(&tenant, ConversationId::new())).await?;
    let location = format!("/v1/conversations/{}", conversation.id);
    let location = HeaderValue::from_str(&location).expect("an id is visible ASCII");
    let view = Json(ConversationView::from(conversation));
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], view).into_response())
}

/// List conversations, newest first.
#[utoipa::path(get, path = "/v1/conversations", tag = "conversations", params(ListParams),
    responses((status = 200, body = ListView<ConversationView>), (status = 400, body = Problem), (status = 422, body = Problem),
        (status = 503, body = Problem)))]
pub(crate) async fn list(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    Params(params): Params<ListParams>,
) -> Result<Json<ListView<ConversationView>>, ApiError> {
    let limit = page_limit(params.limit)?;
    let before = cursor::decode(params.cursor.as_deref())?;
    let page = ask(api.ports.conversations.list(&tenant, limit, before)).await?;
    Ok(Json(ListView::new(page.data.into_iter().map(ConversationView::from).collect(), page.next)))
}

/// Read a conversation.
#[utoipa::path(get, path = "/v1/conversations/{id}", tag = "conversations", params(("id" = String, Path)),
    responses((status = 200, body = ConversationView), (status = 404, body = Problem), (status = 410, body = Problem),
        (status = 503, body = Problem)))]
pub(crate) async fn get(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    Params(NoParams {}): Params<NoParams>,
    Path(id): Path<String>,
) -> Result<Json<ConversationView>, ApiError> {
    let id = path_id(&id, conversation_not_found)?;
    found(ask(api.ports.conversations.get(&tenant, id)).await?).map(|conversation| Json(conversation.into()))
}

/// Read a conversation's messages, in order.
#[utoipa::path(get, path = "/v1/conversations/{id}/messages", tag = "conversations", params(("id" = String, Path), ListParams),
    responses((status = 200, body = ListView<MessageView>), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 410, body = Problem), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn messages(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    Params(params): Params<ListParams>,
    Path(id): Path<String>,
) -> Result<Json<ListView<MessageView>>, ApiError> {
    let id = path_id(&id, conversation_not_found)?;
    let limit = page_limit(params.limit)?;
    let place: Option<String> = cursor::decode(params.cursor.as_deref())?;
    let page = found(ask(api.ports.conversations.messages(&tenant, id, limit, place.as_deref())).await?)?;
    Ok(Json(ListView::new(page.data.into_iter().map(MessageView::from).collect(), page.next)))
}

/// Remove a conversation with its jobs.
#[utoipa::path(delete, path = "/v1/conversations/{id}", tag = "conversations", params(("id" = String, Path)),
    responses((status = 204, description = "Removed"), (status = 404, body = Problem),
        (status = 409, description = "`conversation_open`: a job of it is not at its end", body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn delete(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    Params(NoParams {}): Params<NoParams>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let id = path_id(&id, conversation_not_found)?;
    let removed = ask(async {
        api.ports.conversations.delete(&tenant, id).await.map_err(|error| match error {
            StoreError::Open => {
                let detail = "A job of the conversation is not at its end yet: cancel it first.";
                ApiError::conflict("conversation_open", detail)
            }
            error => error.into(),
        })
    });
    if removed.await? { Ok(StatusCode::NO_CONTENT) } else { Err(conversation_not_found()) }
}

fn found<T>(lookup: Lookup<T>) -> Result<T, ApiError> {
    match lookup {
        Lookup::Found(value) => Ok(value),
        Lookup::Gone => Err(ApiError::gone("The conversation is no longer kept.")),
        Lookup::Unknown => Err(conversation_not_found()),
    }
}
