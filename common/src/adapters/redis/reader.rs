//! [`JobReader`] in Redis.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_trait::async_trait;
use redis::cmd;

use crate::model::{DocumentId, Job, JobId, TenantId, Timestamp};
use crate::ports::{
    JobFilter, JobReader, LogPage, Lookup, Page, StoreError, Subscription, UsageBy, UsageRow,
};

use super::due::SHARDS;
use super::jobs::{conversation, jobs};
use super::reply::{self, at, is_nothing, list, name, number, text};
use super::scripts;
use super::store::{RedisStore, shard_of};

#[async_trait]
impl JobReader for RedisStore {
    async fn get(&self, tenant: &TenantId, job: JobId) -> Result<Lookup<Box<Job>>, StoreError> {
        let answer = self.run(&scripts::GET, shard_of(tenant), [name(tenant, job.uuid())]).await?.value;
        match at(list(&answer)?, 0) {
            Ok(record @ redis::Value::Array(_)) => Ok(Lookup::Found(Box::new(reply::job(record)?))),
            Ok(nothing) if is_nothing(nothing) => Ok(Lookup::Unknown),
            // A list that ends before its first element: Lua's nil.
            Err(_) => Ok(Lookup::Unknown),
            Ok(_) => Ok(Lookup::Gone),
        }
    }

    async fn list(&self, tenant: &TenantId, filter: &JobFilter) -> Result<Page<Job>, StoreError> {
        let index = match (filter.conversation, filter.status) {
            (Some(id), _) => format!(":turns:{}", name(tenant, id.uuid())),
            (None, Some(status)) if status.is_terminal() => format!(":ended:{}:{tenant}", status.as_str()),
            (None, Some(_)) => format!(":live:{tenant}"),
            (None, None) => format!(":jobs:{tenant}"),
        };
        let args = [
            tenant.to_string(),
            index,
            filter.before.map_or(String::new(), |job| job.uuid().simple().to_string()),
            (filter.limit + 1).to_string(),
            filter.status.map_or(String::new(), |status| status.as_str().to_owned()),
            conversation(filter.conversation),
        ];
        let found = jobs(&self.run(&scripts::LIST, shard_of(tenant), args).await?.value)?;
        Ok(Page::of(found, filter.limit, |last| last.spec.id.to_string()))
    }

    async fn log(
        &self,
        tenant: &TenantId,
        job: JobId,
        after: u64,
        limit: usize,
    ) -> Result<Lookup<LogPage>, StoreError> {
        let args = [name(tenant, job.uuid()), after.to_string(), limit.to_string()];
        let answer = self.run(&scripts::LOG, shard_of(tenant), args).await?.value;
        let parts = list(&answer)?;
        match text(at(parts, 0)?)? {
            "unknown" => return Ok(Lookup::Unknown),
            "gone" => return Ok(Lookup::Gone),
            _ => {}
        }
        let last_seq = number(at(parts, 2)?)?;
        let is_trimmed = number(at(parts, 3)?)? == 1;
        Ok(Lookup::Found(LogPage {
            events: reply::log(job, at(parts, 4)?)?.into_iter().map(Arc::new).collect(),
            last_seq,
            sealed: number(at(parts, 1)?)? == 1,
            trimmed_to: if is_trimmed { last_seq } else { 0 },
        }))
    }

    async fn subscribe(&self, tenant: &TenantId, job: JobId, _: u64) -> Result<Subscription, StoreError> {
        let channel = format!("{}:news:{}", self.prefix_of(shard_of(tenant)), name(tenant, job.uuid()));
        self.feed.subscribe(channel, job, self.options.patience).await
    }

    async fn is_cited(&self, document: DocumentId) -> Result<bool, StoreError> {
        for cited in self.ask_everywhere("HEXISTS", "cited", Some(document.uuid())).await? {
            if number(&cited)? > 0 {
                return Ok(true);
            }
        }
        Ok(false)
    }

    async fn usage(&self, tenant: Option<&TenantId>, by: UsageBy) -> Result<Vec<UsageRow>, StoreError> {
        let shards = tenant.map_or(0..SHARDS, |tenant| shard_of(tenant)..shard_of(tenant) + 1);
        let tables = shards.map(|shard| {
            let mut ask = cmd("HGETALL");
            ask.arg(format!("{}:usage", self.prefix_of(shard)));
            self.link.command(ask)
        });
        let mut rows: BTreeMap<String, UsageRow> = BTreeMap::new();
        for table in futures::future::try_join_all(tables).await? {
            let sums: Vec<(String, String)> =
                redis::from_redis_value(table).map_err(|err| reply::damaged(err.to_string()))?;
            for (cell, sum) in sums {
                let mut parts = cell.splitn(4, ' ');
                let mut part = || parts.next().unwrap_or_default().to_owned();
                let (day, of, what, model) = (part(), part(), part(), part());
                if tenant.is_some_and(|tenant| tenant.as_str() != of) {
                    continue;
                }
                let key = match by {
                    UsageBy::Day => {
                        let day: u64 = day.parse().unwrap_or(0);
                        Timestamp::from_millis(day * 86_400_000).day()
                    }
                    UsageBy::Tenant => of,
                    UsageBy::Model => model,
                };
                let row = rows.entry(key.clone()).or_insert_with(|| UsageRow {
                    key,
                    calls: 0,
                    input_tokens: 0,
                    output_tokens: 0,
                    nano_usd: 0,
                });
                match what.as_str() {
                    "calls" => row.calls += sum.parse::<u64>().unwrap_or(0),
                    "input" => row.input_tokens += sum.parse::<u64>().unwrap_or(0),
                    "output" => row.output_tokens += sum.parse::<u64>().unwrap_or(0),
                    "nano" => row.nano_usd += sum.parse::<u64>().unwrap_or(0),
                    // `cost`, of an earlier version: always zero.
                    _ => {}
                }
            }
        }
        Ok(rows.into_values().collect())
    }
}
