//! Jobs: submit, read, list, cancel, delete.

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use millhand_common::model::{EventBody, Job, JobId, JobKind, Status, TenantId, Timestamp};
use millhand_common::ports::{Cancelled, JobFilter, Lookup};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use crate::access::Tenant;
use crate::admission::Admission;
use crate::error::{ApiError, Problem};
use crate::json;
use crate::params::{
    NoParams, Params, cursor, idempotency_key, page_limit, path_id, prefer_wait, wait_seconds,
};
use crate::state::{Api, ApiInner, ask};
use crate::submit::{Caller, SubmitBody, Submitted};
use crate::view::{JobView, ListView, job_path};

const IDEMPOTENCY_REPLAYED: HeaderName = HeaderName::from_static("idempotency-replayed");
const PREFERENCE_APPLIED: HeaderName = HeaderName::from_static("preference-applied");

pub(crate) fn kind_label(kind: JobKind) -> &'static str {
    match kind {
        JobKind::Chat => "chat",
        JobKind::Ingest => "ingest",
    }
}

/// Submit a job.
///
/// After 202 it reaches exactly one terminal state, whatever single process dies.
#[utoipa::path(post, path = "/v1/jobs", tag = "jobs", request_body = SubmitBody,
    params(("Idempotency-Key" = Option<String>, Header, description = "1-255 visible characters; the same key and body give the same job"),
        ("Prefer" = Option<String>, Header, description = "`wait=N`: answer 200 with the finished job if it ends within N seconds (0-60)")),
    responses((status = 202, description = "Accepted", body = JobView), (status = 200, description = "Ended within `Prefer: wait`", body = JobView),
        (status = 400, description = "Not JSON, or a bad header", body = Problem), (status = 404, description = "Unknown conversation, agent or collection", body = Problem),
        (status = 408, description = "The body did not arrive in time", body = Problem), (status = 409, description = "`conversation_busy`", body = Problem),
        (status = 413, description = "Larger than 256 KiB", body = Problem), (status = 415, description = "Not sent as JSON", body = Problem),
        (status = 422, description = "Not what is offered", body = Problem), (status = 429, description = "`rate_limited`, `too_many_queued`, `budget_exhausted`; see Retry-After", body = Problem), (status = 503, description = "`overloaded`, `too_many_submits`, or trouble of ours; see Retry-After", body = Problem)))]
pub(crate) async fn submit(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    Params(NoParams {}): Params<NoParams>,
    headers: HeaderMap,
    body: Body,
) -> Result<Response, ApiError> {
    api.admission.pace(&tenant)?;
    let limits = &api.ports.config.limits;
    json::check_json(&headers)?;
    json::check_headers(&headers, limits.body_bytes)?;
    let caller = caller(tenant, &headers)?;
    let wait = prefer_wait(&headers)?;
    let body = json::read_body(body, limits.body_bytes, limits.body_timeout).await?;
    let submitted = api.submit(caller, json::parse(&body)?).await?;
    api.accepted(submitted, wait).await
}

/// Who a request comes from and what it names itself.
pub(crate) fn caller(tenant: TenantId, headers: &HeaderMap) -> Result<Caller, ApiError> {
    let traceparent = headers.get("traceparent").and_then(|value| value.to_str().ok());
    Ok(Caller {
        tenant,
        idempotency_key: idempotency_key(headers)?,
        traceparent: traceparent.map(str::to_owned),
    })
}

impl ApiInner {
    /// A job as its owner sees it, with when it is expected to start now.
    pub(crate) fn view(&self, job: Job) -> JobView {
        let wait = self.admission.wait(&job, None);
        Job { wait, ..job }.into()
    }

    /// The same for a job that was accepted when nobody knew yet how long answers take, or that they would have to
    /// wait: its log says how many were ahead of it.
    async fn view_by_place(&self, job: Job) -> JobView {
        if job.status != Status::Queued || Admission::is_foretold(&job) {
            return self.view(job);
        }
        let first = self.ports.reader.log(&job.spec.tenant, job.spec.id, 0, 1).await;
        let were_ahead = match first {
            Ok(Lookup::Found(page)) => match page.events.first().and_then(|event| event.body()) {
                Some(EventBody::JobQueued { position, .. }) => position,
                _ => None,
            },
            // What is known of the job is answered all the same.
            _ => None,
        };
        let wait = self.admission.wait(&job, were_ahead);
        Job { wait, ..job }.into()
    }

