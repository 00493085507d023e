//! `GET /v1/ws`: many jobs over one socket.

use std::collections::HashMap;
use std::pin::Pin;

use axum::extract::State;
use axum::extract::ws::rejection::WebSocketUpgradeRejection;
use axum::extract::ws::{WebSocketUpgrade, close_code};
use axum::response::{IntoResponse, Response};
use futures::StreamExt;
use futures::stream::{self, AbortHandle, SelectAll, Stream};
use http::HeaderMap;
use millhand_common::model::{JobId, Scope};
use millhand_common::trace;
use serde::Deserialize;
use serde_json::{Value, json};
use tracing::Instrument;
use uuid::Uuid;

use crate::access::{Access, protocols};
use crate::error::ApiError;
use crate::events::ws::{Received, Socket, accept};
use crate::json;
use crate::params::{NoParams, Params, checked_key};
use crate::state::Api;
use crate::submit::Caller;
use crate::view::JobView;

/// Talk about many jobs over one WebSocket: `submit`, `subscribe`, `unsubscribe`, `cancel`, `ping`.
#[utoipa::path(get, path = "/v1/ws", tag = "events",
    responses((status = 101, description = "Frames are JSON texts: answers `{ref, ok, job?|error?}` and events"),
        (status = 426, description = "Not an upgrade", body = crate::error::Problem)))]
pub(crate) async fn socket(
    State(api): State<Api>,
    access: Access,
    Params(NoParams {}): Params<NoParams>,
    headers: HeaderMap,
    upgrade: Result<WebSocketUpgrade, WebSocketUpgradeRejection>,
) -> Result<Response, ApiError> {
    let upgrade = match upgrade {
        Ok(upgrade) => upgrade,
        Err(rejection) => return Ok(rejection.into_response()),
    };
    let slot = api.stream_slot("multiplex")?;
    let traceparent = headers.get("traceparent").and_then(|value| value.to_str().ok()).map(str::to_owned);
    let session =
        Session { api: api.clone(), access, traceparent, events: SelectAll::new(), open: HashMap::new() };
    Ok(accept(api, upgrade.protocols(protocols(&headers)), async move |socket| {
        let _slot = slot;
        session.run(socket).await;
    }))
}

/// What a client may say.
#[derive(Debug, Deserialize)]
#[serde(tag = "op", rename_all = "snake_case", deny_unknown_fields)]
enum Op {
    Submit { job: Value, idempotency_key: Option<String> },
    Subscribe { job_id: String, after: Option<u64> },
    Unsubscribe { job_id: String },
    Cancel { job_id: String },
    Ping {},
}

type Frames = Pin<Box<dyn Stream<Item = Frame> + Send>>;

enum Frame {
    Event(String),
    /// The subscription is over.
    End(JobId, Uuid),
}

struct Session {
    api: Api,
    access: Access,
    traceparent: Option<String>,
    events: SelectAll<Frames>,
    open: HashMap<JobId, (Uuid, AbortHandle)>,
}

impl Session {
    async fn run(mut self, mut socket: Socket) {
        let ending = self.access.ending.clone();
        loop {
            // Cancel-safe: streams and `Socket::receive` keep what they do not hand out.
            tokio::select! {
                Some(frame) = self.events.next() => match frame {
                    Frame::Event(text) => if socket.send(text).await.is_err() { return },
                    Frame::End(job, subscription) => {
                        self.open.retain(|id, (open, _)| (*id, *open) != (job, subscription));
                    }
                },
                received = socket.receive() => match received {
                    Received::Text(text) => {
                        let answer = self.answer(&text).await;
                        if socket.send(answer).await.is_err() { return }
                    }
                    Received::Close(code, reason) => return socket.close(code, reason).await,
                    Received::Gone => return,
                },
                () = ending.cancelled() => return socket.close(close_code::AWAY, "shutting down").await,
            }
        }
    }

    /// The answer to one frame; whatever it says, the socket stays.
    async fn answer(&mut self, text: &str) -> String {
        let (reference, op) = match json::parse(text.as_bytes()) {
            Ok(Value::Object(mut fields)) => {
                let reference = fields.remove("ref").unwrap_or(Value::Null);
                (reference, json::typed(Value::Object(fields)))
            }
            Ok(_) => (Value::Null, Err(ApiError::invalid("A frame is a JSON object with `op`."))),
            Err(error) => (Value::Null, Err(error)),
        };
        let result = match op {
            Ok(op) => self.perform(op).await,
            Err(error) => Err(error),
        };
        let answer = match result {
            Ok(Some(job)) => json!({ "ref": reference, "ok": true, "job": job }),
            Ok(None) => json!({ "ref": reference, "ok": true }),
            Err(error) => {
                let problem = error.problem(&Uuid::new_v4().to_string());
                json!({ "ref": reference, "ok": false, "error": problem })
            }
        };
        answer.to_string()
    }

    async fn perform(&mut self, op: Op) -> Result<Option<JobView>, ApiError> {
        if let Op::Submit { .. } | Op::Cancel { .. } = op {
            self.access.check(Scope::Submit)?;
        }
        match op {
            Op::Submit { job, idempotency_key } => {
                self.api.admission.pace(&self.access.tenant)?;
                let caller = Caller {
                    tenant: self.access.tenant.clone(),
                    idempotency_key: idempotency_key.as_deref().map(checked_key).transpose()?,
                    traceparent: self.traceparent.clone(),
                };
                let span = tracing::info_span!(target: trace::TARGET, "submit", otel.kind = "server");
                trace::adopt(&span, self.traceparent.as_deref());
                let submitted = self.api.submit(caller, job).instrument(span).await;
                submitted.map(|submitted| Some(self.api.view(submitted.job)))
            }
            Op::Subscribe { job_id, after } => {
                self.subscribe(job(&job_id)?, after.unwrap_or(0)).await.map(|()| None)
            }
            Op::Unsubscribe { job_id } => {
                self.unsubscribe(job(&job_id)?);
                Ok(None)
            }
            Op::Cancel { job_id } => {
                let cancelled = self.api.cancel(&self.access.tenant, job(&job_id)?).await?;
                Ok(Some(self.api.view(cancelled)))
            }
            Op::Ping {} => Ok(None),
        }
    }

    async fn subscribe(&mut self, job: JobId, after: u64) -> Result<(), ApiError> {
        let most = self.api.ports.config.limits.subscriptions_per_socket;
        if most <= self.open.len() && !self.open.contains_key(&job) {
            let detail = format!("This socket has {most} subscriptions: unsubscribe from one first.");
            return Err(ApiError::conflict("too_many_subscriptions", detail));
        }
        let feed = self.api.feed(&self.access.tenant, job, after, "multiplex").await?;
        self.unsubscribe(job);
        let Some(feed) = feed else { return Ok(()) };
        let subscription = Uuid::new_v4();
        let events = stream::unfold(feed, |mut feed| async move {
            let event = feed.next().await?;
            Some((Frame::Event(event.to_json()), feed))
        });
        let (events, abort) = stream::abortable(events);
        let end = stream::once(async move { Frame::End(job, subscription) });
        self.events.push(Box::pin(events.chain(end)));
        self.open.insert(job, (subscription, abort));
        Ok(())
    }

    /// No event of this job follows, also none that was ready to be sent.
    fn unsubscribe(&mut self, job: JobId) {
        if let Some((_, abort)) = self.open.remove(&job) {
            abort.abort();
        }
    }
}

fn job(id: &str) -> Result<JobId, ApiError> {
    id.parse().map_err(|_| ApiError::job_not_found())
}
