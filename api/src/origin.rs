//! Which web pages may call us. A page of another origin may read nothing and change nothing unless
//! it is configured: on one machine there is no credential that would stop it otherwise.

use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};

use crate::error::ApiError;
use crate::state::Api;

const METHODS: &str = "GET, POST, DELETE";
const REQUEST_HEADERS: &str =
    "authorization, content-type, idempotency-key, last-event-id, prefer, traceparent";
const RESPONSE_HEADERS: &str = "idempotency-replayed, location, retry-after, x-request-id";

/// Refuses what a foreign page must not do, and tells browsers what a configured one may.
pub(crate) async fn check(State(api): State<Api>, request: Request, next: Next) -> Response {
    let Some(origin) = request.headers().get(header::ORIGIN).cloned() else {
        return next.run(request).await;
    };
    let listed = api.ports.config.cors_origins.iter().any(|allowed| origin == allowed.as_str());
    let own = is_own(&origin, request.headers());
    let reads = matches!(*request.method(), Method::GET | Method::HEAD | Method::OPTIONS);
    let upgrades = request.headers().contains_key(header::UPGRADE);
    if !listed && !own && (!reads || upgrades) {
        let detail = "Pages of this origin may not call this server: see [api] cors_origins.";
        return ApiError::new(StatusCode::FORBIDDEN, "origin_not_allowed", detail).into_response();
    }
    let preflight = *request.method() == Method::OPTIONS
        && request.headers().contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
    let mut response =
        if preflight && listed { StatusCode::NO_CONTENT.into_response() } else { next.run(request).await };
    let headers = response.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("origin"));
    if listed {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(RESPONSE_HEADERS));
        if preflight {
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, HeaderValue::from_static(METHODS));
            headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(REQUEST_HEADERS));
            headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("600"));
        }
    }
    response
}

/// Whether the page came from the address it calls (`/docs` does).
fn is_own(origin: &HeaderValue, headers: &HeaderMap) -> bool {
    let authority = origin.to_str().ok().and_then(|text| Some(text.split_once("://")?.1));
    let host = headers.get(header::HOST).and_then(|value| value.to_str().ok());
    authority.is_some() && authority == host
}
