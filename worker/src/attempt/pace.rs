//! How long text gathers in a brownout: a write of several tokens costs the store what a write of one does.
//!
//! The writes of a process are spread evenly. So the store has as much to do at any time, and the last of them all
//! tells when a process died: what it had not written is booked by that.

use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use tokio::sync::watch;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use millhand_common::brownout::Step;
use millhand_common::model::{EventBody, Timestamp, degraded};

use super::Attempt;

/// From one write of text to the next, in milliseconds: ten times a second a reader still sees it grow.
const APART: u64 = 100;
/// The golden section of [`APART`]: its multiples, wrapped around, are spread evenly, however many there are.
const SECTION: u64 = 62;

/// Attempts of this process.
static ATTEMPTS: AtomicU32 = AtomicU32::new(0);

/// Whether the event may wait for others: nothing but a reader of the text waits for it.
pub(super) fn may_gather(event: &EventBody) -> bool {
    matches!(event, EventBody::OutputTextDelta { .. } | EventBody::CitationAdded(_))
}

/// Knows when text may be written next.
pub(super) struct Pace {
    /// When it is this attempt's turn, of each [`APART`].
    turn: u64,
    next: Option<Instant>,
}

impl Pace {
    pub(super) fn new() -> Self {
        let attempt = u64::from(ATTEMPTS.fetch_add(1, Ordering::Relaxed));
        Self { turn: attempt * SECTION % APART, next: None }
    }

    /// This is written now. The first text is never held back: somebody waits for it.
    pub(super) fn takes(&mut self, batch: &[EventBody]) {
        if batch.iter().any(may_gather) {
            self.next = Some(Instant::now() + until(self.turn, Timestamp::now()));
        }
    }

    /// Waits while there is text to write, it is not its turn and nobody waits for it to be durable:
    /// what is no text, and whoever flushes, does not wait. Cancel-safe.
    pub(super) async fn gather(
        &self,
        attempt: &Attempt,
        emitted: &mut watch::Receiver<u64>,
        enough: &CancellationToken,
    ) {
        let Some(next) = self.next.filter(|next| Instant::now() < *next) else { return };
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
                () = tokio::time::sleep_until(next) => return,
                changed = emitted.changed() => if changed.is_err() { return },
            }
        }
    }
}

/// From now to the next turn.
fn until(turn: u64, now: Timestamp) -> Duration {
    Duration::from_millis(APART - (now.as_millis() + APART - turn) % APART)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_come_ten_times_a_second_and_are_spread() {
        let wait = |turn, now| until(turn, Timestamp::from_millis(now)).as_millis();
        assert_eq!([wait(0, 1000), wait(0, 1001), wait(99, 1000), wait(10, 1010)], [100, 99, 99, 100]);
        for first in 0..100 {
            let mut turns: Vec<u64> = (first..first + 8).map(|attempt| attempt * SECTION % APART).collect();
            turns.sort_unstable();
            let apart = turns.windows(2).map(|pair| pair[1] - pair[0]);
            assert!(apart.clone().all(|apart| (8..25).contains(&apart)), "{turns:?}");
        }
    }
}
