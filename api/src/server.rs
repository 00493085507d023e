//! Drives connections: how many, how long they may take to speak and to listen, and how they end.
//!
//! axum's own `serve` sets no header time-out and no connection cap.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, Method, Request, Uri, header};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use socket2::SockRef;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::config::ApiLimits;
use crate::error::ApiError;
use crate::io::Guarded;
use crate::state::Stage;

/// Headers of one request.
const MAX_HEADERS: usize = 100;
/// Head of one request, and what one connection may have unwritten. Above the longest address hyper
/// takes (64 KiB), so that a longer one is told so (414).
const BUFFER_BYTES: usize = 80 * 1024;
const HTTP2_HEADER_BYTES: u32 = 64 * 1024;
const HTTP2_STREAMS: u32 = 100;
const HTTP2_PING_EVERY: Duration = Duration::from_secs(20);
/// One in so many places is kept for everything but submits: status, streams that resume, cancels, health.
///
/// Source: Stripe keeps 20 % of its servers for what is most important.
const RESERVED: usize = 5;
/// Connections beyond the cap that are told so at a time; the rest waits to be accepted.
const TURNED_AWAY: usize = 64;
/// How long a connection that was made just before the end may take to send its request.
const LAST_REQUEST: Duration = Duration::from_millis(250);

pub(crate) struct Server {
    pub(crate) router: Router,
    pub(crate) limits: ApiLimits,
    pub(crate) stage: Stage,
    /// Cancelled by [`Server::run`] when accepting ends: streams and long polls end then.
    pub(crate) stopping: CancellationToken,
}

