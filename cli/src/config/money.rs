//! What tokens cost, and what may be spent.

use millhand_common::model::{Share, Shares, Usd};
use millhand_common::ports::BudgetLimits;
use millhand_common::prices::{Price, Prices};
use serde::Deserialize;

use super::Config;

/// What a model's tokens cost; goes before the built-in table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PriceConfig {
    /// Dollars for a million tokens of prompts.
    pub(crate) input_per_million: Usd,
    /// Dollars for a million tokens of answers.
    pub(crate) output_per_million: Usd,
}

/// What may be spent; absent, there is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct BudgetsConfig {
    /// Dollars for all calls of one job.
    pub(crate) per_job_usd: Option<Usd>,
    /// Dollars a day (UTC) for each tenant that has no budget of its own.
    pub(crate) per_tenant_day_usd: Option<Usd>,
}

/// What one tenant may do.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct TenantConfig {
    /// Dollars a day (UTC).
    pub(crate) budget_per_day_usd: Option<Usd>,
    /// Of two tenants that both have jobs waiting, one with twice the weight runs twice as many. 1-100, default 1.
    pub(crate) weight: Option<u32>,
    /// Jobs of this tenant that run at a time, all workers together; more wait. Default: `fairness.max_running`.
    pub(crate) max_running: Option<u32>,
    /// Jobs of this tenant that wait in a lane; more are refused (429). Default: `fairness.max_queued`.
    pub(crate) max_queued: Option<u32>,
    /// Jobs and uploads that this tenant submits to each ingress; more are refused (429). Default:
    /// `api.admission.submits_per_minute`.
    pub(crate) submits_per_minute: Option<u32>,
}

/// What holds for every tenant that has no value of its own.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(crate) struct FairnessConfig {
    /// Jobs of one tenant that run at a time, all workers together; absent, there is no limit.
    pub(crate) max_running: Option<u32>,
    /// Jobs of one tenant that wait in a lane; more are refused (429); absent, there is no limit.
    pub(crate) max_queued: Option<u32>,
}

impl Config {
    /// What each tenant may have of the workers.
    pub(crate) fn shares(&self) -> Shares {
        let FairnessConfig { max_running, max_queued } = self.fairness;
        let submits_per_minute = self.api.admission.submits_per_minute;
        let others = Share { max_running, max_queued, submits_per_minute, ..Share::default() };
        let share = |config: &TenantConfig| Share {
            weight: config.weight.unwrap_or(others.weight),
            max_running: config.max_running.or(others.max_running),
            max_queued: config.max_queued.or(others.max_queued),
            submits_per_minute: config.submits_per_minute.or(others.submits_per_minute),
        };
        let tenants = self.tenants.iter().map(|(tenant, config)| (tenant.clone(), share(config)));
        Shares { others, tenants: tenants.collect() }
    }

    /// All prices there are.
    pub(crate) fn prices(&self) -> Prices {
        let own = self.prices.iter().map(|(model, price)| {
            (model.clone(), Price::per_million(price.input_per_million, price.output_per_million))
        });
        Prices::new(own.collect())
    }

    /// All budgets; `None` when there is none.
    pub(crate) fn budgets(&self) -> Option<BudgetLimits> {
        let of_tenants = self
            .tenants
            .iter()
            .filter_map(|(tenant, config)| Some((tenant.clone(), config.budget_per_day_usd?.nano())));
        let limits = BudgetLimits {
            per_job: self.budgets.per_job_usd.map(Usd::nano),
            per_day: self.budgets.per_tenant_day_usd.map(Usd::nano),
            of_tenants: of_tenants.collect(),
        };
        (limits != BudgetLimits::default()).then_some(limits)
    }
}
