//! What tokens cost, and what may be spent.

use millhand_common::model::Usd;
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
}

impl Config {
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
