//! [`Budget`] in Redis.

use async_trait::async_trait;

use crate::model::{TenantId, Timestamp};
use crate::ports::{Budget, Held, Hold, Lease, Spending, StoreError};

use super::reply::{at, damaged, list, name, number, text};
use super::scripts;
use super::store::{RedisStore, shard_of};

#[async_trait]
impl Budget for RedisStore {
    async fn hold(&self, lease: &Lease, hold: Hold) -> Result<Held, StoreError> {
        let limit = |limit: Option<u64>| limit.map_or(String::new(), |nano| nano.to_string());
        let args = [
            name(&lease.tenant, lease.job.uuid()),
            lease.epoch.to_string(),
            hold.nano_usd.to_string(),
            limit(hold.per_job),
            limit(hold.per_day),
        ];
        let answer = self.run(&scripts::HOLD, shard_of(&lease.tenant), args).await?.value;
        let parts = list(&answer)?;
        match text(at(parts, 0)?)? {
            "ok" => Ok(Held::Ok),
            "busy" => Ok(Held::Busy),
            "over_job" => Ok(Held::OverJob { spent: number(at(parts, 1)?)? }),
            "over_day" => Ok(Held::OverDay(spending(&parts[1..])?)),
            "fenced" => Ok(Held::Fenced),
            other => Err(damaged(format!("a budget answered {other}"))),
        }
    }

    async fn spending(&self, tenant: &TenantId) -> Result<Spending, StoreError> {
        let answer = self.run(&scripts::SPENDING, shard_of(tenant), [tenant.to_string()]).await?.value;
        spending(list(&answer)?)
    }
}

fn spending(parts: &[redis::Value]) -> Result<Spending, StoreError> {
    Ok(Spending {
        spent: number(at(parts, 0)?)?,
        held: number(at(parts, 1)?)?,
        now: Timestamp::from_millis(number(at(parts, 2)?)?),
    })
}
