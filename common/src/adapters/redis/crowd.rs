//! Who has many jobs waiting, over all shards.
//!
//! Whose turn it is needs no such thing: a tenant lies in one shard, and the heads of shards compare. But
//! whether a new job goes before the hints of another tenant is decided where it is accepted, which sees its own
//! shard only. So each process keeps the longest lines as its last sweep saw them, a quarter of a second to two
//! seconds ago. What is decided wrongly meanwhile waits behind the hints that came before it, 30 s at most.

use std::sync::{Mutex, PoisonError};

use redis::Value;

use crate::model::{Lane, Share, Shares, TenantId};
use crate::ports::{Line, StoreError, TenantLoad};

use super::due::SHARDS;
use super::reply::{at, damaged, list, number, text};
use super::scripts;
use super::store::RedisStore;

/// Tenants and how many jobs they have in line, of each lane.
#[derive(Default)]
pub(super) struct Lines([Vec<(TenantId, u64)>; Lane::ALL.len()]);

impl Lines {
    /// Takes in what `overdue.lua` says of some shards.
    pub(super) fn add(&mut self, answer: &Value) -> Result<(), StoreError> {
        for (of, found) in self.0.iter_mut().zip(list(answer)?) {
            for pair in list(found)?.chunks(2) {
                of.push((tenant(at(pair, 0)?)?, number(at(pair, 1)?)?));
            }
        }
        Ok(())
    }
}

fn tenant(name: &Value) -> Result<TenantId, StoreError> {
    text(name)?.parse().map_err(|_| damaged("the name of a tenant"))
}

#[derive(Default)]
pub(super) struct Crowd(Mutex<Lines>);

impl Crowd {
    pub(super) fn see(&self, lines: Lines) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = lines;
    }

    /// Below how many jobs in line the tenant is below its share, by [`Shares::is_below`]; `None` when no other
    /// tenant has any.
    pub(super) fn before(&self, tenant: &TenantId, lane: Lane, shares: Option<&Shares>) -> Option<f64> {
        let lines = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let of = usize::from(lane == Lane::Batch);
        let share = |tenant| shares.map_or_else(Share::default, |shares| shares.of(tenant));
        let weight = |tenant| f64::from(share(tenant).weight);
        let others = lines.0[of].iter().filter(|(other, _)| other != tenant);
        others.map(|(other, backlog)| *backlog as f64 * weight(tenant) / weight(other)).reduce(f64::max)
    }
}

impl RedisStore {
    pub(super) async fn lines_of_all(&self) -> Result<Vec<Line>, StoreError> {
        let shards: Vec<u32> = (0..SHARDS).collect();
        let mut lines = Lines::default();
        for (_, answer) in self.run_over(&scripts::LINES, &shards, &[]).await {
            lines.add(&answer?)?;
        }
        let of_lanes = Lane::ALL.into_iter().zip(lines.0);
        let line = |lane| move |(tenant, waiting)| Line { lane, tenant, waiting };
        Ok(of_lanes.flat_map(|(lane, of)| of.into_iter().map(line(lane))).collect())
    }

    pub(super) async fn loads_of_all(&self) -> Result<Vec<TenantLoad>, StoreError> {
        let shards: Vec<u32> = (0..SHARDS).collect();
        let mut loads = Vec::new();
        for (_, answer) in self.run_over(&scripts::TENANTS, &shards, &[]).await {
            for parts in list(&answer?)?.chunks(5) {
                let count = |place| at(parts, place).and_then(number);
                let tenant = tenant(at(parts, 0)?)?;
                loads.push(TenantLoad {
                    weight: self.options.shares.as_ref().map_or(1, |shares| shares.of(&tenant).weight),
                    tenant,
                    waiting: count(1)?,
                    running: count(2)?,
                    at_cap: count(3)? == 1,
                    unserved_ms: count(4)?,
                });
            }
        }
        Ok(loads)
    }

    /// Tells the scripts what was configured.
    pub(super) async fn write_shares(&self) -> Result<(), StoreError> {
        let Some(Shares { others, tenants }) = &self.options.shares else { return Ok(()) };
        let named = tenants.iter().map(|(tenant, share)| (tenant.as_str(), share));
        let args: Vec<String> = std::iter::once(("", others))
            .chain(named)
            .flat_map(|(tenant, share)| {
                let most = share.max_running.map_or(String::new(), |most| most.to_string());
                [tenant.to_owned(), format!("{} {most}", share.weight)]
            })
            .collect();
        let shards: Vec<u32> = (0..SHARDS).collect();
        self.run_over(&scripts::SHARES, &shards, &args)
            .await
            .into_iter()
            .try_for_each(|(_, done)| done.map(|_| ()))
    }
}
