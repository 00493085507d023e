//! What may be spent: by a job, and by a tenant on a day.

use std::collections::HashMap;

use async_trait::async_trait;

use crate::model::{TenantId, Timestamp};

use super::{Lease, StoreError};

/// Budgets, kept by the store beside the jobs: what calls have used is known there from their logs, so a
/// call costs one question more and nothing has to be told afterwards.
///
/// What it promises, over all processes: as long as no call costs more than was held for it, a budget is
/// never exceeded, not by a billionth of a dollar. What a call has used is counted when its
/// `usage.updated` is written: exactly, when the provider has said it; else all that was held, because it
/// may have been paid.
#[async_trait]
pub trait Budget: Send + Sync {
    /// Holds money for the next call of a job. One hold at a time: it takes the place of one that no call
    /// was made on. It is given back when its owner lets the job go without a call. May be dropped.
    async fn hold(&self, lease: &Lease, hold: Hold) -> Result<Held, StoreError>;

    /// What a tenant has spent today, on the store's clock. May be dropped.
    async fn spending(&self, tenant: &TenantId) -> Result<Spending, StoreError>;
}

/// Money for a call, in billionths of a dollar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Hold {
    /// What it costs at most.
    pub nano_usd: u64,
    /// What the job may spend in all.
    pub per_job: Option<u64>,
    /// What its tenant may spend today.
    pub per_day: Option<u64>,
}

/// What became of a hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Held {
    Ok,
    /// Only what other calls hold is in the way: ask again when they have ended.
    Busy,
    /// The job has spent so much that it does not fit.
    OverJob {
        spent: u64,
    },
    /// The tenant has.
    OverDay(Spending),
    /// Somebody else owns the job, or it is terminal.
    Fenced,
}

/// What a tenant has spent today, in billionths of a dollar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Spending {
    pub spent: u64,
    /// For calls under way.
    pub held: u64,
    pub now: Timestamp,
}

impl Spending {
    /// When the next day begins.
    #[must_use]
    pub fn resets_at(&self) -> Timestamp {
        self.now.next_day()
    }
}

/// The budgets that are configured, in billionths of a dollar.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BudgetLimits {
    pub per_job: Option<u64>,
    /// Of each tenant that has none of its own.
    pub per_day: Option<u64>,
    pub of_tenants: HashMap<TenantId, u64>,
}

impl BudgetLimits {
    /// What a tenant may spend on a day.
    #[must_use]
    pub fn per_day(&self, tenant: &TenantId) -> Option<u64> {
        self.of_tenants.get(tenant).copied().or(self.per_day)
    }
}