    /// The answer to an accepted job: 202, or 200 when it ends within `wait`.
    pub(crate) async fn accepted(
        &self,
        submitted: Submitted,
        wait: Option<std::time::Duration>,
    ) -> Result<Response, ApiError> {
        let Submitted { mut job, replayed } = submitted;
        if let Some(wait) = wait {
            // The job is accepted: trouble while waiting must not look like a refusal.
            if let Ok(waited) = self.job_after(&job.spec.tenant, job.spec.id, wait).await {
                job = waited;
            }
        }
        let ended = wait.is_some() && job.status.is_terminal();
        let location = HeaderValue::from_str(&job_path(job.spec.id)).expect("an id is visible ASCII");
        let status = if ended { StatusCode::OK } else { StatusCode::ACCEPTED };
        let mut response = (status, [(header::LOCATION, location)], Json(self.view(job))).into_response();
        if replayed {
            response.headers_mut().insert(IDEMPOTENCY_REPLAYED, HeaderValue::from_static("true"));
        }
        if let Some(wait) = wait {
            let applied = HeaderValue::from_str(&format!("wait={}", wait.as_secs())).expect("visible ASCII");
            response.headers_mut().insert(PREFERENCE_APPLIED, applied);
        }
        Ok(response)
    }
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct GetParams {
    /// Answer when the job is terminal, or after this many seconds (0-60).
    wait: Option<u64>,
}

/// Read a job; with `wait`, a long poll.
#[utoipa::path(get, path = "/v1/jobs/{id}", tag = "jobs", params(("id" = String, Path), GetParams),
    responses((status = 200, body = JobView), (status = 404, body = Problem), (status = 410, description = "No longer kept", body = Problem),
        (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn get(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    Params(params): Params<GetParams>,
    Path(id): Path<String>,
) -> Result<Json<JobView>, ApiError> {
    let id = path_id(&id, ApiError::job_not_found)?;
    let wait = wait_seconds(params.wait)?;
    let job = api.job_after(&tenant, id, wait).await?;
    Ok(Json(api.view_by_place(job).await))
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct JobsParams {
    #[param(inline)]
    status: Option<Status>,
    conversation_id: Option<String>,
    /// 1-100, default 20.
    limit: Option<u64>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

/// List jobs, newest first.
#[utoipa::path(get, path = "/v1/jobs", tag = "jobs", params(JobsParams),
    responses((status = 200, body = ListView<JobView>), (status = 400, description = "Bad cursor", body = Problem),
        (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn list(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    Params(params): Params<JobsParams>,
) -> Result<Json<ListView<JobView>>, ApiError> {
    let conversation = params.conversation_id.map(|id| id.parse());
    let filter = JobFilter {
        status: params.status,
        conversation: conversation
            .transpose()
            .map_err(|_| ApiError::invalid("`conversation_id` is not an id of a conversation."))?,
        limit: page_limit(params.limit)?,
        before: cursor::decode(params.cursor.as_deref())?,
    };
    let page = ask(api.ports.reader.list(&tenant, &filter)).await?;
    Ok(Json(ListView::new(page.data.into_iter().map(|job| api.view(job)).collect(), page.next)))
}

/// Cancel a job. Idempotent: a terminal job is answered unchanged.
#[utoipa::path(post, path = "/v1/jobs/{id}/cancel", tag = "jobs", params(("id" = String, Path)),
    responses((status = 200, body = JobView), (status = 404, body = Problem), (status = 410, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn cancel(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    Params(NoParams {}): Params<NoParams>,
    Path(id): Path<String>,
) -> Result<Json<JobView>, ApiError> {
    let id = path_id(&id, ApiError::job_not_found)?;
    api.cancel(&tenant, id).await.map(|job| Json(api.view(job)))
}

impl ApiInner {
    pub(crate) async fn cancel(&self, tenant: &TenantId, id: JobId) -> Result<Job, ApiError> {
        match ask(self.ports.store.cancel(tenant, id)).await? {
            Cancelled::Job(job) => Ok(*job),
            Cancelled::Unknown => Err(ApiError::job_not_found()),
            Cancelled::Gone => Err(ApiError::gone("The job is no longer kept.")),
        }
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Ticket)]
pub(crate) struct TicketView {
    /// Give it as `?ticket=` to the job's events.
    ticket: String,
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
}

/// Make a ticket: for five minutes it opens this job's events to a page that can send no header.
#[utoipa::path(post, path = "/v1/jobs/{id}/ticket", tag = "jobs", params(("id" = String, Path)),
    responses((status = 201, body = TicketView), (status = 404, body = Problem), (status = 410, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn ticket(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    Params(NoParams {}): Params<NoParams>,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<TicketView>), ApiError> {
    let id: JobId = path_id(&id, ApiError::job_not_found)?;
    api.job(&tenant, id).await?;
    let (ticket, ends) = api.keys.ticket(&tenant, &id.to_string()).await?;
    let expires_at = Timestamp::from_millis(ends);
    Ok((StatusCode::CREATED, Json(TicketView { ticket, expires_at })))
}

/// Remove input, output and log of a terminal job. Idempotent.
#[utoipa::path(delete, path = "/v1/jobs/{id}", tag = "jobs", params(("id" = String, Path)),
    responses((status = 204, description = "Removed"), (status = 404, body = Problem), (status = 409, description = "`job_open`", body = Problem),
        (status = 503, body = Problem)))]
pub(crate) async fn delete(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    Params(NoParams {}): Params<NoParams>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let id = path_id(&id, ApiError::job_not_found)?;
    if ask(api.ports.store.delete(&tenant, id)).await? {
        return Ok(StatusCode::NO_CONTENT);
    }
    // Asked again after a lost answer: what is asked for is so.
    match ask(api.ports.reader.get(&tenant, id)).await? {
        Lookup::Gone => Ok(StatusCode::NO_CONTENT),
        Lookup::Found(_) | Lookup::Unknown => Err(ApiError::job_not_found()),
    }
}
