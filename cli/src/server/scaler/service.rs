//! KEDA's four questions, and its two streams.

use std::pin::Pin;

use futures::stream::{self, BoxStream, Stream, StreamExt};
use millhand_common::scale::Decision;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Server, ServerTlsConfig, server::TcpIncoming};
use tonic::{Request, Response, Status};
use tonic_health::ServingStatus;
use tonic_health::server::{HealthReporter, health_reporter};

use super::super::stop::Task;
use super::proto::external_scaler_server::{ExternalScaler, ExternalScalerServer};
use super::proto::{
    GetMetricSpecResponse, GetMetricsRequest, GetMetricsResponse, IsActiveResponse, MetricSpec, MetricValue,
    ScaledObjectRef,
};
use super::seen::{Seen, fresh};

/// The one metric: slots that the work needs, over all lanes.
const METRIC: &str = "millhand_slots_needed";
/// As health checks name it; they may also ask for "".
const SERVICE: &str = "externalscaler.ExternalScaler";

/// Answers KEDA until `shutdown`.
pub(super) async fn serve(
    listener: TcpListener,
    tls: Option<ServerTlsConfig>,
    slots: u32,
    seen: watch::Receiver<Seen>,
    shutdown: CancellationToken,
) -> Task {
    let (reporter, health) = health_reporter();
    let answers = Answers { slots, seen: seen.clone(), shutdown: shutdown.clone() };
    let served = async {
        let mut server = Server::builder();
        if let Some(tls) = tls {
            server = server.tls_config(tls)?;
        }
        let server = server.add_service(health).add_service(ExternalScalerServer::new(answers));
        server.serve_with_incoming_shutdown(TcpIncoming::from(listener), shutdown.cancelled()).await
    };
    // Cancel-safe: the reports end with the serving.
    let served = tokio::select! {
        served = served => served,
        () = report(reporter, seen) => Ok(()),
    };
    if let Err(err) = served {
        tracing::error!(error = %err, "the scaler cannot be served");
    }
    Task::Rest("scaler")
}

/// Healthy while there is something to say.
async fn report(reporter: HealthReporter, mut seen: watch::Receiver<Seen>) {
    loop {
        let status = match fresh(&seen.borrow_and_update()) {
            Some(_) => ServingStatus::Serving,
            None => ServingStatus::NotServing,
        };
        reporter.set_service_status("", status).await;
        reporter.set_service_status(SERVICE, status).await;
        // Cancel-safe: both branches only wait. News stop when the store is away, time does not.
        tokio::select! {
            changed = seen.changed() => if changed.is_err() { return std::future::pending().await },
            () = tokio::time::sleep(super::seen::EVERY) => {}
        }
    }
}

struct Answers {
    slots: u32,
    seen: watch::Receiver<Seen>,
    shutdown: CancellationToken,
}

/// Whether there is anything to do now, or soon. How long nothing may be done before the last worker goes is
/// KEDA's business (`cooldownPeriod`).
fn is_active(decision: &Decision) -> bool {
    decision.needed > 0
}

type Answered<T> = Result<Response<T>, Status>;
type Streamed<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

impl Answers {
    /// The last decision. KEDA leaves everything as it is, or falls back, when it hears an error.
    fn decision(&self) -> Result<Decision, Status> {
        let seen = self.seen.borrow();
        fresh(&seen).cloned().ok_or_else(|| Status::unavailable("the store cannot be asked"))
    }

    fn spec(&self) -> GetMetricSpecResponse {
        GetMetricSpecResponse {
            metric_specs: vec![MetricSpec {
                metric_name: METRIC.to_owned(),
                target_size: i64::from(self.slots),
                target_size_float: f64::from(self.slots),
            }],
        }
    }

    /// What a stream says, until the process stops.
    fn stream<T: Send + 'static>(&self, says: BoxStream<'static, T>) -> Answered<Streamed<T>> {
        let until = self.shutdown.clone().cancelled_owned();
        Ok(Response::new(Box::pin(says.map(Ok).take_until(until))))
    }
}

#[tonic::async_trait]
impl ExternalScaler for Answers {
    async fn is_active(&self, _: Request<ScaledObjectRef>) -> Answered<IsActiveResponse> {
        Ok(Response::new(IsActiveResponse { result: is_active(&self.decision()?) }))
    }

    type StreamIsActiveStream = Streamed<IsActiveResponse>;

    /// How it is now, and each change as soon as it is seen.
    async fn stream_is_active(&self, _: Request<ScaledObjectRef>) -> Answered<Self::StreamIsActiveStream> {
        let changes = stream::unfold((self.seen.clone(), None), |(mut seen, said)| async move {
            loop {
                let active = fresh(&seen.borrow_and_update()).map(is_active);
                if let Some(result) = active
                    && active != said
                {
                    return Some((IsActiveResponse { result }, (seen, active)));
                }
                seen.changed().await.ok()?;
            }
        });
        self.stream(changes.boxed())
    }

    async fn get_metric_spec(&self, _: Request<ScaledObjectRef>) -> Answered<GetMetricSpecResponse> {
        Ok(Response::new(self.spec()))
    }

    async fn get_metrics(&self, request: Request<GetMetricsRequest>) -> Answered<GetMetricsResponse> {
        let asked = request.into_inner().metric_name;
        if asked != METRIC {
            return Err(Status::not_found(format!("there is no metric {asked}, only {METRIC}")));
        }
        // Whole workers: the decision has its margins already, and half a worker would be rounded up.
        let slots = u64::from(self.decision()?.workers) * u64::from(self.slots);
        let value = MetricValue {
            metric_name: METRIC.to_owned(),
            metric_value: i64::try_from(slots).unwrap_or(i64::MAX),
            metric_value_float: slots as f64,
        };
        Ok(Response::new(GetMetricsResponse { metric_values: vec![value] }))
    }

    type StreamMetricSpecStream = Streamed<GetMetricSpecResponse>;

    /// The target never changes while a process runs: it is said once, and the stream kept open.
    async fn stream_metric_spec(
        &self,
        _: Request<ScaledObjectRef>,
    ) -> Answered<Self::StreamMetricSpecStream> {
        let spec = self.spec();
        self.stream(stream::once(async { spec }).chain(stream::pending()).boxed())
    }
}
