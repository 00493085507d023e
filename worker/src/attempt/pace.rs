//! How long text gathers in a brownout: a write of several tokens costs the store what a write of one does.

use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use millhand_common::brownout::Step;
use millhand_common::model::{EventBody, degraded};

use super::Attempt;

/// From one write of text to the next: four times a second a reader still sees it grow.
const APART: Duration = Duration::from_millis(250);

/// Whether the event may wait for others: nothing but a reader of the text waits for it.
pub(super) fn may_gather(event: &EventBody) -> bool {
    matches!(event, EventBody::OutputTextDelta { .. } | EventBody::CitationAdded(_))
}

/// Knows when text was written last.
#[derive(Default)]
pub(super) struct Pace {
    written: Option<Instant>,
}

impl Pace {
    /// This is written now. The first text is never held back: somebody waits for it.
    pub(super) fn takes(&mut self, batch: &[EventBody]) {
        if batch.iter().any(may_gather) {
            self.written = Some(Instant::now());
        }
    }

    /// Waits while there is text to write, the last of it was written not long ago and nobody waits for it to be durable:
    /// what is no text, and whoever flushes, does not wait. Cancel-safe.
    pub(super) async fn gather(
        &self,
        attempt: &Attempt,
        emitted: &mut watch::Receiver<u64>,
        enough: &CancellationToken,
    ) {
        let Some(until) = self.written.map(|at| at + APART).filter(|until| Instant::now() < *until) else {
            return;
        };
        let may_wait = || {
            let out = attempt.out();
            !out.pending.is_empty() && !out.urgent
        };
        if !may_wait() || !attempt.brownout.takes(Step::Coalesce) {
            return;
        }
        attempt.go_without(&[degraded::COALESCED_TOKENS.to_owned()]);
        while may_wait() {
            // Cancel-safe: all branches only wait.
            tokio::select! {
                () = enough.cancelled() => return,
                () = tokio::time::sleep_until(until) => return,
                changed = emitted.changed() => if changed.is_err() { return },
            }
        }
    }
}
