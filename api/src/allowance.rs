//! Whether a tenant has anything left to spend today: asked before a job is accepted.

use std::sync::Arc;

use http::StatusCode;
use millhand_common::model::{JobInput, JobSpec, Usd};
use millhand_common::ports::{Budget, BudgetLimits};
use millhand_common::prices::Price;
use millhand_common::{telemetry, tokens};

use crate::error::ApiError;
use crate::state::{ApiInner, ask};

/// What the ingress needs to know of budgets.
#[derive(Clone)]
pub struct Allowance {
    pub budget: Arc<dyn Budget>,
    pub limits: BudgetLimits,
    /// Of the models that may answer; at least one.
    pub prices: Vec<Price>,
    /// The longest answer of a job that does not say one.
    pub max_output_tokens: u32,
}

impl ApiInner {
    /// The refusal of a job that could not make a single call today, even if all calls under way gave back
    /// what they hold.
    pub(crate) async fn over_budget(&self, spec: &JobSpec) -> Result<Option<ApiError>, ApiError> {
        let JobInput::Chat { messages } = &spec.input else { return Ok(None) };
        let Some(allowance) = &self.ports.allowance else { return Ok(None) };
        let Some(limit) = allowance.limits.per_day(&spec.tenant) else { return Ok(None) };
        let prompt = tokens::at_most(messages.iter().map(|message| message.content.as_str()));
        let answer = spec.max_output_tokens.unwrap_or(allowance.max_output_tokens);
        let costs = allowance.prices.iter().map(|price| price.cost(prompt, u64::from(answer)));
        let call = costs.min().unwrap_or(0);
        if call == 0 {
            return Ok(None);
        }
        let spending = ask(allowance.budget.spending(&spec.tenant)).await?;
        if spending.spent.saturating_add(call) <= limit {
            return Ok(None);
        }
        let [spent, limit] = [spending.spent, limit].map(Usd::from_nano);
        let resets_at = spending.resets_at();
        let detail = format!(
            "The budget of today is used up: {spent} of {limit} are spent, and a call for this job would not \
             fit. The next day begins at {resets_at}."
        );
        let seconds = resets_at.since(spending.now).as_secs() + 1;
        metrics::counter!(telemetry::BUDGET_REFUSALS, "reason" => "submit").increment(1);
        let error = ApiError::new(StatusCode::TOO_MANY_REQUESTS, "budget_exhausted", detail);
        Ok(Some(ApiError { retry_after: u32::try_from(seconds).ok(), ..error }))
    }
}
