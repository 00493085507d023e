//! Documents of a collection: add, list, read, delete.

use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use millhand_common::crash;
use millhand_common::model::{
    AgentName, CollectionName, DocumentId, IngestItem, JobId, JobInput, JobSpec, Lane, OnBusy, OneOrMany,
    UploadId,
};
use millhand_common::ports::{DocumentLookup, Documents, Writer};
use millhand_common::telemetry;

use crate::access::Tenant;
use crate::error::{ApiError, Problem};
use crate::json;
use crate::params::{ListParams, NoParams, Params, cursor, page_limit, path_id, prefer_wait};
use crate::state::{Api, ApiInner, ask};
use crate::submit::{Caller, Submitted, collection_not_found};
use crate::upload::{self, Incoming, NewDocument};
use crate::view::{DocumentView, JobView, ListView};

/// An ingest job ends by then.
const INGEST_DEADLINE: Duration = Duration::from_secs(3600);
/// Longest wait for a place among the uploads in memory.
const UPLOAD_WAIT: Duration = Duration::from_secs(10);

fn document_not_found() -> ApiError {
    ApiError::not_found("document_not_found", "There is no such document.")
}

/// Add documents to a collection, which is made when it is not there: an ingest job.
///
/// The same `name` replaces. Send multipart `file` parts, or one document as JSON.
#[utoipa::path(post, path = "/v1/collections/{collection}/documents", tag = "documents",
    params(("collection" = String, Path), ("Idempotency-Key" = Option<String>, Header), ("Prefer" = Option<String>, Header)),
    request_body(content((NewDocument = "application/json"), (Vec<u8> = "multipart/form-data"))),
    responses((status = 202, description = "Accepted", body = JobView), (status = 200, description = "Ended within `Prefer: wait`", body = JobView),
        (status = 400, body = Problem), (status = 408, body = Problem), (status = 413, description = "Larger than 64 MiB", body = Problem),
        (status = 415, body = Problem), (status = 422, body = Problem),
        (status = 429, description = "`rate_limited`, `too_many_queued`; see Retry-After", body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn add(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    Params(NoParams {}): Params<NoParams>,
    Path(collection): Path<String>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    api.admission.pace(&tenant)?;
    api.documents()?;
    let collection = crate::collections::collection_name(&collection)?;
    let caller = crate::jobs::caller(tenant, &headers)?;
    let wait = prefer_wait(&headers)?;
    let place = tokio::time::timeout(UPLOAD_WAIT, api.uploads.acquire()).await;
    let place = place
        .map_err(|_| ApiError::unavailable("too_many_uploads", "Other uploads take all the room.", 10))?;
    let documents = upload::read(&headers, body, &api.ports.config.limits).await?;
    let submitted = api.ingest(caller, collection, documents).await?;
    drop(place);
    api.accepted(submitted, wait).await
}

impl ApiInner {
    /// Stores the originals, then accepts the job that ingests them.
    async fn ingest(
        &self,
        caller: Caller,
        collection: CollectionName,
        incoming: Vec<Incoming>,
    ) -> Result<Submitted, ApiError> {
        let documents = self.documents()?;
        let digest = digest(&collection, &incoming);
        let tenant = caller.tenant.clone();
        // A caller may ask the collection right after 202.
        ask(documents.create_collection(&tenant, &collection)).await?;
        let mut items = Vec::with_capacity(incoming.len());
        for Incoming { name, content_type, source, metadata, bytes } in incoming {
            let (id, size) = (UploadId::new(), bytes.len() as u64);
            let item = IngestItem {
                upload: id,
                document_id: DocumentId::new(),
                name,
                content_type,
                source,
                metadata,
                bytes: size,
            };
            items.push(item);
            if let Err(error) = ask(documents.put_upload(&tenant, id, bytes)).await {
                self.forget_uploads(&**documents, &caller, &items).await;
                return Err(error);
            }
        }
        crash::point("upload.stored");
        let spec = JobSpec {
            id: JobId::new(),
            tenant: tenant.clone(),
            input: JobInput::Ingest { collection: collection.clone(), documents: items.clone() },
            agent: AgentName::rag(),
            lane: Lane::Interactive,
            conversation_id: None,
            collection: Some(OneOrMany::One(collection)),
            filter: None,
            deadline: INGEST_DEADLINE,
            not_before: None,
            max_output_tokens: None,
            metadata: None,
            replay_of: None,
            traceparent: Some(telemetry::child_traceparent(caller.traceparent.as_deref())),
        };
        let unused = Caller { tenant, idempotency_key: None, traceparent: None };
        let result = self.accept(caller, spec, false, OnBusy::Enqueue, digest).await;
        // When the answer is unknown the job may be there and need its originals: orphans go by age.
        let refused = result.as_ref().is_err_and(|error| error.status != StatusCode::SERVICE_UNAVAILABLE);
        if refused || result.as_ref().is_ok_and(|submitted| submitted.replayed) {
            self.forget_uploads(&**documents, &unused, &items).await;
        }
        result
    }

    /// Best effort: what stays is an orphan and goes after an hour.
    async fn forget_uploads(&self, documents: &dyn Documents, caller: &Caller, items: &[IngestItem]) {
        for item in items {
            if let Err(error) = ask(documents.drop_upload(&caller.tenant, item.upload)).await {
                tracing::debug!(error.code = error.code, "an upload that no job needs stays for now");
            }
        }
    }
}

fn digest(collection: &CollectionName, incoming: &[Incoming]) -> [u8; 32] {
    let documents = incoming.iter().map(|document| {
        serde_json::json!({
            "name": document.name, "content_type": document.content_type, "source": document.source,
            "metadata": document.metadata, "bytes": blake3::hash(&document.bytes).to_hex().as_str(),
        })
    });
    json::digest(
        "ingest",
        &serde_json::json!({ "collection": collection, "documents": documents.collect::<Vec<_>>() }),
    )
}

/// List the documents of a collection, by name.
#[utoipa::path(get, path = "/v1/collections/{collection}/documents", tag = "documents", params(("collection" = String, Path), ListParams),
    responses((status = 200, body = ListView<DocumentView>), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn list(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    Params(params): Params<ListParams>,
    Path(collection): Path<String>,
) -> Result<Json<ListView<DocumentView>>, ApiError> {
    let collection = path_id(&collection, collection_not_found)?;
    let limit = page_limit(params.limit)?;
    let after: Option<String> = cursor::decode(params.cursor.as_deref())?;
    let page = ask(api.documents()?.list(&tenant, &collection, limit, after.as_deref())).await?;
    let page = page.ok_or_else(collection_not_found)?;
    Ok(Json(ListView::new(page.data.into_iter().map(DocumentView::from).collect(), page.next)))
}

/// Read what is known of a document.
#[utoipa::path(get, path = "/v1/collections/{collection}/documents/{id}", tag = "documents", params(("collection" = String, Path), ("id" = String, Path)),
    responses((status = 200, body = DocumentView), (status = 404, body = Problem), (status = 410, body = Problem), (status = 422, body = Problem),
        (status = 503, body = Problem)))]
pub(crate) async fn get(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    Params(NoParams {}): Params<NoParams>,
    Path((collection, id)): Path<(String, String)>,
) -> Result<Json<DocumentView>, ApiError> {
    let (collection, id) = place(&collection, &id)?;
    found(ask(api.documents()?.get(&tenant, &collection, id)).await?).map(|document| Json(document.into()))
}

/// Read a document's canonical text, to which all spans refer.
#[utoipa::path(get, path = "/v1/collections/{collection}/documents/{id}/text", tag = "documents", params(("collection" = String, Path), ("id" = String, Path)),
    responses((status = 200, body = String, content_type = "text/plain; charset=utf-8"), (status = 404, body = Problem),
        (status = 410, description = "Deleted", body = Problem), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn text(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    Params(NoParams {}): Params<NoParams>,
    Path((collection, id)): Path<(String, String)>,
) -> Result<Response, ApiError> {
    let (collection, id) = place(&collection, &id)?;
    let text = found(ask(api.documents()?.text(&tenant, &collection, id)).await?)?;
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8")),
        // It is somebody's document: a browser must not take it for a page of ours.
        (header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff")),
    ];
    Ok((headers, text).into_response())
}

/// Delete a document; effective at once. Idempotent.
#[utoipa::path(delete, path = "/v1/collections/{collection}/documents/{id}", tag = "documents", params(("collection" = String, Path), ("id" = String, Path)),
    responses((status = 204, description = "Removed"), (status = 404, body = Problem), (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn delete(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    Params(NoParams {}): Params<NoParams>,
    Path((collection, id)): Path<(String, String)>,
) -> Result<StatusCode, ApiError> {
    let (collection, id) = place(&collection, &id)?;
    let (documents, index) = (api.documents()?, api.index()?);
    // Before looking, so that a version written after the look is newer than this delete.
    let version = ask(api.ports.store.stamp()).await?;
    if let DocumentLookup::Found(document) = ask(documents.get(&tenant, &collection, id)).await? {
        // The index first: a repetition after a failure still finds the document, and so its passages.
        let writer = Writer { version, epoch: 0 };
        ask(index.delete(&tenant, &collection, &document.name, writer)).await?;
    }
    match ask(documents.delete(&tenant, &collection, id, version)).await? {
        DocumentLookup::Found(_) | DocumentLookup::Deleted => Ok(StatusCode::NO_CONTENT),
        DocumentLookup::Unknown => Err(document_not_found()),
    }
}

fn place(collection: &str, id: &str) -> Result<(CollectionName, DocumentId), ApiError> {
    Ok((path_id(collection, collection_not_found)?, path_id(id, document_not_found)?))
}

fn found<T>(lookup: DocumentLookup<T>) -> Result<T, ApiError> {
    match lookup {
        DocumentLookup::Found(value) => Ok(value),
        DocumentLookup::Deleted => Err(ApiError::gone("The document was deleted.")),
        DocumentLookup::Unknown => Err(document_not_found()),
    }
}
