//! Gives up leads whose futures were dropped, beside the work.

use std::sync::Arc;

use millhand_common::ports::{AnswerCache, AnswerKey};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use uuid::Uuid;

/// What waits to be told; a lead that does not fit ends with its lease.
const WAITING: usize = 1024;

/// Owns the task that tells; it ends with this.
pub(super) struct GivingUp {
    leads: mpsc::Sender<(AnswerKey, Uuid)>,
    _running: JoinSet<()>,
}

impl GivingUp {
    pub(super) fn start(answers: Arc<dyn AnswerCache>) -> Self {
        let (leads, mut waiting) = mpsc::channel::<(AnswerKey, Uuid)>(WAITING);
        let mut running = JoinSet::new();
        running.spawn(async move {
            while let Some((key, flight)) = waiting.recv().await {
                if let Err(err) = answers.abandon(&key, flight).await {
                    tracing::debug!(error = %err, "a lead could not be given up: it ends with its lease");
                }
            }
        });
        Self { leads, _running: running }
    }

    /// Never waits: it is called when futures are dropped.
    pub(super) fn tell(&self, key: AnswerKey, flight: Uuid) {
        if self.leads.try_send((key, flight)).is_err() {
            tracing::debug!("too many leads to give up: this one ends with its lease");
        }
    }
}
