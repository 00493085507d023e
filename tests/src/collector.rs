//! A collector of traces: takes OTLP over HTTP, as protobuf, and keeps every span.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::any_value::Value;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue};
use opentelemetry_proto::tonic::trace::v1::status::StatusCode as Outcome;
use prost::Message;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

/// A span as it came.
#[derive(Clone, Debug)]
pub struct Span {
    pub name: String,
    /// In hex, like the other ids.
    pub trace: String,
    pub id: String,
    /// Empty for a root.
    pub parent: String,
    pub failed: bool,
    /// Values as text; lists with commas.
    pub attributes: HashMap<String, String>,
    /// Whose process it was of: `api`, `worker`, `up`.
    pub role: String,
    pub nanos: u64,
    /// What it says besides: none of ours has any.
    pub events: usize,
    /// The spans that it is linked to.
    pub links: Vec<String>,
}

impl Span {
    #[must_use]
    pub fn says(&self, key: &str) -> &str {
        self.attributes.get(key).map_or("", String::as_str)
    }
}

#[derive(Clone, Default)]
struct Kept {
    spans: Arc<Mutex<Vec<Span>>>,
    bodies: Arc<Mutex<Vec<u8>>>,
}

/// A running collector. Dropped, it is gone.
pub struct Collector {
    url: String,
    kept: Kept,
    _task: JoinSet<()>,
}

impl Collector {
    /// One that takes all it gets.
    ///
    /// # Panics
    ///
    /// When it cannot listen.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let url = format!("http://{}", listener.local_addr().expect("it is bound"));
        let kept = Kept::default();
        let router = Router::new().route("/v1/traces", post(take)).with_state(kept.clone());
        let mut task = JoinSet::new();
        task.spawn(async move { axum::serve(listener, router).await.expect("it serves") });
        Self { url, kept, _task: task }
    }

    /// What the product is told.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Every span so far.
    #[must_use]
    pub fn spans(&self) -> Vec<Span> {
        self.kept.spans.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Whether anything that came, in whatever place, holds these bytes.
    #[must_use]
    pub fn got(&self, text: &str) -> bool {
        let bodies = self.kept.bodies.lock().unwrap_or_else(PoisonError::into_inner);
        bodies.windows(text.len()).any(|window| window == text.as_bytes())
    }
}

async fn take(State(kept): State<Kept>, body: Bytes) -> StatusCode {
    let Ok(request) = ExportTraceServiceRequest::decode(body.clone()) else {
        return StatusCode::BAD_REQUEST;
    };
    kept.bodies.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(&body);
    let mut spans = kept.spans.lock().unwrap_or_else(PoisonError::into_inner);
    for resource in request.resource_spans {
        let process = attributes(resource.resource.map(|resource| resource.attributes).unwrap_or_default());
        let role = process.get("millhand.role").cloned().unwrap_or_default();
        for span in resource.scope_spans.into_iter().flat_map(|scope| scope.spans) {
            spans.push(Span {
                name: span.name,
                trace: hex(&span.trace_id),
                id: hex(&span.span_id),
                parent: hex(&span.parent_span_id),
                failed: span.status.is_some_and(|status| status.code() == Outcome::Error),
                attributes: attributes(span.attributes),
                role: role.clone(),
                nanos: span.end_time_unix_nano.saturating_sub(span.start_time_unix_nano),
                events: span.events.len(),
                links: span.links.iter().map(|link| hex(&link.span_id)).collect(),
            });
        }
    }
    StatusCode::OK
}

fn attributes(all: Vec<KeyValue>) -> HashMap<String, String> {
    all.into_iter().map(|one| (one.key, one.value.map(text).unwrap_or_default())).collect()
}

fn text(value: AnyValue) -> String {
    match value.value {
        Some(Value::StringValue(text)) => text,
        Some(Value::IntValue(number)) => number.to_string(),
        Some(Value::BoolValue(truth)) => truth.to_string(),
        Some(Value::DoubleValue(number)) => number.to_string(),
        Some(Value::ArrayValue(list)) => list.values.into_iter().map(text).collect::<Vec<_>>().join(","),
        _ => String::new(),
    }
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
