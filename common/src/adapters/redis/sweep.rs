//! What time brings, and what operators ask: one look over all shards.

use redis::Value;

use crate::model::Lane;
use crate::ports::{LaneDepth, Lease, StoreError, SweepReport, WorkerInfo};

use super::due::SHARDS;
use super::jobs::parse_name;
use super::reply::{at, damaged, list, number, text};
use super::scripts;
use super::store::{RedisStore, count_ended};

/// Who said that they live.
pub(super) struct Alive {
    /// When this was read.
    now: u64,
    pub(super) infos: Vec<WorkerInfo>,
    absent: Vec<String>,
}

impl RedisStore {
    pub(super) fn workers_key(&self) -> String {
        format!("{}:{{workers}}", self.options.prefix)
    }

    pub(super) async fn alive(&self) -> Result<Alive, StoreError> {
        let answer = self.run_with(&scripts::WORKERS, vec![self.workers_key()], Vec::new()).await?.value;
        let parts = list(&answer)?;
        let mut infos = list(at(parts, 1)?)?
            .iter()
            .map(|info| serde_json::from_str(text(info)?).map_err(|err| damaged(format!("a worker: {err}"))))
            .collect::<Result<Vec<WorkerInfo>, StoreError>>()?;
        infos.sort_by_key(|info| info.id);
        let absent = list(at(parts, 2)?)?
            .iter()
            .map(|worker| Ok(text(worker)?.to_owned()))
            .collect::<Result<_, StoreError>>()?;
        Ok(Alive { now: number(at(parts, 0)?)?, infos, absent })
    }

    pub(super) async fn sweep_all(&self) -> Result<SweepReport, StoreError> {
        let alive = self.alive().await?;
        // While the store was away nobody could say that they live.
        let absent =
            if self.link.failed_within(Lease::PRESENCE_TTL) { Vec::new() } else { alive.absent.clone() };
        let mut args = vec![
            self.options.keep_jobs.as_millis().to_string(),
            self.options.keep_events.as_millis().to_string(),
        ];
        let mut report = SweepReport::default();
        // A worker that is gone may have owned jobs anywhere.
        let (shards, mut failure) = match &absent[..] {
            [] => self.overdue(&args).await,
            _ => ((0..SHARDS).collect(), None),
        };
        args.extend(absent.iter().cloned());
        let swept = self.run_in(&scripts::SWEEP, &shards, &args).await;
        for (shard, answer) in shards.into_iter().zip(swept) {
            // A master that is away does not hold up the deadlines of the others.
            let swept = match answer {
                Ok(answer) => self.swept(shard, &answer, &mut report).await,
                Err(err) => Err(err),
            };
            failure = failure.or(swept.err());
        }
        if let Some(err) = failure {
            return Err(err);
        }
        if !absent.is_empty() {
            let args = std::iter::once(alive.now.to_string()).chain(absent).collect();
            self.run_with(&scripts::FORGET, vec![self.workers_key()], args).await?;
        }
        Ok(report)
    }

    /// The shards that are worth a sweep, and why that is not known of others. Every process asks several
    /// times a second, so it is one call on a single server, and writes nothing.
    async fn overdue(&self, args: &[String]) -> (Vec<u32>, Option<StoreError>) {
        let (all, mut overdue, mut failure): (Vec<u32>, _, _) = ((0..SHARDS).collect(), Vec::new(), None);
        for (asked, answer) in self.run_over(&scripts::OVERDUE, &all, args).await {
            let places =
                answer.and_then(|answer| list(&answer)?.iter().map(number).collect::<Result<Vec<_>, _>>());
            match places {
                // Lua counts from one.
                Ok(places) => overdue.extend(
                    places
                        .iter()
                        .filter_map(|place| asked.get(usize::try_from(*place).ok()?.checked_sub(1)?)),
                ),
                Err(err) => failure = failure.or(Some(err)),
            }
        }
        (overdue, failure)
    }

    /// Takes in what the sweep of one shard did, and closes what is past its deadline there.
    async fn swept(&self, shard: u32, answer: &Value, report: &mut SweepReport) -> Result<(), StoreError> {
        let parts = list(answer)?;
        let count = |place| at(parts, place).and_then(number);
        let moved = count(0)? + count(1)? + count(2)?;
        report.cancelled += count(0)?;
        report.challenged += count(1)?;
        report.taken_over += count(2)?;
        report.logs_removed += count(3)?;
        report.jobs_removed += count(4)?;
        count_ended(at(parts, 6)?)?;
        if moved > 0 {
            self.heads.mark(shard);
        }
        for late in list(at(parts, 5)?)? {
            let (tenant, job) = parse_name(text(late)?)?;
            report.expired += u64::from(self.expire(&tenant, job).await?);
        }
        Ok(())
    }

    pub(super) async fn depth_of_all(&self) -> Result<Vec<LaneDepth>, StoreError> {
        let none = |lane| LaneDepth { lane, ready: 0, waiting: 0, running: 0, oldest_ready_ms: 0 };
        let mut depths = Lane::ALL.map(none).to_vec();
        let shards: Vec<u32> = (0..SHARDS).collect();
        for (_, answer) in self.run_over(&scripts::DEPTH, &shards, &[]).await {
            for (depth, counts) in depths.iter_mut().zip(list(&answer?)?) {
                let counts = list(counts)?;
                depth.ready += number(at(counts, 0)?)?;
                depth.waiting += number(at(counts, 1)?)?;
                depth.running += number(at(counts, 2)?)?;
                depth.oldest_ready_ms = depth.oldest_ready_ms.max(number(at(counts, 3)?)?);
            }
        }
        Ok(depths)
    }
}
