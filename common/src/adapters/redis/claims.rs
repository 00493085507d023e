//! How a claim is asked for, and what comes of it.

use redis::Value;
use uuid::Uuid;

use crate::model::{JobId, Lane, TenantId};
use crate::ports::{Claim, Lease, Run, StoreError};
use crate::telemetry;

use super::super::ending::{last_event, poison};
use super::reply::{self, at, damaged, list, number, text, unknown};
use super::scripts;
use super::store::{RedisStore, count_ended, outcome};

impl RedisStore {
    /// What both claims pass on: the owner, the operation, and the end of a poison job.
    pub(super) fn claim_args(claim: Claim) -> [String; 4] {
        let end = poison(Lease::MAX_DEATHS);
        let data = last_event(&end).parts().1.get().to_owned();
        [claim.owner.to_string(), claim.op.simple().to_string(), data, outcome(&end)]
    }

    pub(super) fn started(&self, claim: Claim, run: &Value) -> Result<Run, StoreError> {
        let parts = list(run)?;
        let job = reply::job(at(parts, 0)?)?;
        let log = reply::log(job.spec.id, at(parts, 1)?)?;
        let lease = Lease { tenant: job.spec.tenant.clone(), job: job.spec.id, epoch: job.epoch };
        self.feed.holds(claim.owner, &lease);
        if job.attempt == 1
            && let Some(started) = job.started_at
        {
            metrics::histogram!(telemetry::QUEUE_TIME).record(started.since(job.created_at).as_secs_f64());
        }
        Ok(Run { job, lease, log })
    }

    pub(super) async fn claim_in(
        &self,
        shard: u32,
        lane: Lane,
        claim: Claim,
    ) -> Result<Option<Run>, StoreError> {
        loop {
            let [owner, op, data, out] = Self::claim_args(claim);
            let args = [lane.as_str().to_owned(), owner, op, data, out];
            let answer = self.run(&scripts::CLAIM_DUE, shard, args).await?.value;
            let parts = list(&answer)?;
            metrics::counter!(telemetry::TAKEOVERS).increment(number(at(parts, 2)?)?);
            count_ended(at(parts, 3)?)?;
            metrics::counter!(telemetry::SWEEPER_DUE).increment(number(at(parts, 4)?)?);
            match text(at(parts, 0)?)? {
                "run" => return self.started(claim, at(parts, 1)?).map(Some),
                "none" => return Ok(None),
                "more" => {}
                "expired" => {
                    let (tenant, job) = parse_name(text(at(parts, 1)?)?)?;
                    self.expire(&tenant, job).await?;
                }
                other => return unknown(other),
            }
        }
    }
}

/// Back from [`name`].
pub(super) fn parse_name(text: &str) -> Result<(TenantId, JobId), StoreError> {
    text.split_once(':')
        .and_then(|(tenant, uuid)| {
            Some((tenant.parse().ok()?, JobId::from_uuid(Uuid::try_parse(uuid).ok()?)))
        })
        .ok_or_else(|| damaged(format!("a job's name `{text}`")))
}
