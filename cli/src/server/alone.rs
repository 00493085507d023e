//! A shared store and an index of one's own: fine for one `millhand up`, wrong as soon as another
//! process takes jobs from the same store.

use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use millhand_common::ports::{JobStore, Lease, WorkerInfo};

/// A worker that was killed just now, perhaps this one's predecessor, is still told for as long.
const PATIENCE: Duration = Lease::PRESENCE_TTL.saturating_add(Duration::from_secs(1));
const ASK_EVERY: Duration = Duration::from_millis(200);

/// Refuses to start where a job could reach a worker that does not have its documents. Two processes
/// that start in the same second do not see each other.
pub(super) async fn check(store: &dyn JobStore, own_index: bool) -> anyhow::Result<()> {
    let started = Instant::now();
    loop {
        let workers = store.workers().await.context("[store]")?;
        let Some(reason) = refusal(own_index, &workers) else { return Ok(()) };
        if PATIENCE <= started.elapsed() {
            bail!("{reason}");
        }
        tokio::time::sleep(ASK_EVERY).await;
    }
}

fn refusal(own_index: bool, others: &[WorkerInfo]) -> Option<&'static str> {
    if own_index && !others.is_empty() {
        return Some(
            "other workers take jobs from the same store, but an embedded index belongs to one process, and they \
             would answer without its documents: set `index.kind = \"pgvector\"` and `index.url` for all of them, or \
             stop the others first",
        );
    }
    others.iter().any(|other| other.own_index).then_some(
        "a `millhand up` with an embedded index takes jobs from the same store, and would answer without the \
         documents given here: set `index.kind = \"pgvector\"` and `index.url` for all of them, or stop that one first",
    )
}

#[cfg(test)]
mod tests {
    use millhand_common::model::WorkerId;

    use super::*;

    #[test]
    fn an_index_of_one_process_beside_other_workers_is_refused_from_either_side() {
        let other = |own_index| WorkerInfo {
            id: WorkerId::new(),
            slots: 1,
            running: 0,
            draining: false,
            own_index,
            host: String::new(),
        };
        assert_eq!(refusal(true, &[]), None);
        assert_eq!(refusal(false, &[other(false), other(false)]), None);
        assert!(refusal(true, &[other(false)]).unwrap().contains("index.kind"));
        assert!(refusal(false, &[other(false), other(true)]).unwrap().contains("stop that one"));
    }
}
