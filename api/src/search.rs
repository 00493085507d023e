//! Search: what a job would retrieve, without asking a model to write.

use std::time::{Duration, Instant};

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use http::HeaderMap;
use millhand_common::model::{CollectionName, DocumentId, Passage, PassageId, Span};
use millhand_common::ports::{Embedder, SearchQuery};
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::ToSchema;

use crate::access::Tenant;
use crate::error::{ApiError, Problem};
use crate::json;
use crate::params::{NoParams, Params, path_id};
use crate::state::{Api, ask};
use crate::submit::{collection_not_found, filter, is_blank};

const DEFAULT_LIMIT: u64 = 10;
/// Longest query, in bytes.
const MAX_QUERY_BYTES: usize = 4096;
/// Longest wait for the query's vector; without it words alone are searched.
const EMBED_TIMEOUT: Duration = Duration::from_secs(5);

#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(as = Search)]
pub(crate) struct SearchBody {
    query: String,
    /// 1-100, default 10.
    #[schema(minimum = 1, maximum = 100)]
    limit: Option<u64>,
    /// `name`, `source` or `metadata.KEY` to a value or a list of values; all must hold.
    #[schema(value_type = Option<Object>)]
    filter: Option<Value>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SearchResults {
    /// Best first.
    results: Vec<SearchResult>,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SearchResult {
    #[schema(value_type = String)]
    document_id: DocumentId,
    /// The document's name.
    document: String,
    #[schema(value_type = String)]
    passage_id: PassageId,
    title: String,
    /// The canonical text at `span`.
    text: String,
    /// Half-open byte offsets of the canonical text.
    #[schema(value_type = Vec<u64>)]
    span: Span,
    score: f32,
}

impl From<Passage> for SearchResult {
    fn from(passage: Passage) -> Self {
        let Passage { collection: _, document_id, document, passage_id, title, text, span, score } = passage;
        Self { document_id, document, passage_id, title, text, span, score }
    }
}

/// Search a collection.
#[utoipa::path(post, path = "/v1/collections/{collection}/search", tag = "documents", params(("collection" = String, Path)),
    request_body = SearchBody,
    responses((status = 200, body = SearchResults), (status = 400, body = Problem), (status = 404, body = Problem), (status = 413, body = Problem),
        (status = 415, body = Problem), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn search(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    Params(NoParams {}): Params<NoParams>,
    Path(collection): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<SearchResults>, ApiError> {
    let limits = &api.ports.config.limits;
    json::check_json(&headers)?;
    json::check_headers(&headers, limits.body_bytes)?;
    let body = json::read_body(body, limits.body_bytes, limits.body_timeout).await?;
    let body: SearchBody = json::typed(json::parse(&body)?)?;
    if is_blank(&body.query) || MAX_QUERY_BYTES < body.query.len() {
        return Err(ApiError::invalid(format!("`query` is 1-{MAX_QUERY_BYTES} bytes and not blank.")));
    }
    let limit = match body.limit.unwrap_or(DEFAULT_LIMIT) {
        limit @ 1..=100 => usize::try_from(limit).expect("at most 100"),
        _ => return Err(ApiError::invalid("`limit` is 1-100.")),
    };
    let filter = body.filter.map(filter).transpose()?.unwrap_or_default();
    let (documents, index) = (api.documents()?, api.index()?);
    let collection: CollectionName = path_id(&collection, collection_not_found)?;
    if ask(documents.list(&tenant, &collection, 1, None)).await?.is_none() {
        return Err(collection_not_found());
    }
    let vector = match &api.ports.embedder {
        Some(embedder) => embed(&**embedder, &body.query).await,
        None => None,
    };
    let query = SearchQuery { texts: vec![body.query], vector, collections: vec![collection], filter, limit };
    let passages = ask(index.search(&tenant, &query)).await?;
    Ok(Json(SearchResults { results: passages.into_iter().map(SearchResult::from).collect() }))
}

async fn embed(embedder: &dyn Embedder, query: &str) -> Option<Vec<f32>> {
    let texts = [query.to_owned()];
    let call = embedder.embed(&texts, Instant::now() + EMBED_TIMEOUT);
    match tokio::time::timeout(EMBED_TIMEOUT, call).await {
        Ok(Ok(read)) => read.value.into_iter().next(),
        Ok(Err(error)) => {
            tracing::warn!(%error, "searched by words only: the embedder failed");
            None
        }
        Err(_) => {
            tracing::warn!("searched by words only: the embedder is slow");
            None
        }
    }
}
