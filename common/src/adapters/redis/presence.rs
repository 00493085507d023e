//! Which workers live, and how a dead one is noticed: by its connection at once, by its silence later.

use std::collections::HashSet;
use std::sync::{Mutex, PoisonError};

use crate::model::WorkerId;
use crate::ports::{Lease, StoreError, WorkerInfo};

use super::reply::{at, damaged, list, number, text};
use super::scripts;
use super::store::RedisStore;

/// What one look found.
struct Look {
    at: u64,
    infos: Vec<WorkerInfo>,
    /// Their last word is too old.
    absent: Vec<String>,
    /// Their last word is young, but their process has no connection.
    cut: HashSet<String>,
}

/// Workers to challenge.
pub(super) struct Gone {
    /// When they were looked for.
    pub(super) at: u64,
    pub(super) workers: Vec<String>,
    /// How many say that they live.
    pub(super) present: u64,
}

/// Workers that had a connection when this process last looked.
#[derive(Default)]
pub(super) struct Connected(Mutex<HashSet<WorkerId>>);

impl Connected {
    /// Those of `infos` that have lost their connection since the last look. Once for each loss: a live
    /// worker without one cannot hear a challenge, only lose by it.
    fn lost(&self, infos: &[WorkerInfo], cut: &HashSet<String>) -> Vec<String> {
        let (without, with): (HashSet<_>, HashSet<_>) =
            infos.iter().map(|info| info.id).partition(|id| cut.contains(&id.to_string()));
        let mut connected = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let before = std::mem::replace(&mut *connected, with);
        without.intersection(&before).map(ToString::to_string).collect()
    }
}

impl RedisStore {
    pub(super) fn workers_key(&self) -> String {
        format!("{}:{{workers}}", self.options.prefix)
    }

    /// The workers that say that they live.
    pub(super) async fn present_workers(&self) -> Result<Vec<WorkerInfo>, StoreError> {
        Ok(self.look().await?.infos)
    }

    /// The workers that may have died. One that lives answers the challenge: who loses a connection makes
    /// another at once, and then renews all its leases unasked.
    pub(super) async fn gone(&self) -> Result<Gone, StoreError> {
        let Look { at, infos, absent, cut } = self.look().await?;
        let lost = self.connected.lost(&infos, &cut);
        // While the store was away nobody could say that they live.
        let away = self.link.failed_within(Lease::PRESENCE_TTL);
        let workers = if away { Vec::new() } else { absent.into_iter().chain(lost).collect() };
        Ok(Gone { at, workers, present: infos.len() as u64 })
    }

    async fn look(&self) -> Result<Look, StoreError> {
        let answer = self.run_with(&scripts::WORKERS, vec![self.workers_key()], Vec::new()).await?.value;
        let parts = list(&answer)?;
        let ids = |place| -> Result<Vec<String>, StoreError> {
            list(at(parts, place)?)?.iter().map(|worker| Ok(text(worker)?.to_owned())).collect()
        };
        let mut infos = list(at(parts, 1)?)?
            .iter()
            .map(|info| serde_json::from_str(text(info)?).map_err(|err| damaged(format!("a worker: {err}"))))
            .collect::<Result<Vec<WorkerInfo>, StoreError>>()?;
        infos.sort_by_key(|info| info.id);
        let (absent, cut) = (ids(2)?, ids(3)?.into_iter().collect());
        Ok(Look { at: number(at(parts, 0)?)?, infos, absent, cut })
    }
}
