//! An open stream: a follower that is counted, and that checks what it hands out.

use std::sync::Arc;

use futures::FutureExt;
use millhand_common::follow::{FollowError, Follower};
use millhand_common::model::Event;
use millhand_common::telemetry;

use crate::state::StreamSlot;

/// Bytes of events that are written at a time.
const BATCH_BYTES: usize = 8 * 1024;

pub(crate) struct Feed {
    follower: Follower,
    seen: u64,
    _slot: StreamSlot,
}

impl Feed {
    /// The stream of a follower of the events after `after`.
    pub(crate) fn new(follower: Follower, after: u64, slot: StreamSlot) -> Self {
        if 0 < after {
            metrics::counter!(telemetry::STREAM_RESUMES).increment(1);
        }
        Self { follower, seen: after, _slot: slot }
    }

    /// The next event; `None` after the terminal one, or when the rest of the log cannot be had: the
    /// reader comes back with its cursor and is told why. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Option<Arc<Event>> {
        match self.follower.next().await {
            Ok(Some(event)) => self.check(event),
            Ok(None) => None,
            Err(error) => {
                if let FollowError::Store(error) = &error {
                    tracing::warn!(%error, "stream ended early");
                }
                None
            }
        }
    }

    /// Hands out what is there already, without waiting, through `write`, which answers how many
    /// bytes it has by then. False when the stream is at its end.
    pub(crate) fn drain_ready(&mut self, mut write: impl FnMut(&Event) -> usize) -> bool {
        // Cancel-safe: `next` keeps an event that it does not hand out.
        while let Some(next) = self.next().now_or_never() {
            let Some(event) = next else { return false };
            if BATCH_BYTES <= write(&event) {
                break;
            }
        }
        true
    }

    fn check(&mut self, event: Arc<Event>) -> Option<Arc<Event>> {
        if event.seq != self.seen + 1 {
            metrics::counter!(telemetry::STREAM_GAPS).increment(1);
            tracing::error!(job.id = %event.job_id, event.seq, stream.seen = self.seen, "a stream has a gap");
            return None;
        }
        self.seen = event.seq;
        Some(event)
    }
}
