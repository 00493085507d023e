//! Pulls only what can start: so waiting happens in the queue, where it is visible, fair and shared.

use std::future::Future;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use millhand_common::ports::RateLimiter;
use tokio::sync::Notify;

use super::Quota;

/// An offer is good for this long; what is pulled meanwhile counts against it.
const FRESH: Duration = Duration::from_millis(50);
/// So many pulls are asked for at a time.
const AT_ONCE: u32 = 16;
/// The limiter is not asked more often.
const ASK_AT_MOST_EVERY: Duration = Duration::from_millis(5);
/// A pulled job that has not asked for quota by then needs none for now: it reads documents.
const UNDECIDED: Duration = Duration::from_secs(1);
const AWAY_PAUSE: Duration = Duration::from_millis(200);

/// Whether to pull.
#[derive(Default)]
pub(super) struct Gate {
    seen: Mutex<Seen>,
    /// Something changed here: a call ended, or a job has asked.
    changed: Notify,
    /// Jobs that were pulled and have not asked yet, since when.
    undecided: Mutex<Vec<(Arc<AtomicBool>, Instant)>>,
}

#[derive(Default)]
struct Seen {
    asked: Option<Instant>,
    /// Pulls that are left of the offer.
    room: u32,
    /// While there is no room: when to ask again.
    look_again: Option<Instant>,
}

tokio::task_local! {
    /// The pull that this task runs the job of.
    static PULL: Pull;
}

/// A job that was pulled; counts until it is decided or over.
struct Pull {
    decided: Arc<AtomicBool>,
    gate: Arc<Gate>,
}

impl Drop for Pull {
    fn drop(&mut self) {
        self.decided.store(true, Ordering::Relaxed);
        self.gate.wake();
    }
}

/// Returns when it is worth to pull a job: one of the pools would admit a call soon. The answer is its
/// place in `quotas`, for [`pulled`]; `None` when there is nothing to wait for. Cancel-safe.
pub(crate) async fn opened(quotas: &[Arc<Quota>]) -> Option<usize> {
    if quotas.is_empty() {
        return None;
    }
    // The first that is ready may take turns with the others: each counts its own room.
    let gates = quotas.iter().map(|quota| Box::pin(quota.gate.opened(&*quota.limiter)));
    let ((), at, _) = futures::future::select_all(gates).await;
    Some(at)
}

/// Runs what was pulled, counted with the pool that had room for it. Its job may ask another one.
pub(crate) async fn pulled(quota: Option<Arc<Quota>>, work: impl Future<Output = ()>) {
    match quota {
        Some(quota) => PULL.scope(quota.gate.pulled(), work).await,
        None => work.await,
    }
}

/// The job of this task needs no quota for now: others may be pulled instead.
pub(crate) fn needs_none() {
    // A job that was not pulled through here does not count.
    let _ = PULL.try_with(|pull| {
        pull.decided.store(true, Ordering::Relaxed);
        pull.gate.wake();
    });
}

impl Gate {
    fn pulled(self: &Arc<Self>) -> Pull {
        let decided = Arc::new(AtomicBool::new(false));
        lock(&self.undecided).push((Arc::clone(&decided), Instant::now()));
        Pull { decided, gate: Arc::clone(self) }
    }

    /// The job of this task has asked for quota.
    pub(super) fn decided(&self) {
        // A job that was not pulled through here does not count.
        let pulled_here = PULL.try_with(|pull| {
            pull.decided.store(true, Ordering::Relaxed);
            // It may have been pulled for the sake of another pool.
            pull.gate.wake();
            std::ptr::eq(&*pull.gate, self)
        });
        if !pulled_here.unwrap_or(false) {
            self.wake();
        }
    }

    /// That there was no room may be out of date.
    pub(super) fn wake(&self) {
        lock(&self.seen).look_again = None;
        self.changed.notify_one();
    }

    fn undecided(&self) -> u32 {
        let mut undecided = lock(&self.undecided);
        undecided.retain(|(decided, since)| !decided.load(Ordering::Relaxed) && since.elapsed() < UNDECIDED);
        u32::try_from(undecided.len()).unwrap_or(u32::MAX)
    }

    /// Returns when there is room for one more job. Cancel-safe: what it waited for is remembered.
    pub(super) async fn opened(&self, limiter: &dyn RateLimiter) {
        loop {
            let pause = {
                let mut seen = lock(&self.seen);
                let age = seen.asked.map(|asked| asked.elapsed());
                if seen.room > 0 && age.is_some_and(|age| age < FRESH) {
                    seen.room -= 1;
                    return;
                }
                let until_due = seen.look_again.map(|at| at.saturating_duration_since(Instant::now()));
                let until_may = age.map(|age| ASK_AT_MOST_EVERY.saturating_sub(age));
                until_due.max(until_may).unwrap_or_default()
            };
            if !pause.is_zero() {
                // Woken early it asks again, though not at once.
                let _ = tokio::time::timeout(pause, self.changed.notified()).await;
                if lock(&self.seen).look_again.is_some_and(|at| Instant::now() < at) {
                    continue;
                }
            }
            self.ask(limiter).await;
        }
    }

    async fn ask(&self, limiter: &dyn RateLimiter) {
        let asked = Instant::now();
        let offer = limiter.offer(AT_ONCE).await;
        let undecided = self.undecided();
        let mut seen = lock(&self.seen);
        seen.asked = Some(asked);
        (seen.room, seen.look_again) = match offer {
            Ok(offer) if offer.calls > undecided => (offer.calls - undecided, None),
            // Those that were pulled decide first, or take their time.
            Ok(offer) => (0, Some(asked + offer.opens_in.max(FRESH))),
            Err(err) => {
                tracing::debug!(error = %err, "limiter is away: nothing is pulled");
                (0, Some(asked + AWAY_PAUSE))
            }
        };
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
