//! Around every request that reaches routing: its id, its span, its count, and the body of its error.

use std::panic::AssertUnwindSafe;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures::FutureExt;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use millhand_common::{telemetry, trace};
use tracing::{Instrument, Span};
use uuid::Uuid;

use crate::error::ApiError;
use crate::state::Stage;

/// Marks an answer whose body is meant as it is, whatever its status.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Whole;

/// All headers of one request. hyper's own limit bounds what it reads at a time, not what it takes.
const MAX_HEADER_BYTES: usize = 64 * 1024;

/// A request id given to us; a longer one is replaced by our own.
const MAX_ID_BYTES: usize = 64;

const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// Runs the rest of the stack; what comes out is always whole: an error has a problem body, a panic
/// is a 500, and every answer carries `x-request-id`.
pub(crate) async fn wrap(State(stage): State<Stage>, request: Request, next: Next) -> Response {
    let id = given_id(request.headers()).unwrap_or_else(|| Uuid::new_v4().to_string());
    let method = method_label(request.method());
    let route = request.extensions().get::<MatchedPath>().map_or("unmatched", MatchedPath::as_str).to_owned();
    let span =
        tracing::info_span!("request", request.id = %id, http.request.method = method, http.route = route);
    let traced = traced(method, &route, request.headers());

    let answer = AssertUnwindSafe(run(request, next)).catch_unwind();
    let answer = answer.instrument(traced.clone()).instrument(span.clone()).await;
    let mut response = answer.unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<String>().map(String::as_str);
        let text = text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        ApiError::internal(format!("panic: {text}")).into_response()
    });

    let status = response.status();
    trace::note(&traced, "http.response.status_code", i64::from(status.as_u16()));
    if status.is_server_error() {
        trace::failed(&traced, status.as_str());
    }
    let failed = status.is_client_error() || status.is_server_error();
    if failed && response.extensions().get::<Whole>().is_none() {
        response = span.in_scope(|| describe(response, &id));
    }
    let headers = response.headers_mut();
    headers.insert(REQUEST_ID, HeaderValue::from_str(&id).expect("a UUID is visible ASCII"));
    if stage.is_draining() {
        // A kept-alive connection would otherwise meet the end of this process with its next request.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    metrics::counter!(telemetry::REQUESTS, "method" => method, "route" => route,
        "status" => status.as_str().to_owned())
    .increment(1);
    response
}

/// The request's span in the trace of whoever sends it. What is asked all day long is not traced.
fn traced(method: &'static str, route: &str, headers: &HeaderMap) -> Span {
    if matches!(route, "/healthz" | "/readyz" | "/metrics") {
        return Span::none();
    }
    let span = tracing::info_span!(
        target: trace::TARGET,
        "request",
        otel.name = format!("{method} {route}"),
        otel.kind = "server",
        http.request.method = method,
        http.route = route,
    );
    trace::adopt(&span, headers.get("traceparent").and_then(|value| value.to_str().ok()));
    span
}

/// The id that whatever stands before us has given the request, so that both logs name it alike.
fn given_id(headers: &HeaderMap) -> Option<String> {
    let id = headers.get(REQUEST_ID)?.to_str().ok()?;
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    ((1..=MAX_ID_BYTES).contains(&id.len()) && id.bytes().all(plain)).then(|| id.to_owned())
}

async fn run(request: Request, next: Next) -> Response {
    let headers = request.headers().iter();
    let bytes: usize = headers.map(|(name, value)| name.as_str().len() + value.len()).sum();
    if MAX_HEADER_BYTES < bytes {
        let status = StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE;
        return ApiError::new(status, "headers_too_large", "The headers are too large.").into_response();
    }
    next.run(request).await
}

/// Writes the problem body of an error, and logs what is our own fault.
fn describe(response: Response, id: &str) -> Response {
    let (mut parts, _) = response.into_parts();
    let error = parts.extensions.remove::<ApiError>().unwrap_or_else(|| from_status(parts.status));
    if parts.status.is_server_error() {
        let cause = error.cause.as_deref().unwrap_or("none");
        if parts.status == StatusCode::INTERNAL_SERVER_ERROR {
            tracing::error!(error.code = error.code, error.cause = cause, "request failed");
        } else {
            tracing::warn!(error.code = error.code, error.cause = cause, "request refused");
        }
    }
    let body = serde_json::to_vec(&error.problem(id)).expect("a problem is plain data");
    parts.headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
    parts.headers.remove(header::CONTENT_LENGTH);
    Response::from_parts(parts, Body::from(body))
}

/// For answers that routing and extractors make by themselves.
fn from_status(status: StatusCode) -> ApiError {
    let (code, detail) = match status.as_u16() {
        404 => ("not_found", "There is nothing at this address."),
        405 => ("method_not_allowed", "This address does not take this method: see Allow."),
        413 => ("too_large", "The body is too large."),
        415 => ("unsupported_media_type", "The body is of a type that is not taken here."),
        426 => ("upgrade_required", "This address takes WebSocket upgrades only."),
        400..=499 => ("bad_request", "The request cannot be read."),
        _ => ("internal", "Something broke on our side."),
    };
    ApiError::new(status, code, detail)
}

/// The method as a label: a closed set.
fn method_label(method: &Method) -> &'static str {
    match method.as_str() {
        "GET" => "GET",
        "POST" => "POST",
        "DELETE" => "DELETE",
        "HEAD" => "HEAD",
        "OPTIONS" => "OPTIONS",
        _ => "OTHER",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_given_id_is_taken_when_it_is_plain() {
        let given = |text: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(REQUEST_ID, text.parse().unwrap());
            given_id(&headers)
        };
        for id in ["b7ad6b7169203331", "a", "018f-2c_X"] {
            assert_eq!(given(id).as_deref(), Some(id));
        }
        for id in ["", "a b", "a\"b", "a,b", &"x".repeat(65)] {
            assert_eq!(given(id), None, "{id}");
        }
        assert_eq!(given_id(&HeaderMap::new()), None);
    }
}
