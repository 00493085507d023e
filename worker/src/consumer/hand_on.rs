//! Hints that only this process can take do not wait for it: their jobs are made due, and whoever has room first
//! runs them.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use millhand_common::model::Lane;
use millhand_common::ports::{Delivery, StoreError};
use millhand_common::telemetry;
use tokio::time::timeout_at;
use tokio_util::sync::CancellationToken;

use super::take::{ack, challenge};
use super::{PAUSE, Shared};

const LOOK_EVERY: Duration = Duration::from_millis(250);
/// A slot that is free again within this takes the hints itself.
const PATIENCE: Duration = Duration::from_secs(1);
/// How long hints are read at a time. A consumer that was paused needs a moment to read again.
const READ: Duration = Duration::from_millis(300);
/// Hints moved at a time, however much room others have.
const AT_ONCE: usize = 64;

/// Until the worker has stopped: what the broker sent and no slot asks for.
pub(super) async fn hand_on_surplus(shared: Arc<Shared>, stopped: CancellationToken) {
    let handing_on = async {
        loop {
            let hints = shared.broker.surplus().await;
            while let Err(err) = make_due(&shared, &hints).await {
                tracing::warn!(error = %err, "hints that came unasked are kept until the store takes them");
                tokio::time::sleep(PAUSE).await;
            }
            settle(&shared, hints).await;
        }
    };
    // Dropped, it gives back the hints that are not moved.
    stopped.run_until_cancelled(handing_on).await;
}

/// Until the worker has stopped: hints of a broker that only this process can read, while it takes nothing and
/// others have room. A worker that drains takes nothing any more.
pub(super) async fn hand_on(
    shared: Arc<Shared>,
    slots: u32,
    shutdown: CancellationToken,
    stopped: CancellationToken,
) {
    let mut full_since = None;
    loop {
        // Cancel-safe: both branches only wait.
        tokio::select! {
            () = stopped.cancelled() => return,
            () = tokio::time::sleep(LOOK_EVERY) => {}
        }
        if !shutdown.is_cancelled() {
            let is_full = slots as usize <= shared.in_hand.load(Ordering::SeqCst);
            if !is_full && !shared.is_quiet() {
                full_since = None;
                continue;
            }
            if full_since.get_or_insert_with(Instant::now).elapsed() < PATIENCE {
                continue;
            }
        }
        // Dropped, it gives back the hints that are not moved.
        let moved = tokio::select! {
            () = stopped.cancelled() => return,
            moved = move_hints(&shared) => moved,
        };
        if let Err(err) = moved {
            tracing::warn!(error = %err, "hints are not handed on to other workers");
        }
    }
}

async fn move_hints(shared: &Shared) -> Result<(), StoreError> {
    let workers = shared.store.workers().await?;
    let others = workers.iter().filter(|worker| worker.id != shared.id && !worker.draining);
    let room: u32 = others.map(|other| other.slots.saturating_sub(other.running)).sum();
    let room = AT_ONCE.min(room as usize);
    if room == 0 {
        return Ok(());
    }
    for lane in Lane::ALL {
        let hints = read(shared, lane, room).await;
        if hints.is_empty() {
            continue;
        }
        make_due(shared, &hints).await?;
        settle(shared, hints).await;
    }
    Ok(())
}

async fn make_due(shared: &Shared, hints: &[Delivery]) -> Result<(), StoreError> {
    let jobs: Vec<_> = hints.iter().map(|hint| (hint.hint.tenant.clone(), hint.hint.job)).collect();
    shared.store.unhinted(&jobs).await?;
    metrics::counter!(telemetry::HINTS_HANDED_ON).increment(jobs.len() as u64);
    Ok(())
}

/// Once their jobs are due, or run.
async fn settle(shared: &Shared, hints: Vec<Delivery>) {
    for hint in hints {
        if hint.redelivered {
            challenge(shared, &hint.hint).await;
        }
        ack(hint).await;
    }
}

/// Up to `most` hints, the oldest first.
async fn read(shared: &Shared, lane: Lane, most: usize) -> Vec<Delivery> {
    let until = tokio::time::Instant::now() + READ;
    let mut hints = Vec::new();
    while hints.len() < most
        && let Ok(Ok(hint)) = timeout_at(until, shared.broker.receive(lane)).await
    {
        hints.push(hint);
    }
    hints
}
