//! Collections: sets of documents one can ask.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use millhand_common::model::{CollectionName, TenantId};
use millhand_common::ports::Writer;
use serde::Deserialize;
use utoipa::ToSchema;

use crate::access::Tenant;
use crate::error::{ApiError, Problem};
use crate::json;
use crate::params::{ListParams, NoParams, Params, cursor, page_limit, path_id};
use crate::state::{Api, ApiInner, ask};
use crate::submit::collection_not_found;
use crate::view::{CollectionView, ListView};

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = NewCollection)]
pub(crate) struct NewCollection {
    /// 1-64 letters of any script, digits, `.`, `_` or `-`.
    name: String,
}

/// Make a collection; 200 when it is there already.
#[utoipa::path(post, path = "/v1/collections", tag = "documents", request_body = NewCollection,
    responses((status = 201, body = CollectionView), (status = 200, description = "It was there", body = CollectionView),
        (status = 400, body = Problem), (status = 413, body = Problem), (status = 415, body = Problem), (status = 422, body = Problem),
        (status = 503, body = Problem)))]
pub(crate) async fn create(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    Params(NoParams {}): Params<NoParams>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    let limits = &api.ports.config.limits;
    json::check_json(&headers)?;
    json::check_headers(&headers, limits.body_bytes)?;
    let body = json::read_body(body, limits.body_bytes, limits.body_timeout).await?;
    let NewCollection { name } = json::typed(json::parse(&body)?)?;
    let name = collection_name(&name)?;
    let made = ask(api.documents()?.create_collection(&tenant, &name)).await?;
    let status = if made { StatusCode::CREATED } else { StatusCode::OK };
    Ok((status, Json(api.collection(&tenant, &name).await?)).into_response())
}

/// A name to be; what cannot be one is 422.
pub(crate) fn collection_name(text: &str) -> Result<CollectionName, ApiError> {
    text.parse().map_err(|error| ApiError::invalid(format!("`name` is not one: {error}.")))
}

/// List collections by name.
#[utoipa::path(get, path = "/v1/collections", tag = "documents", params(ListParams),
    responses((status = 200, body = ListView<CollectionView>), (status = 400, body = Problem), (status = 422, body = Problem),
        (status = 503, body = Problem)))]
pub(crate) async fn list(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    Params(params): Params<ListParams>,
) -> Result<Json<ListView<CollectionView>>, ApiError> {
    let limit = page_limit(params.limit)?;
    let after: Option<String> = cursor::decode(params.cursor.as_deref())?;
    let mut all = ask(api.documents()?.collections(&tenant)).await?;
    all.sort();
    all.retain(|(name, _)| after.as_deref().is_none_or(|after| after < name.as_str()));
    let more = limit < all.len();
    all.truncate(limit);
    let next = if more { all.last().map(|(name, _)| name.to_string()) } else { None };
    Ok(Json(ListView::new(all.into_iter().map(view).collect(), next)))
}

fn view((name, documents): (CollectionName, u64)) -> CollectionView {
    CollectionView { name: name.into(), documents }
}

/// Read a collection.
#[utoipa::path(get, path = "/v1/collections/{collection}", tag = "documents", params(("collection" = String, Path)),
    responses((status = 200, body = CollectionView), (status = 404, body = Problem), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn get(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    Params(NoParams {}): Params<NoParams>,
    Path(name): Path<String>,
) -> Result<Json<CollectionView>, ApiError> {
    let name = path_id(&name, collection_not_found)?;
    api.collection(&tenant, &name).await.map(Json)
}

impl ApiInner {
    async fn collection(&self, tenant: &TenantId, name: &CollectionName) -> Result<CollectionView, ApiError> {
        let all = ask(self.documents()?.collections(tenant)).await?;
        all.into_iter().find(|(known, _)| known == name).map(view).ok_or_else(collection_not_found)
    }
}

/// Delete a collection with its documents; effective at once.
#[utoipa::path(delete, path = "/v1/collections/{collection}", tag = "documents", params(("collection" = String, Path)),
    responses((status = 204, description = "Removed"), (status = 404, body = Problem), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn delete(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    Params(NoParams {}): Params<NoParams>,
    Path(name): Path<String>,
) -> Result<StatusCode, ApiError> {
    let name: CollectionName = path_id(&name, collection_not_found)?;
    let (documents, index) = (api.documents()?, api.index()?);
    api.collection(&tenant, &name).await?;
    let version = ask(api.ports.store.stamp()).await?;
    // The index first: a repetition after a failure still finds the collection, and so its passages.
    ask(index.delete_collection(&tenant, &name, Writer { version, epoch: 0 })).await?;
    if ask(documents.delete_collection(&tenant, &name, version)).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(collection_not_found())
    }
}
