//! `millhand scale`: runs as many workers on this machine as there is use for.
//!
//! Workers are its children, and it owns no others. Each has a pipe to it as its standard input: when that closes,
//! because the worker is one too many or because the supervisor is gone, however it went, the worker drains and
//! ends. So a supervisor that is started again finds nobody it would have to adopt.

mod backoff;
mod child;
mod fleet;

use std::time::{Duration, Instant};

use metrics::counter;
use millhand_common::model::Timestamp;
use millhand_common::ports::StoreError;
use millhand_common::scale::{Decision, Observed, Scaler, Settings};
use millhand_common::telemetry;
use tokio::time::sleep_until;
use tokio_util::sync::CancellationToken;

use super::observe::{Observer, show};
use crate::terminal::print;
pub(super) use child::Program;
use fleet::Fleet;

/// Between two looks at the store. Decisions do not depend on it.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// Without a worker somebody waits for the first one. A look is one read of the store.
const LOOK_EVERY_AT_ZERO: Duration = Duration::from_millis(100);

/// What decides, and what it is told.
pub(super) struct Supervisor {
    pub(super) observer: Observer,
    pub(super) settings: Settings,
    pub(super) program: Program,
}

impl Supervisor {
    /// Until `stop`; then all workers drain, and it returns when they are gone.
    pub(super) async fn run(self, stop: CancellationToken) {
        let Self { observer, settings, program } = self;
        for name in [telemetry::SCALE_STARTS, telemetry::SCALE_CRASHES] {
            counter!(name).increment(0);
        }
        let mut fleet = Fleet::new(program);
        let (began, start_up) = (Instant::now(), settings.start_up);
        let mut scaler = Scaler::new(settings);
        let (mut look_at, mut said, mut away) = (Instant::now(), None, false);
        loop {
            let wake = fleet.next_start().map_or(look_at, |at| at.min(look_at));
            // Cancel-safe: ended workers are handed out once or kept, the rest only waits.
            tokio::select! {
                () = stop.cancelled() => break,
                () = fleet.ended() => {}
                () = sleep_until(wake.into()) => {}
            }
            fleet.start_due();
            fleet.show();
            if Instant::now() < look_at {
                continue;
            }
            match look(&observer, &mut fleet, start_up).await {
                Ok(observed) => {
                    away = false;
                    let before = observed.workers;
                    let decision = scaler.decide(began.elapsed(), &observed);
                    show(&decision, &observed);
                    fleet.resize(decision.workers as usize);
                    tell(before, &decision, &observed, &mut said);
                }
                // The workers that there are go on; what they can do does not depend on this process.
                Err(err) if !away => {
                    away = true;
                    tracing::warn!(error = %err, "the store does not say what there is to do: workers stay as they are");
                }
                Err(_) => {}
            }
            fleet.show();
            look_at = Instant::now() + if fleet.is_empty() { LOOK_EVERY_AT_ZERO } else { LOOK_EVERY };
        }
        fleet.stop().await;
    }
}

async fn look(observer: &Observer, fleet: &mut Fleet, start_up: Duration) -> Result<Observed, StoreError> {
    fleet.saw(&observer.workers().await?);
    observer.observe(u32::try_from(fleet.len()).unwrap_or(u32::MAX), start_up).await
}

/// Says what was decided, and once why it stays so while something keeps it from what it wanted.
fn tell(before: u32, decision: &Decision, observed: &Observed, said: &mut Option<&'static str>) {
    let (after, why) = (decision.workers, decision.reason.as_str());
    let held = matches!(why, "quota" | "stalled" | "max").then_some(why);
    if before == after && (held.is_none() || held == *said) {
        *said = held;
        return;
    }
    *said = held;
    if before != after {
        counter!(telemetry::SCALE_DECISIONS, "reason" => why).increment(1);
    }
    let reason = decision.reason.to_string();
    tracing::info!(
        workers = before,
        wanted = after,
        ready = observed.ready,
        due_soon = observed.due_soon,
        running = observed.running,
        reason,
        "scaling"
    );
    // Whoever started us without a reader for this still wants the workers.
    let _unread = print(&format!("{}  {before} → {after} workers  {reason}\n", Timestamp::now()));
}
