//! What a free slot gets: the next reason to pull, and the job behind it.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use millhand_common::brownout::Step;
use millhand_common::crash;
use millhand_common::model::{Hint, Lane};
use millhand_common::ports::{AckAfter, Claim, Claimed, Delivery, Run};
use millhand_common::telemetry;

use super::place::run_claimed;
use super::turn::{self, Source};
use super::{Gates, PAUSE, Shared};
use crate::quota::{Quota, opened};

/// Why the puller woke up.
pub(super) enum Wake {
    /// There may be due work; which lane is asked first.
    Due(Lane),
    Hint(Delivery),
}

/// What a pull begins with.
pub(super) struct Next {
    pub(super) slot: OwnedSemaphorePermit,
    /// The quota that had room for it.
    pub(super) gate: Option<Arc<Quota>>,
    pub(super) claim: Option<OwnedSemaphorePermit>,
    pub(super) wake: Wake,
}

/// The next reason to pull, with the slot it will use. Cancel-safe.
pub(super) async fn next(
    shared: &Shared,
    slots: &Arc<Semaphore>,
    claims: &Arc<Semaphore>,
    gates: &Gates,
) -> Option<Next> {
    let slot = Arc::clone(slots).acquire_owned().await.ok()?;
    let under_load = shared.brownout.takes(Step::SmallerModel);
    let quotas = if under_load { &gates.under_load } else { &gates.usual };
    // Cancel-safe: both only wait.
    let gate = tokio::select! {
        at = opened(quotas) => at.map(|at| Arc::clone(&quotas[at])),
        // Looks again, at other quotas.
        () = shared.brownout.turned(Step::SmallerModel, under_load) => return None,
    };
    let mut paused = shared.paused.subscribe();
    let resting = paused.borrow_and_update().clone();
    let sources =
        turn::order(shared.pulls.load(Ordering::Relaxed)).into_iter().filter(|source| match source {
            Source::Due(_) => true,
            Source::Hint(lane) => !resting.contains(lane),
        });
    let sources = sources.map(|source| {
        Box::pin(async move {
            match source {
                Source::Due(first) => {
                    let claim = Arc::clone(claims).acquire_owned().await.ok();
                    shared.store.due().await;
                    Ok((claim, Wake::Due(first)))
                }
                Source::Hint(lane) => shared.broker.receive(lane).await.map(|hint| (None, Wake::Hint(hint))),
            }
        })
    });
    // The first in order that is ready. Cancel-safe by the contracts of `JobStore::due` and `Broker::receive`.
    let woken = tokio::select! {
        biased;
        (woken, _, others) = futures::future::select_all(sources) => {
            drop(others);
            woken
        }
        // Looks again, with other lanes.
        _ = paused.changed() => return None,
    };
    shared.pulls.fetch_add(1, Ordering::Relaxed);
    match woken {
        Ok((claim, wake)) => Some(Next { slot, gate, claim, wake }),
        Err(err) => {
            tracing::warn!(error = %err, "broker gives no hints");
            None
        }
    }
}

pub(super) async fn take_due(
    shared: &Shared,
    first: Lane,
    slot: OwnedSemaphorePermit,
    claim: Option<OwnedSemaphorePermit>,
) {
    let mut lanes = Lane::ALL;
    lanes.sort_by_key(|lane| *lane != first);
    for lane in lanes {
        let taken = Instant::now();
        match shared.store.claim_due(lane, Claim::new(shared.id)).await {
            Ok(Some(run)) => {
                drop(claim);
                count_claim("turn", &run);
                run_claimed(shared, run, taken).await;
                drop(slot);
                return;
            }
            Ok(None) => {}
            Err(err) => {
                tracing::warn!(error = %err, "cannot claim due work");
                tokio::time::sleep(PAUSE).await;
                return;
            }
        }
    }
}

pub(super) async fn take_hint(shared: &Shared, slot: OwnedSemaphorePermit, delivery: Delivery) {
    let hint = delivery.hint.clone();
    if delivery.redelivered {
        metrics::counter!(telemetry::REDELIVERIES).increment(1);
    }
    let taken = Instant::now();
    match shared.store.claim(&hint.tenant, hint.job, Claim::new(shared.id)).await {
        Ok(Claimed::Run(run)) => {
            count_claim("hint", &run);
            if shared.broker.ack_after() == AckAfter::Claim {
                ack(delivery).await;
                return run_claimed(shared, *run, taken).await;
            }
            run_claimed(shared, *run, taken).await;
        }
        Ok(Claimed::Busy) if delivery.redelivered => challenge(shared, &hint).await,
        Ok(Claimed::Busy | Claimed::Waiting | Claimed::Done) => {}
        Err(err) => {
            tracing::warn!(job.id = %hint.job, error = %err, "cannot claim, the hint goes back");
            tokio::time::sleep(PAUSE).await;
            return;
        }
    }
    ack(delivery).await;
    crash::point("close.hint_acked");
    drop(slot);
}

fn count_claim(by: &'static str, run: &Run) {
    metrics::counter!(telemetry::CLAIMS, "by" => by, "lane" => run.job.spec.lane.as_str()).increment(1);
}

/// The earlier owner of a redelivered job may be gone: it has 400 ms to say that it is not.
pub(super) async fn challenge(shared: &Shared, hint: &Hint) {
    if let Err(err) = shared.store.challenge(&hint.tenant, hint.job).await {
        tracing::warn!(error = %err, "cannot challenge the owner of a redelivered job");
    }
}

pub(super) async fn ack(delivery: Delivery) {
    if let Err(err) = delivery.ack().await {
        tracing::debug!(error = %err, "hint not acked: it will find the job taken");
    }
}