impl Server {
    /// Serves until `shutdown`, then: readiness off, the last accepts, streams ended, requests in
    /// flight answered, at most `drain_timeout` long.
    pub(crate) async fn run(self, listener: TcpListener, shutdown: CancellationToken) -> io::Result<()> {
        let server = Arc::new(self);
        let mut connections = JoinSet::new();
        let reserved = server.limits.connections / RESERVED;
        let places = Places {
            all: Arc::new(Semaphore::new(server.limits.connections - reserved)),
            reserved: Arc::new(Semaphore::new(reserved)),
            overflow: Arc::new(Semaphore::new(TURNED_AWAY)),
        };
        let last_accept = async {
            shutdown.cancelled().await;
            server.stage.drain();
            sleep(server.limits.drain_delay).await;
        };
        tokio::pin!(last_accept);
        loop {
            // Cancel-safe: a place is given back when dropped, `accept` and `join_next` by their docs.
            tokio::select! {
                biased;
                () = &mut last_accept => break,
                Some(ended) = connections.join_next(), if !connections.is_empty() => log_if_panicked(ended),
                (stream, place) = accept(&listener, &places) => {
                    connections.spawn(server.clone().connection(stream, place));
                }
            }
        }
        // Clients whose connection the kernel has made already were promised an answer.
        while let Some((stream, place)) = futures::FutureExt::now_or_never(accept(&listener, &places)) {
            connections.spawn(server.clone().connection(stream, place));
        }
        drop(listener);
        server.stopping.cancel();
        let all = async {
            while let Some(ended) = connections.join_next().await {
                log_if_panicked(ended);
            }
        };
        if timeout(server.limits.drain_timeout, all).await.is_err() {
            tracing::warn!("connections are cut: they took longer than the drain time-out");
        }
        connections.shutdown().await;
        Ok(())
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, place: Place) {
        let limits = &self.limits;
        if let Err(error) = prepare(&stream, limits.write_timeout) {
            tracing::debug!(%error, "connection was gone before it began");
            return;
        }
        let (spoken, turned_away) = (CancellationToken::new(), CancellationToken::new());
        let full = matches!(place, Place::Overflow(_));
        let router = self.router.clone();
        let service = service_fn(|request: Request<Incoming>| {
            spoken.cancel();
            let router = router.clone();
            let refused =
                full || matches!(place, Place::Reserved(_)) && is_submit(request.method(), request.uri());
            if refused {
                turned_away.cancel();
            }
            async move {
                if refused {
                    return Ok(turn_away());
                }
                router.oneshot(request.map(Body::new)).await
            }
        });
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder
            .http1()
            .timer(TokioTimer::new())
            .header_read_timeout(limits.header_timeout)
            .max_headers(MAX_HEADERS)
            .max_buf_size(BUFFER_BYTES)
            .keep_alive(!full);
        builder
            .http2()
            .timer(TokioTimer::new())
            .keep_alive_interval(HTTP2_PING_EVERY)
            .keep_alive_timeout(HTTP2_PING_EVERY)
            .max_header_list_size(HTTP2_HEADER_BYTES)
            .max_concurrent_streams(HTTP2_STREAMS)
            .max_send_buf_size(BUFFER_BYTES);
        let io = TokioIo::new(Guarded::new(stream, limits.header_timeout, limits.write_timeout));
        let connection = builder.serve_connection_with_upgrades(io, service);
        tokio::pin!(connection);
        // Cancel-safe: a connection is polled further, not dropped.
        let ended = tokio::select! {
            ended = connection.as_mut() => ended,
            // Its place is for others: what is under way is answered, then it is closed.
            () = turned_away.cancelled() => {
                connection.as_mut().graceful_shutdown();
                connection.await
            }
            () = self.stopping.cancelled() => {
                tokio::select! {
                    ended = connection.as_mut() => ended,
                    () = async { let _quiet = timeout(LAST_REQUEST, spoken.cancelled()).await; } => {
                        connection.as_mut().graceful_shutdown();
                        connection.await
                    }
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(error = %error, "connection ended early");
        }
    }
}

/// What a connection occupies; held for its whole life.
enum Place {
    Served(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit),
    /// Everything but submits is served.
    Reserved(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit),
    /// Nothing is served.
    Overflow(#[expect(dead_code, reason = "held, not read")] OwnedSemaphorePermit),
}

/// What connections may occupy.
struct Places {
    all: Arc<Semaphore>,
    reserved: Arc<Semaphore>,
    overflow: Arc<Semaphore>,
}

impl Places {
    async fn take(&self) -> Place {
        if let Ok(permit) = self.all.clone().try_acquire_owned() {
            return Place::Served(permit);
        }
        if let Ok(permit) = self.reserved.clone().try_acquire_owned() {
            return Place::Reserved(permit);
        }
        let permit = self.overflow.clone().acquire_owned().await;
        Place::Overflow(permit.expect("the semaphore is never closed"))
    }
}

/// Whether a request brings a job: a question or documents.
fn is_submit(method: &Method, uri: &Uri) -> bool {
    let mut parts = uri.path().trim_start_matches('/').split('/');
    let parts: [_; 4] = std::array::from_fn(|_| parts.next().unwrap_or_default());
    *method == Method::POST && matches!(parts, ["v1", "jobs", "", ""] | ["v1", "collections", _, "documents"])
}

async fn accept(listener: &TcpListener, places: &Places) -> (TcpStream, Place) {
    loop {
        let place = places.take().await;
        match listener.accept().await {
            Ok((stream, _)) => return (stream, place),
            // Out of files, or a client that gave up: others may end meanwhile.
            Err(error) => {
                tracing::warn!(%error, "cannot accept a connection");
                sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

fn prepare(stream: &TcpStream, write_timeout: Duration) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // A peer that vanished, or whose window stays shut, is cut by the kernel too.
    #[cfg(target_os = "linux")]
    SockRef::from(stream).set_tcp_user_timeout(Some(write_timeout))?;
    Ok(())
}

fn turn_away() -> Response {
    let error = ApiError::unavailable("too_many_connections", "This process serves all it may.", 2);
    let problem = serde_json::to_vec(&error.problem(&uuid::Uuid::new_v4().to_string()));
    let mut response = error.into_response();
    *response.body_mut() = Body::from(problem.expect("a problem is plain data"));
    let kind = HeaderValue::from_static("application/problem+json");
    response.headers_mut().insert(header::CONTENT_TYPE, kind);
    response
}

fn log_if_panicked(ended: Result<(), tokio::task::JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        tracing::error!(%error, "a connection panicked");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_brings_a_job_is_told_from_all_else() {
        let submits = |method: Method, path: &'static str| is_submit(&method, &Uri::from_static(path));
        for path in ["/v1/jobs", "/v1/jobs?x=1", "/v1/collections/a/documents"] {
            assert!(submits(Method::POST, path), "{path}");
        }
        for path in
            ["/v1/jobs/job_1/cancel", "/v1/jobs/job_1/ticket", "/v1/collections", "/v1/collections/a/search"]
        {
            assert!(!submits(Method::POST, path), "{path}");
        }
        assert!(!submits(Method::GET, "/v1/jobs"));
    }
}
