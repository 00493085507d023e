//! Who asks, and what they may. The one place where a credential becomes a tenant.
//!
//! Every ingress holds all keys in memory and reads them again each second: a new key is live and a
//! revoked one dead after that, whatever happens to the store meanwhile.

mod ring;
mod ticket;

use std::convert::Infallible;

use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use millhand_common::model::{ApiKey, Scope, TenantId};
use tokio_util::sync::CancellationToken;

pub(crate) use ring::KeyRing;

use crate::error::ApiError;
use crate::state::Api;

/// Marks the protocol that a browser's WebSocket asks for beside its key.
pub(crate) const PROTOCOL: &str = "millhand";

/// What a request may do, and for whom.
#[derive(Clone, Debug)]
pub(crate) struct Access {
    pub(crate) tenant: TenantId,
    scopes: Vec<Scope>,
    /// Cancelled when the server stops or the key is revoked: streams end then.
    pub(crate) ending: CancellationToken,
}

impl Access {
    fn of_everybody(ending: CancellationToken) -> Self {
        Self { tenant: TenantId::default(), scopes: Scope::ALL.to_vec(), ending }
    }

    pub(crate) fn check(&self, scope: Scope) -> Result<(), ApiError> {
        if self.scopes.contains(&scope) {
            return Ok(());
        }
        let detail = format!("This key may not do this: it lacks the scope `{scope}`.");
        Err(ApiError::new(StatusCode::FORBIDDEN, "insufficient_scope", detail))
    }
}

/// The owner of all that a request reads and writes; never taken from a body.
#[derive(Clone, Debug)]
pub(crate) struct Tenant(pub(crate) TenantId);

impl<S: Sync> FromRequestParts<S> for Tenant {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Infallible> {
        Access::from_request_parts(parts, state).await.map(|access| Self(access.tenant))
    }
}

impl<S: Sync> FromRequestParts<S> for Access {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        Ok(parts.extensions.get::<Self>().expect("every route is behind `check`").clone())
    }
}

/// Lets a request through with what its credential gives it, or refuses it: 401 without a good one, 403
/// when the route asks for more.
pub(crate) async fn check(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    if is_open(request.uri().path()) {
        return next.run(request).await;
    }
    match admit(&api, &request) {
        Ok(access) => {
            request.extensions_mut().insert(access);
            next.run(request).await
        }
        Err(error) => refuse(error),
    }
}

/// The same for the operators' address, where it can be reached from other machines.
pub(crate) async fn check_admin(State(ring): State<KeyRing>, request: Request, next: Next) -> Response {
    if is_open(request.uri().path()) {
        return next.run(request).await;
    }
    let access = match bearer(request.headers()) {
        Some(secret) => ring.find(secret).ok_or_else(unauthorized),
        None => Err(unauthorized()),
    };
    match access.and_then(|access| access.check(Scope::Admin)) {
        Ok(()) => next.run(request).await,
        Err(error) => refuse(error),
    }
}

fn refuse(error: ApiError) -> Response {
    let challenge = error.status == StatusCode::UNAUTHORIZED;
    let mut response = error.into_response();
    if challenge {
        response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    response
}

fn unauthorized() -> ApiError {
    let detail = "A key is needed, and one that is not revoked: send `Authorization: Bearer KEY`.";
    ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
}

/// Paths that say nothing of anybody.
fn is_open(path: &str) -> bool {
    matches!(path, "/healthz" | "/readyz" | "/openapi.json" | "/docs") || path.starts_with("/docs/")
}

fn admit(api: &Api, request: &Request) -> Result<Access, ApiError> {
    let ring = &api.keys;
    if ring.is_empty() {
        return Ok(Access::of_everybody(api.stopping.clone()));
    }
    let route = request.extensions().get::<MatchedPath>().map_or("", MatchedPath::as_str);
    if let Some(secret) = bearer(request.headers()).or_else(|| offered(route, request.headers())) {
        let access = ring.find(secret).ok_or_else(unauthorized)?;
        access.check(needed(request.method(), route))?;
        return Ok(access);
    }
    if route == "/v1/jobs/{id}/events"
        && let Some(ticket) = query_value(request.uri(), "ticket")
    {
        let job = request.uri().path().split('/').nth(3).unwrap_or_default();
        let tenant = ring.admits(ticket, job).ok_or_else(|| {
            let detail =
                "This ticket is not for this job, or it is older than five minutes: ask for another.";
            ApiError::new(StatusCode::UNAUTHORIZED, "unauthorized", detail)
        })?;
        return Ok(Access { tenant, scopes: vec![Scope::Read], ending: api.stopping.clone() });
    }
    Err(unauthorized())
}

/// What a route asks for. Operations of a multiplexed socket are checked one by one.
fn needed(method: &Method, route: &str) -> Scope {
    let reads = matches!(*method, Method::GET | Method::HEAD)
        || matches!(route, "/v1/collections/{collection}/search" | "/v1/jobs/{id}/ticket");
    if reads { Scope::Read } else { Scope::Submit }
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (kind, secret) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    kind.eq_ignore_ascii_case("bearer").then(|| secret.trim())
}

/// The key among the protocols that a WebSocket offers: browsers let pages set no other header.
fn offered<'a>(route: &str, headers: &'a HeaderMap) -> Option<&'a str> {
    if route != "/v1/ws" {
        return None;
    }
    let offers = headers.get_all(header::SEC_WEBSOCKET_PROTOCOL).iter();
    let names = offers.filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    names.map(str::trim).find(|name| ApiKey::is_secret(name))
}

/// The protocols that may be agreed on: our own, and the key itself for pages that offer nothing else.
pub(crate) fn protocols(headers: &HeaderMap) -> Vec<String> {
    let key = offered("/v1/ws", headers).map(str::to_owned);
    std::iter::once(PROTOCOL.to_owned()).chain(key).collect()
}

fn query_value<'a>(uri: &'a Uri, name: &str) -> Option<&'a str> {
    let mut pairs = uri.query()?.split('&').filter_map(|pair| pair.split_once('='));
    pairs.find(|(key, _)| *key == name).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_route_asks_for_is_by_what_it_does() {
        for (method, route, scope) in [
            (Method::GET, "/v1/jobs/{id}", Scope::Read),
            (Method::POST, "/v1/jobs", Scope::Submit),
            (Method::DELETE, "/v1/conversations/{id}", Scope::Submit),
            (Method::POST, "/v1/collections/{collection}/search", Scope::Read),
            (Method::POST, "/v1/jobs/{id}/ticket", Scope::Read),
            (Method::PUT, "", Scope::Submit),
        ] {
            assert_eq!(needed(&method, route), scope, "{method} {route}");
        }
    }

    #[test]
    fn a_key_is_found_where_it_may_be_sent_and_nowhere_else() {
        let secret = ApiKey::new(TenantId::default(), Vec::new()).1;
        let mut headers = HeaderMap::new();
        headers.insert(header::SEC_WEBSOCKET_PROTOCOL, format!("millhand, {secret}").parse().unwrap());
        assert_eq!(offered("/v1/ws", &headers), Some(secret.as_str()));
        assert_eq!(offered("/v1/jobs", &headers), None);
        assert_eq!(protocols(&headers), [PROTOCOL.to_owned(), secret.clone()]);
        headers.insert(header::AUTHORIZATION, format!("bearer {secret}").parse().unwrap());
        assert_eq!(bearer(&headers), Some(secret.as_str()));
        headers.insert(header::AUTHORIZATION, format!("Basic {secret}").parse().unwrap());
        assert_eq!(bearer(&headers), None);
    }
}
