//! Traces, exported by OTLP over HTTP. A collector that is away costs spans, never jobs.

use std::time::Duration;

use anyhow::Context;
use bytes::Bytes;
use http::{Request, Response};
use millhand_common::trace;
use opentelemetry::KeyValue;
use opentelemetry::trace::{SpanId, TraceId, TracerProvider};
use opentelemetry_http::{HttpClient, HttpError};
use opentelemetry_otlp::{Protocol, SpanExporter, WithExportConfig, WithHttpConfig};
use opentelemetry_sdk::Resource;
use opentelemetry_sdk::trace::{IdGenerator, RandomIdGenerator, SdkTracerProvider};
use tokio::runtime::Handle;
use tokio_util::context::TokioContext;
use tracing::Subscriber;
use tracing_subscriber::registry::LookupSpan;
use tracing_subscriber::{Layer, filter};

use super::role::Role;

/// One export, its connection included; spans gather meanwhile, at most 2,048, then the newest are dropped.
const EXPORT_TIMEOUT: Duration = Duration::from_secs(5);
/// What the last spans of a process that stops may hold it up.
const LAST_EXPORT: Duration = Duration::from_secs(3);

/// Where spans go.
pub(crate) struct Traces(SdkTracerProvider);

impl Traces {
    /// Exports to the collector at `endpoint`, through `runtime`. Connects to nothing yet.
    pub(super) fn to(endpoint: &str, role: Role, runtime: &Handle) -> anyhow::Result<Self> {
        let http =
            reqwest::Client::builder().timeout(EXPORT_TIMEOUT).build().context("cannot export traces")?;
        let exporter = SpanExporter::builder()
            .with_http()
            .with_http_client(Exporting { http, runtime: runtime.clone() })
            .with_protocol(Protocol::HttpBinary)
            .with_endpoint(format!("{}/v1/traces", endpoint.trim_end_matches('/')))
            .with_timeout(EXPORT_TIMEOUT)
            .build()
            .context("cannot export traces")?;
        // OTEL_SERVICE_NAME and OTEL_RESOURCE_ATTRIBUTES win.
        let resource = Resource::builder_empty()
            .with_attributes([
                KeyValue::new("service.name", "millhand"),
                KeyValue::new("service.version", env!("CARGO_PKG_VERSION")),
                KeyValue::new("service.instance.id", format!("{}-{}", role.name(), std::process::id())),
                KeyValue::new("millhand.role", role.name()),
            ])
            .with_detectors(&[Box::new(opentelemetry_sdk::resource::EnvResourceDetector::new())])
            .build();
        let provider = SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource);
        Ok(Self(provider.with_id_generator(Ids(RandomIdGenerator::default())).build()))
    }

    /// Takes in the spans that are meant for it, and nothing else.
    pub(super) fn layer<S: Subscriber + for<'a> LookupSpan<'a> + Send + Sync>(
        &self,
    ) -> impl Layer<S> + use<S> {
        tracing_opentelemetry::layer()
            .with_tracer(self.0.tracer("millhand"))
            .with_location(false)
            .with_threads(false)
            .with_target(false)
            .with_level(false)
            .with_tracked_inactivity(false)
            .with_filter(filter::filter_fn(|metadata| {
                metadata.is_span() && metadata.target() == trace::TARGET
            }))
    }

    /// Sends what is left. Blocks, but not for long.
    pub(super) fn end(self) {
        if let Err(err) = self.0.shutdown_with_timeout(LAST_EXPORT) {
            tracing::warn!(error = %err, "the last spans are not exported");
        }
    }
}

/// Random ids, but for spans whose id somebody else must be able to tell.
#[derive(Debug)]
struct Ids(RandomIdGenerator);

impl IdGenerator for Ids {
    fn new_trace_id(&self) -> TraceId {
        self.0.new_trace_id()
    }

    fn new_span_id(&self) -> SpanId {
        trace::chosen_id().unwrap_or_else(|| self.0.new_span_id())
    }
}

/// An HTTP client for the exporter's own thread, which is no thread of the runtime.
#[derive(Debug)]
struct Exporting {
    http: reqwest::Client,
    runtime: Handle,
}

#[async_trait::async_trait]
impl HttpClient for Exporting {
    async fn send_bytes(&self, request: Request<Bytes>) -> Result<Response<Bytes>, HttpError> {
        TokioContext::new(self.http.send_bytes(request), self.runtime.clone()).await
    }
}
