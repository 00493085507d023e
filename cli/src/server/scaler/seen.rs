//! Looks at the work again and again, and decides.

use std::time::{Duration, Instant};

use millhand_common::ports::StoreError;
use millhand_common::scale::{Decision, Observed, Scaler, Settings};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use super::super::observe::{Observer, show};
use super::super::stop::Task;

/// Between two looks: a job that finds no worker is noticed within this time.
pub(super) const EVERY: Duration = Duration::from_millis(500);
/// Longest wait for the store.
const PATIENCE: Duration = Duration::from_secs(2);
/// What was seen longer ago is no answer any more.
///
/// Source: KEDA asks every 5 s as we configure it; one look that failed is no outage.
const KEPT_FOR: Duration = Duration::from_secs(10);

/// The last decision and when it was made; absent before the first.
pub(super) type Seen = Option<(Instant, Decision)>;

/// The decision, if it is not too old.
pub(super) fn fresh(seen: &Seen) -> Option<&Decision> {
    seen.as_ref().filter(|(at, _)| at.elapsed() < KEPT_FOR).map(|(_, decision)| decision)
}

/// Decides until `shutdown`; a store that is away leaves the last decision, which grows old.
pub(super) async fn watch(
    observer: Observer,
    settings: Settings,
    see: watch::Sender<Seen>,
    shutdown: CancellationToken,
) -> Task {
    let (mut scaler, started) = (Scaler::new(settings), Instant::now());
    let mut is_away = false;
    loop {
        let look = tokio::time::timeout(PATIENCE, look(&observer, scaler.settings().start_up));
        // Cancel-safe: a look reads only.
        let looked = tokio::select! {
            () = shutdown.cancelled() => return Task::Rest("watching"),
            looked = look => looked,
        };
        match looked {
            Ok(Ok(observed)) => {
                let decision = scaler.decide(started.elapsed(), &observed);
                show(&decision, &observed);
                tell(&see.borrow(), &decision, is_away);
                is_away = false;
                see.send_replace(Some((Instant::now(), decision)));
            }
            _ if is_away => {}
            failed => {
                is_away = true;
                let error = failed.map_or_else(
                    |late| late.to_string(),
                    |answer| match answer {
                        Ok(_) => String::new(),
                        Err(err) => err.to_string(),
                    },
                );
                tracing::warn!(error, "cannot look at the work: KEDA is told so when this goes on");
            }
        }
        // Cancel-safe: both branches only wait.
        tokio::select! {
            () = shutdown.cancelled() => return Task::Rest("watching"),
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn look(observer: &Observer, soon: Duration) -> Result<Observed, StoreError> {
    // Those that are about to be up are not seen; their jobs still wait, so they are counted for.
    let takes_jobs = observer.workers().await?.iter().filter(|worker| !worker.draining).count();
    observer.observe(u32::try_from(takes_jobs).unwrap_or(u32::MAX), soon).await
}

fn tell(before: &Seen, now: &Decision, was_away: bool) {
    let changed = before.as_ref().is_none_or(|(_, before)| before.workers != now.workers);
    if changed || was_away {
        tracing::info!(workers = now.workers, reason = %now.reason, "decided");
    }
}
