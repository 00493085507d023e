//! The ingress: HTTP in, queue out, replies streamed back. It holds no state that it could lose: a
//! job is durable before it is answered, and every reader goes on at another process from its cursor.
//!
//! [`serve`] is the public side, [`serve_admin`] the operators'.

mod access;
mod admin;
mod admission;
mod agents;
mod allowance;
mod brownout;
mod collections;
mod config;
mod conversations;
mod documents;
mod envelope;
mod error;
mod events;
mod health;
mod hints;
mod io;
mod jobs;
mod json;
mod keys;
mod multiplex;
mod openapi;
mod origin;
mod params;
mod search;
mod server;
mod state;
mod submit;
mod upload;
mod view;
mod wait;

use std::time::Duration;

use axum::routing::{get, post};
use axum::{Router, middleware};
use http::StatusCode;
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use utoipa::OpenApi;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;
use utoipa_swagger_ui::SwaggerUi;

pub use allowance::Allowance;
pub use config::{AdminConfig, AdmissionConfig, ApiConfig, ApiLimits};
pub use state::{AdminState, ApiState, Backup, NamedLimiter, Stage};

use access::KeyRing;
use admission::Admission;
use state::{Api, ApiInner};

/// Longest wait for the last hints to reach the broker at shutdown; the due index has them else.
const LAST_HINTS: Duration = Duration::from_secs(2);

/// Every public route.
fn routes(api: &Api) -> Router {
    let (router, spec) = OpenApiRouter::<Api>::with_openapi(openapi::Doc::openapi())
        .routes(routes!(jobs::submit, jobs::list))
        .routes(routes!(jobs::get, jobs::delete))
        .routes(routes!(jobs::cancel))
        .routes(routes!(jobs::ticket))
        .routes(routes!(events::events))
        .routes(routes!(multiplex::socket))
        .routes(routes!(conversations::create, conversations::list))
        .routes(routes!(conversations::get, conversations::delete))
        .routes(routes!(conversations::messages))
        .routes(routes!(collections::create, collections::list))
        .routes(routes!(collections::get, collections::delete))
        .routes(routes!(documents::add, documents::list))
        .routes(routes!(documents::get, documents::delete))
        .routes(routes!(documents::text))
        .routes(routes!(search::search))
        .routes(routes!(agents::agents))
        .routes(routes!(agents::usage))
        .routes(routes!(health::live))
        .routes(routes!(health::ready))
        .split_for_parts();
    router
        .with_state(api.clone())
        .merge(SwaggerUi::new("/docs").url("/openapi.json", spec))
        .fallback(async || StatusCode::NOT_FOUND)
        .layer(middleware::from_fn_with_state(api.clone(), access::check))
        .layer(middleware::from_fn_with_state(api.clone(), origin::check))
        .layer(middleware::from_fn_with_state(api.ports.stage.clone(), envelope::wrap))
}

/// Every route of the admin listener.
fn admin_routes(state: AdminState, ring: Option<KeyRing>) -> Router {
    let stage = state.stage.clone();
    let router = Router::new()
        .route("/healthz", get(health::live))
        .route("/readyz", get(health::admin_ready))
        .route("/metrics", get(admin::metrics::text))
        .route("/v1/queues", get(admin::queues))
        .route("/v1/tenants", get(admin::tenants::list))
        .route("/v1/limits", get(admin::limits))
        .route("/v1/workers", get(admin::workers))
        .route("/v1/workers/{id}/drain", post(admin::drain_worker))
        .route("/v1/lanes/{lane}/pause", post(admin::pause_lane))
        .route("/v1/lanes/{lane}/resume", post(admin::resume_lane))
        .route("/v1/dead-letters", get(admin::dead_letters))
        .route("/v1/dead-letters/{id}/replay", post(admin::replay))
        .route("/v1/dead-letters/{id}/drop", post(admin::drop_dead_letter))
        .route("/v1/keys", get(keys::list).post(keys::add))
        .route("/v1/keys/{id}/revoke", post(keys::revoke))
        .route("/v1/drain", post(admin::drain))
        .route("/v1/backup", post(admin::backup))
        .with_state(state)
        .fallback(async || StatusCode::NOT_FOUND);
    let router = match ring {
        Some(ring) => router.layer(middleware::from_fn_with_state(ring, access::check_admin)),
        None => router,
    };
    router.layer(middleware::from_fn_with_state(stage, envelope::wrap))
}

/// Serves the public side until `shutdown`, then ends politely: readiness off, no more accepts,
/// streams told to reconnect, requests in flight answered.
///
/// # Errors
///
/// When the keys cannot be read at the start.
pub async fn serve(
    listener: TcpListener,
    state: ApiState,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let (hints, publisher) = hints::channel(state.broker.clone(), state.store.clone());
    let hints_done = CancellationToken::new();
    let mut tasks = JoinSet::new();
    tasks.spawn(publisher.run(hints_done.clone()));

    let stopping = CancellationToken::new();
    let ring = KeyRing::new(state.keys.clone(), stopping.clone());
    ring.refresh().await.map_err(std::io::Error::other)?;
    tasks.spawn(ring.clone().keep_fresh());
    state.config.admission.show();
    let admission = Admission::new(state.store.clone(), state.config.admission.clone(), state.shares.clone());
    tasks.spawn(admission.clone().watch(stopping.clone()));
    let api = ApiInner::new(state, hints, ring, admission, stopping.clone());
    let limits = api.ports.config.limits.clone();
    let drain_timeout = limits.drain_timeout;
    let server = server::Server { router: routes(&api), limits, stage: api.ports.stage.clone(), stopping };
    let result = server.run(listener, shutdown).await;

    api.sockets.close();
    if timeout(drain_timeout, api.sockets.wait()).await.is_err() {
        tracing::warn!("sockets are cut: they took longer than the drain time-out");
    }
    hints_done.cancel();
    let all = async { while tasks.join_next().await.is_some() {} };
    let _late = timeout(LAST_HINTS, all).await;
    result
}

/// Serves the operators' side until `shutdown`. Bind it to loopback, or to a network of your own.
///
/// # Errors
///
/// As [`serve`].
pub async fn serve_admin(
    listener: TcpListener,
    state: AdminState,
    shutdown: CancellationToken,
) -> std::io::Result<()> {
    let stage = state.stage.clone();
    let stopping = CancellationToken::new();
    let mut tasks = JoinSet::new();
    let ring = match state.needs_key {
        true => {
            let ring = KeyRing::new(state.keys.clone(), stopping.clone());
            ring.refresh().await.map_err(std::io::Error::other)?;
            tasks.spawn(ring.clone().keep_fresh());
            Some(ring)
        }
        false => None,
    };
    // The last to go: probes and metrics are wanted until the end.
    let limits = ApiLimits { drain_delay: Duration::ZERO, connections: 256, ..ApiLimits::default() };
    let server = server::Server { router: admin_routes(state, ring), limits, stage, stopping };
    server.run(listener, shutdown).await
}
