//! One job's log, as a page of JSON, as server-sent events or over a WebSocket.

mod feed;
mod sse;
pub(crate) mod ws;

use std::sync::Arc;

use axum::Json;
use axum::extract::ws::WebSocketUpgrade;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode, header};
use millhand_common::follow::{Follower, PAGE};
use millhand_common::model::{Event, JobId, TenantId};
use millhand_common::ports::{LogPage, Lookup};
use serde::{Deserialize, Serialize};
use utoipa::IntoParams;

pub(crate) use feed::Feed;

use crate::access::Access;
use crate::error::{ApiError, Problem};
use crate::params::{Params, log_cursor, path_id};
use crate::state::{Api, ApiInner, ask};

/// Events of one JSON page.
const MAX_PAGE: u64 = 1000;
const DEFAULT_PAGE: u64 = 256;

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct EventsParams {
    /// `seq` of the last event seen; `Last-Event-ID` wins.
    #[param(value_type = Option<u64>)]
    after: Option<String>,
    /// Of POST /v1/jobs/{id}/ticket: opens this log without a header, for browsers.
    #[expect(dead_code, reason = "it was looked at where access is decided")]
    ticket: Option<String>,
    /// Events of a JSON page, 1-1000, default 256.
    limit: Option<u64>,
}

/// One entry of a log, for the specification.
#[derive(utoipa::ToSchema)]
#[allow(dead_code, reason = "events are passed on as they were written")]
#[schema(as = Event)]
pub(crate) struct EventSchema {
    v: u8,
    /// Dense from 1 over the whole life of the job.
    seq: u64,
    #[schema(example = "output_text.delta")]
    r#type: String,
    job_id: String,
    attempt: u32,
    #[schema(format = DateTime)]
    at: String,
    #[schema(value_type = Object)]
    data: (),
}

#[derive(utoipa::ToSchema)]
#[allow(dead_code, reason = "events are passed on as they were written")]
#[schema(as = EventPage)]
pub(crate) struct EventPageSchema {
    events: Vec<EventSchema>,
    /// Give it as `?after=`; null when the log is terminal and whole.
    next_after: Option<u64>,
}

/// A page as it is sent: straight from the log, so that each event has the bytes every transport has.
#[derive(Serialize)]
struct EventPage<'a> {
    events: &'a [Arc<Event>],
    next_after: Option<u64>,
}

/// Read a job's log: JSON, SSE (`Accept: text/event-stream`) or WebSocket (an upgrade).
#[utoipa::path(get, path = "/v1/jobs/{id}/events", tag = "events",
    params(("id" = String, Path), EventsParams, ("Last-Event-ID" = Option<u64>, Header, description = "`seq` of the last event seen")),
    responses((status = 200, description = "A page, or a stream", content((EventPageSchema = "application/json"), (String = "text/event-stream"))),
        (status = 101, description = "The same events, one text frame each, then close 1000"),
        (status = 204, description = "SSE: nothing will follow"), (status = 400, description = "Bad cursor", body = Problem), (status = 404, body = Problem),
        (status = 409, description = "`cursor_ahead`", body = Problem), (status = 410, description = "This range is no longer held", body = Problem),
        (status = 503, body = Problem)))]
pub(crate) async fn events(
    State(api): State<Api>,
    access: Access,
    Params(params): Params<EventsParams>,
    Path(id): Path<String>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let EventsParams { after, limit, .. } = params;
    let Access { tenant, ending, .. } = access;
    let id = path_id(&id, ApiError::job_not_found)?;
    let after = log_cursor(&headers, after.as_deref())?;
    let wants_socket = headers.contains_key(header::UPGRADE)
        && headers
            .get(header::UPGRADE)
            .is_some_and(|value| value.as_bytes().eq_ignore_ascii_case(b"websocket"));
    if wants_socket {
        let upgrade = match upgrade {
            Ok(upgrade) => upgrade,
            Err(rejection) => return Ok(rejection.into_response()),
        };
        let feed = api.feed(&tenant, id, after, "websocket").await?;
        return Ok(ws::follow(api, upgrade, feed, ending));
    }
    if accepts_sse(&headers) {
        return Ok(match api.feed(&tenant, id, after, "sse").await? {
            Some(feed) => sse::respond(feed, ending, api.admission.clone()),
            None => StatusCode::NO_CONTENT.into_response(),
        });
    }
    let limit = limit.unwrap_or(DEFAULT_PAGE);
    if !(1..=MAX_PAGE).contains(&limit) {
        return Err(ApiError::invalid(format!("`limit` is 1-{MAX_PAGE}.")));
    }
    let page = api.log_page(&tenant, id, after, usize::try_from(limit).expect("at most 1000")).await?;
    let last = page.events.last().map_or(after, |event| event.seq);
    let next_after = (!page.sealed || last < page.last_seq).then_some(last);
    Ok(Json(EventPage { events: &page.events, next_after }).into_response())
}

fn accepts_sse(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    accepted
        .flat_map(|value| value.split(','))
        .any(|range| range.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case("text/event-stream"))
}

/// A page of the events after `after`, unless that is no place in the log.
fn checked(page: LogPage, after: u64) -> Result<LogPage, ApiError> {
    if page.last_seq < after {
        let detail = format!("The log ends at {}: the cursor is beyond it.", page.last_seq);
        return Err(ApiError::conflict("cursor_ahead", detail));
    }
    if after < page.trimmed_to && after < page.last_seq {
        let detail = format!("Events up to {} are no longer held; the job itself is.", page.trimmed_to);
        return Err(ApiError::gone(detail));
    }
    Ok(page)
}

impl ApiInner {
    /// A part of the log, or why `after` is no place in it.
    async fn log_page(
        &self,
        tenant: &TenantId,
        id: JobId,
        after: u64,
        limit: usize,
    ) -> Result<LogPage, ApiError> {
        match ask(self.ports.reader.log(tenant, id, after, limit)).await? {
            Lookup::Found(page) => checked(page, after),
            Lookup::Gone => Err(ApiError::gone("The job is no longer kept.")),
            Lookup::Unknown => Err(ApiError::job_not_found()),
        }
    }

    /// A stream of the events after `after`; `None` when nothing will follow.
    pub(crate) async fn feed(
        &self,
        tenant: &TenantId,
        id: JobId,
        after: u64,
        transport: &'static str,
    ) -> Result<Option<Feed>, ApiError> {
        // Before reading, so that nothing falls between the two.
        let mut subscription = ask(self.ports.reader.subscribe(tenant, id, after)).await?;
        let page = match subscription.take_log() {
            Some(page) => checked(page, after)?,
            None => self.log_page(tenant, id, after, PAGE).await?,
        };
        if page.sealed && page.last_seq == after {
            return Ok(None);
        }
        let slot = self.stream_slot(transport)?;
        let reader = self.ports.reader.clone();
        let follower = Follower::from_page(reader, tenant.clone(), id, after, subscription, page);
        Ok(Some(Feed::new(follower, after, slot)))
    }
}
