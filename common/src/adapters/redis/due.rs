//! What this process knows of the due index: in which shards a claim may find something, and when.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::sync::Notify;

use crate::model::{Lane, Timestamp};
use crate::ports::StoreError;
use crate::telemetry;

use super::options::StoreClock;
use super::reply::{at, number, text};

pub(super) const SHARDS: u32 = 64;
/// A shard is looked at this often whatever was heard of it: news may be lost.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// When a claim may find something in a shard; a past moment when it would now.
#[derive(Clone, Copy)]
struct Shard {
    /// Something may have changed since it was read.
    stale: bool,
    next: Option<u64>,
}

struct Known {
    shards: Vec<Shard>,
    /// The store's time when it was last heard, and when that was.
    clock: Option<(u64, Instant)>,
    looked_at: Instant,
}

pub(super) struct Heads {
    known: Mutex<Known>,
    changed: Notify,
    clock: StoreClock,
}

/// Whose turn it is in one shard: the order of all shards is the order of these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Head {
    turn: u64,
    version: u64,
    pub(super) shard: u32,
}

impl Heads {
    pub(super) fn new(clock: StoreClock) -> Self {
        let shards = vec![Shard { stale: true, next: None }; SHARDS as usize];
        let known = Known { shards, clock: None, looked_at: Instant::now() };
        Self { known: Mutex::new(known), changed: Notify::new(), clock }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Something may have become due there.
    pub(super) fn mark(&self, shard: u32) {
        if let Some(shard) = self.known().shards.get_mut(shard as usize) {
            shard.stale = true;
        }
        self.changed.notify_waiters();
    }

    pub(super) fn mark_all(&self) {
        for shard in &mut self.known().shards {
            shard.stale = true;
        }
        self.changed.notify_waiters();
    }

    fn now(&self, known: &Known) -> u64 {
        match (self.clock.manual_now(), known.clock) {
            (Some(now), _) => now.as_millis(),
            (None, Some((heard, at))) => heard + u64::try_from(at.elapsed().as_millis()).unwrap_or(0),
            (None, None) => Timestamp::now().as_millis(),
        }
    }

    /// Shards that are worth reading now.
    pub(super) fn promising(&self) -> Vec<u32> {
        let known = self.known();
        let now = self.now(&known);
        (0..SHARDS)
            .zip(&known.shards)
            .filter(|(_, shard)| shard.stale || shard.next.is_some_and(|next| next <= now))
            .map(|(number, _)| number)
            .collect()
    }

    /// They are about to be read: what changes from now on is news.
    pub(super) fn reading(&self, shards: &[u32]) {
        let mut known = self.known();
        for number in shards {
            known.shards[*number as usize].stale = false;
        }
    }

    /// Takes in what `heads.lua` answered for these shards; answers who is next in `lane`, best first.
    pub(super) fn read(
        &self,
        shards: &[u32],
        answer: &[redis::Value],
        lane: Lane,
    ) -> Result<Vec<Head>, StoreError> {
        let mut heads = Vec::new();
        let mut known = self.known();
        known.clock = Some((number(at(answer, shards.len() * 6)?)?, Instant::now()));
        metrics::counter!(telemetry::SWEEPER_DUE).increment(number(at(answer, shards.len() * 6 + 1)?)?);
        for (place, number_of_shard) in shards.iter().enumerate() {
            let mut next = None;
            for (of, its_lane) in Lane::ALL.into_iter().enumerate() {
                let from = place * 6 + of * 3;
                if !text(at(answer, from)?)?.is_empty() {
                    next = Some(0);
                    if its_lane == lane {
                        heads.push(Head {
                            turn: number(at(answer, from)?)?,
                            version: number(at(answer, from + 1)?)?,
                            shard: *number_of_shard,
                        });
                    }
                }
                if !text(at(answer, from + 2)?)?.is_empty() {
                    let timer = number(at(answer, from + 2)?)?;
                    next = Some(next.map_or(timer, |next: u64| next.min(timer)));
                }
            }
            known.shards[*number_of_shard as usize].next = next;
        }
        heads.sort_unstable();
        Ok(heads)
    }

    /// Returns when a shard is worth reading. Cancel-safe.
    pub(super) async fn due(&self) {
        loop {
            let changed = self.changed.notified();
            tokio::pin!(changed);
            // From here on news is not missed.
            changed.as_mut().enable();
            let wait = {
                let mut known = self.known();
                let now = self.now(&known);
                if known.looked_at.elapsed() >= LOOK_EVERY {
                    known.looked_at = Instant::now();
                    known.shards.iter_mut().for_each(|shard| shard.stale = true);
                }
                if known.shards.iter().any(|shard| shard.stale) {
                    return;
                }
                let next = known.shards.iter().filter_map(|shard| shard.next).min();
                let left = next.map_or(LOOK_EVERY, |next| Duration::from_millis(next.saturating_sub(now)));
                if left.is_zero() {
                    return;
                }
                left.min(LOOK_EVERY)
            };
            // Cancel-safe: both only wait.
            tokio::select! {
                () = tokio::time::sleep(wait) => {}
                () = changed => {}
            }
        }
    }
}
