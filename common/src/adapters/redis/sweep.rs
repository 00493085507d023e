//! What time brings, and what operators ask: one look over all shards.

use std::time::Duration;

use redis::Value;

use crate::model::Lane;
use crate::ports::{LaneDepth, StoreError, SweepReport, Totals};

use super::claims::parse_name;
use super::crowd::Lines;
use super::due::SHARDS;
use super::reply::{at, list, number, text};
use super::scripts;
use super::store::{RedisStore, count_ended};

impl RedisStore {
    pub(super) async fn sweep_all(&self) -> Result<SweepReport, StoreError> {
        let gone = self.gone().await?;
        let mut args = vec![
            self.options.keep_jobs.as_millis().to_string(),
            self.options.keep_events.as_millis().to_string(),
        ];
        let mut report = SweepReport { workers: gone.present, ..SweepReport::default() };
        // A worker that is gone may have owned jobs anywhere.
        let (shards, mut failure) = match &gone.workers[..] {
            [] => self.overdue(&args).await,
            _ => ((0..SHARDS).collect(), None),
        };
        args.extend(gone.workers.iter().cloned());
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
        if !gone.workers.is_empty() {
            let args = std::iter::once(gone.at.to_string()).chain(gone.workers).collect();
            self.run_with(&scripts::FORGET, vec![self.workers_key()], args).await?;
        }
        Ok(report)
    }

    /// The shards that are worth a sweep, and why that is not known of others. Every process asks some
    /// times a second, so it is one call on a single server, and writes nothing. It tells the longest lines too.
    async fn overdue(&self, args: &[String]) -> (Vec<u32>, Option<StoreError>) {
        let (all, mut overdue, mut failure): (Vec<u32>, _, _) = ((0..SHARDS).collect(), Vec::new(), None);
        let mut lines = Lines::default();
        for (asked, answer) in self.run_over(&scripts::OVERDUE, &all, args).await {
            let places = answer.and_then(|answer| {
                let parts = list(&answer)?;
                lines.add(at(parts, 1)?)?;
                list(at(parts, 0)?)?.iter().map(number).collect::<Result<Vec<_>, _>>()
            });
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
        self.crowd.see(lines);
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

    pub(super) async fn depth_of_all(&self, soon: Duration) -> Result<Vec<LaneDepth>, StoreError> {
        let mut depths = Lane::ALL.map(LaneDepth::empty).to_vec();
        let shards: Vec<u32> = (0..SHARDS).collect();
        for (_, answer) in self.run_over(&scripts::DEPTH, &shards, &[soon.as_millis().to_string()]).await {
            for (depth, counts) in depths.iter_mut().zip(list(&answer?)?) {
                let counts = list(counts)?;
                let count = |place| at(counts, place).and_then(number);
                depth.ready += count(0)?;
                depth.waiting += count(1)?;
                depth.due_soon += count(2)?;
                depth.running += count(3)?;
                depth.oldest_ready_ms = depth.oldest_ready_ms.max(count(4)?);
                depth.paused |= count(5)? == 1;
                depth.totals += Totals {
                    arrived: count(6)?,
                    ended: count(7)?,
                    busy: Duration::from_millis(count(8)?),
                    calls: count(9)?,
                    failed: count(10)?,
                    expired: count(11)?,
                };
            }
        }
        Ok(depths)
    }
}
