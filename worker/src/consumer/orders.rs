//! What a worker does beside its jobs: it says that it lives, and passes on what the store asks.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use millhand_common::ports::{WorkerInfo, WorkerOrders, WorkerSignal};
use tokio_util::sync::CancellationToken;

use super::{Shared, WorkerConfig};

/// Between two words that this worker lives.
const PRESENT_EVERY: Duration = Duration::from_secs(1);

/// Says that this worker lives, until it has stopped.
pub(super) async fn say_present(
    shared: Arc<Shared>,
    config: WorkerConfig,
    shutdown: CancellationToken,
    stopped: CancellationToken,
) {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    loop {
        let info = WorkerInfo {
            id: shared.id,
            slots: config.slots,
            running: shared.running_count.load(Ordering::Relaxed),
            draining: shutdown.is_cancelled(),
            own_index: config.own_index,
            host: host.clone(),
        };
        match shared.store.present(&info).await {
            Ok(WorkerOrders { drain, paused }) => {
                if drain && !shutdown.is_cancelled() {
                    tracing::info!("an operator asks this worker to drain");
                    shutdown.cancel();
                }
                shared.paused.send_if_modified(|before| std::mem::replace(before, paused) != *before);
            }
            Err(err) => tracing::warn!(error = %err, "cannot say that this worker lives"),
        }
        // Cancel-safe: both branches only wait.
        tokio::select! {
            () = stopped.cancelled() => return,
            () = tokio::time::sleep(PRESENT_EVERY) => {}
        }
    }
}

/// Passes on what the store asks of running jobs, until the worker has stopped.
pub(super) async fn obey(shared: Arc<Shared>, stopped: CancellationToken) {
    loop {
        // Cancel-safe by the contract of `JobStore::signal`.
        let signal = tokio::select! {
            () = stopped.cancelled() => return,
            signal = shared.store.signal(shared.id) => signal,
        };
        let (WorkerSignal::Challenge(lease) | WorkerSignal::Cancel(lease)) = &signal;
        let Some(orders) = shared.orders_for(lease) else { continue };
        match signal {
            WorkerSignal::Challenge(_) => orders.renew.notify_one(),
            WorkerSignal::Cancel(_) => orders.cancel.cancel(),
        }
    }
}
