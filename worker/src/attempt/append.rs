//! The way from what an attempt emitted to the log.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use millhand_common::crash;
use millhand_common::model::EventBody;
use millhand_common::ports::{Appended, JobStore, StoreError};

use super::Attempt;
use super::pace::Pace;

/// How often an append whose outcome is unknown is tried again: it is idempotent.
const APPEND_RETRY: Duration = Duration::from_millis(200);

impl Attempt {
    /// Sends what is emitted to the store until the attempt is stopped or fenced. Run beside the
    /// pipeline; dropping it between appends loses nothing ([`Self::take_tail`] has the rest), so
    /// stop it with `enough`, never by dropping it in the middle.
    pub async fn append_to(&self, store: &dyn JobStore, enough: &CancellationToken) {
        let mut emitted = self.emitted.subscribe();
        let mut pace = Pace::new();
        // What is left then is the tail: it goes with the close, in one write.
        while !enough.is_cancelled() {
            pace.gather(self, &mut emitted, enough).await;
            if enough.is_cancelled() {
                return;
            }
            let (first_seq, count, batch) = {
                let mut out = self.out();
                let count = out.emitted;
                out.urgent = false;
                let batch = coalesce(std::mem::take(&mut out.pending));
                pace.takes(&batch);
                let first_seq = out.next_seq;
                out.next_seq += batch.len() as u64;
                (first_seq, count, batch)
            };
            if batch.is_empty() {
                // Cancel-safe: both branches only wait.
                tokio::select! {
                    biased;
                    () = enough.cancelled() => return,
                    changed = emitted.wait_for(|now| *now > count) => if changed.is_err() { return },
                }
                continue;
            }
            if !self.append(store, first_seq, batch).await {
                self.stop();
                return;
            }
            crash::point("tokens.appended");
            self.durable.send_modify(|durable| durable.count = count);
        }
    }

    /// True when the batch is durable, false when the lease is lost.
    async fn append(&self, store: &dyn JobStore, first_seq: u64, batch: Vec<EventBody>) -> bool {
        let mut unsent = batch;
        let mut first = first_seq;
        loop {
            match store.append(&self.lease, first, unsent.clone()).await {
                Ok(Appended::Ok | Appended::Duplicate) => return true,
                Ok(Appended::Behind(last)) if last + 1 > first && last + 1 < first + unsent.len() as u64 => {
                    let skip = usize::try_from(last + 1 - first).unwrap_or(usize::MAX);
                    unsent.drain(..skip.min(unsent.len()));
                    first = last + 1;
                }
                Ok(Appended::Behind(_) | Appended::Fenced) => return false,
                Err(StoreError::Full | StoreError::Unreachable(_)) if self.time_left() > Duration::ZERO => {
                    tokio::time::sleep(APPEND_RETRY).await;
                }
                Err(_) => return false,
            }
            if self.durable.borrow().stopped {
                return false;
            }
        }
    }

    /// What was emitted and not sent, with the `seq` of its first event: the tail of the close.
    #[must_use]
    pub fn take_tail(&self) -> (u64, Vec<EventBody>) {
        let mut out = self.out();
        let tail = coalesce(std::mem::take(&mut out.pending));
        let first_seq = out.next_seq;
        out.next_seq += tail.len() as u64;
        (first_seq, tail)
    }
}

/// Neighbouring deltas become one.
fn coalesce(events: Vec<EventBody>) -> Vec<EventBody> {
    let mut merged: Vec<EventBody> = Vec::with_capacity(events.len());
    for event in events {
        if let (Some(EventBody::OutputTextDelta { text: last }), EventBody::OutputTextDelta { text }) =
            (merged.last_mut(), &event)
        {
            last.push_str(text);
        } else {
            merged.push(event);
        }
    }
    merged
}
