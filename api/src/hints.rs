//! Publishes the hints of new jobs. Nobody waits for it: until a hint is confirmed the job stands in
//! the due index, so what is lost here costs seconds and no job.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use millhand_common::model::{Hint, Job, JobId, TenantId};
use millhand_common::ports::{Broker, Destination, JobStore};
use millhand_common::{crash, trace};
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing::Span;

/// Hints that may wait for the publisher.
const QUEUE: usize = 4096;
/// Hints of one publish, and jobs of one `hinted`.
const BATCH: usize = 256;
/// Longest wait for a confirm.
const PUBLISH_TIMEOUT: Duration = Duration::from_secs(5);
/// Confirmed hints gather this long: the store needs to know within seconds, and most of the jobs have
/// begun by then.
const GATHER: Duration = Duration::from_millis(100);
/// Longest an accept waits for a place in the queue while the broker is there.
const OFFER_TIMEOUT: Duration = Duration::from_millis(250);

/// Where handlers leave hints.
pub(crate) struct Hints {
    queue: mpsc::Sender<Hint>,
    broker_away: Arc<AtomicBool>,
}

/// Takes hints from the queue to the broker, and confirmed ones to the store.
pub(crate) struct Publisher {
    queue: mpsc::Receiver<Hint>,
    broker: Arc<dyn Broker>,
    store: Arc<dyn JobStore>,
    broker_away: Arc<AtomicBool>,
}

pub(crate) fn channel(broker: Arc<dyn Broker>, store: Arc<dyn JobStore>) -> (Hints, Publisher) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let broker_away = Arc::new(AtomicBool::new(false));
    let hints = Hints { queue: sender, broker_away: broker_away.clone() };
    (hints, Publisher { queue: receiver, broker, store, broker_away })
}

pub(crate) fn hint_of(job: &Job) -> Hint {
    Hint {
        v: 1,
        job: job.spec.id,
        tenant: job.spec.tenant.clone(),
        lane: job.spec.lane,
        traceparent: job.spec.traceparent.clone(),
    }
}

impl Hints {
    /// Leaves the hint of a new job. With the queue full it waits a moment, or not at all when the
    /// broker is away; the due index has the job then.
    pub(crate) async fn offer(&self, job: &Job) {
        let Err(mpsc::error::TrySendError::Full(hint)) = self.queue.try_send(hint_of(job)) else { return };
        if !self.broker_away.load(Ordering::Relaxed) {
            let _late = tokio::time::timeout(OFFER_TIMEOUT, self.queue.send(hint)).await;
        }
    }
}

impl Publisher {
    /// Works until `done`, then publishes what is still queued.
    pub(crate) async fn run(mut self, done: CancellationToken) {
        let (confirmed, unsettled) = mpsc::channel(QUEUE);
        let settling = settle(unsettled, self.store.clone());
        let publishing = async {
            let mut batch = Vec::with_capacity(BATCH);
            loop {
                // Cancel-safe: `recv_many` hands out hints or keeps them.
                tokio::select! {
                    biased;
                    count = self.queue.recv_many(&mut batch, BATCH) => if count == 0 { break },
                    () = done.cancelled() => break,
                }
                self.publish(&mut batch, &confirmed).await;
            }
            drop(confirmed);
        };
        tokio::join!(publishing, settling);
    }

    async fn publish(&self, batch: &mut Vec<Hint>, confirmed: &mpsc::Sender<(TenantId, JobId)>) {
        let sending = Sending::begin(&*self.broker, batch);
        let result = tokio::time::timeout(PUBLISH_TIMEOUT, self.broker.publish(batch)).await;
        sending.end(matches!(result, Ok(Ok(()))));
        let failure = match result {
            Ok(Ok(())) => None,
            Ok(Err(error)) => Some(error.to_string()),
            Err(_) => Some("no confirm in time".to_owned()),
        };
        let was_away = self.broker_away.swap(failure.is_some(), Ordering::Relaxed);
        match failure {
            Some(reason) if !was_away => {
                tracing::warn!(%reason, "broker is away: new jobs start from the due index, seconds later");
            }
            None if was_away => tracing::info!("broker is back"),
            _ => {}
        }
        if self.broker_away.load(Ordering::Relaxed) {
            batch.clear();
            return;
        }
        crash::point("accept.hint_published");
        for hint in batch.drain(..) {
            // Full: the job stays in the due index and is found there started or done.
            let _full = confirmed.try_send((hint.tenant, hint.job));
        }
    }
}

/// Tells the store which hints were confirmed, many at a time.
async fn settle(mut confirmed: mpsc::Receiver<(TenantId, JobId)>, store: Arc<dyn JobStore>) {
    let mut batch = Vec::with_capacity(BATCH);
    while confirmed.recv_many(&mut batch, BATCH).await > 0 {
        tokio::time::sleep(GATHER).await;
        while batch.len() < QUEUE
            && let Ok(next) = confirmed.try_recv()
        {
            batch.push(next);
        }
        for jobs in batch.chunks(BATCH) {
            match tokio::time::timeout(PUBLISH_TIMEOUT, store.hinted(jobs)).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => tracing::debug!(%error, "confirmed hints stay in the due index"),
                Err(_) => tracing::debug!("confirmed hints stay in the due index: the store is slow"),
            }
        }
        batch.clear();
    }
}

/// One span for each hint that is on its way, in the trace of its job.
struct Sending(Vec<Span>);

impl Sending {
    fn begin(broker: &dyn Broker, hints: &[Hint]) -> Self {
        Self(hints.iter().map_while(|hint| sending(broker, hint, hints.len())).collect())
    }

    fn end(self, confirmed: bool) {
        for span in self.0.iter().filter(|_| !confirmed) {
            trace::failed(span, "not_confirmed");
        }
    }
}

/// `None` where nothing is exported.
fn sending(broker: &dyn Broker, hint: &Hint, together: usize) -> Option<Span> {
    let span = tracing::info_span!(
        target: trace::TARGET,
        "send",
        otel.name = tracing::field::Empty,
        otel.kind = "producer",
        messaging.operation.name = "send",
        "messaging.operation.type" = "send",
    );
    if span.is_disabled() {
        return None;
    }
    let Destination { system, name } = broker.destination(hint.lane);
    span.record("otel.name", format!("send {name}"));
    trace::adopt(&span, hint.traceparent.as_deref());
    trace::note(&span, "messaging.system", system);
    trace::note(&span, "messaging.destination.name", name);
    trace::note(&span, "messaging.batch.message_count", i64::try_from(together).unwrap_or(i64::MAX));
    trace::note(&span, "job.id", hint.job.to_string());
    Some(span)
}

/// Publishes one hint now, for callers outside the accept path; the due index covers a failure.
pub(crate) async fn publish_now(broker: &dyn Broker, store: &dyn JobStore, job: &Job) {
    let hint = hint_of(job);
    let hints = std::slice::from_ref(&hint);
    let sending = Sending::begin(broker, hints);
    let published = tokio::time::timeout(PUBLISH_TIMEOUT, broker.publish(hints)).await;
    let confirmed = matches!(published, Ok(Ok(())));
    sending.end(confirmed);
    if confirmed {
        let _due = tokio::time::timeout(PUBLISH_TIMEOUT, store.hinted(&[(hint.tenant, hint.job)])).await;
    }
}
