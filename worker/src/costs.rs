//! What model calls cost: asked of the budgets before each of them, said in the log before it is sent, and
//! booked when it is over, whatever became of it.

mod call;
mod learned;
mod reading;

use std::collections::{HashMap, HashSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use metrics::counter;
use millhand_common::model::{CallStarted, EventBody, JobError, TenantId, Usd};
use millhand_common::ports::{Budget, BudgetLimits, Held, Hold, Spending};
use millhand_common::prices::{self, Price, Prices};
use millhand_common::{crash, telemetry, tokens};
use uuid::Uuid;

use crate::attempt::{Attempt, Failure, Stopped};
pub(crate) use call::Call;
use learned::Learned;
pub(crate) use reading::{ToRead, Unread};

/// When a job comes again whose call would fit the budget, were it not for what other calls hold.
const BUSY_WAIT: Duration = Duration::from_millis(500);

/// Prices, budgets, and what was learned of how models count.
pub struct Costs {
    prices: Prices,
    budgets: Option<(Arc<dyn Budget>, BudgetLimits)>,
    /// The longest answer of a job that does not say one, where there is a budget.
    max_output_tokens: u32,
    learned: Mutex<HashMap<(String, Marks), Learned>>,
    /// Models without a price that were warned of.
    unknown: Mutex<HashSet<String>>,
}

/// Whether an answer has marks of what it rests on, which readers do not see: then its text is less than was
/// written, and what is learned of the one says nothing of the other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Marks {
    Some,
    None,
}

/// A call that may be made.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    model: String,
    marks: Marks,
    price: Price,
    /// Tokens of the prompt, as they are measured.
    prompt: u64,
    max_output_tokens: Option<u32>,
    held_nano_usd: u64,
}

impl Plan {
    /// Nothing is held for it yet; `prompt` as it is measured.
    fn new((model, marks): (&str, Marks), price: Price, prompt: u64, max_output_tokens: Option<u32>) -> Self {
        Self { model: model.to_owned(), marks, price, prompt, max_output_tokens, held_nano_usd: 0 }
    }

    /// Whether it is for a call of this model.
    pub(crate) fn is_of(&self, model: &str) -> bool {
        self.model == model
    }
}

impl Costs {
    /// `max_output_tokens` bounds the answers of jobs that do not bound them, where there are budgets: what
    /// has no upper bound cannot be held.
    #[must_use]
    pub fn new(
        prices: Prices,
        budgets: Option<(Arc<dyn Budget>, BudgetLimits)>,
        max_output_tokens: u32,
    ) -> Self {
        let (learned, unknown) = (Mutex::default(), Mutex::default());
        Self { prices, budgets, max_output_tokens, learned, unknown }
    }

    /// Holds what the attempt's next call costs at most. It is given back when the attempt ends without
    /// the call.
    ///
    /// # Errors
    /// [`Failure::OverBudget`] when it does not fit a budget; [`Failure::NoQuota`] when it may, once other
    /// calls have ended.
    pub(crate) async fn plan(
        &self,
        attempt: &Attempt,
        model: &str,
        marks: Marks,
        prompt: &[&str],
    ) -> Result<Plan, Failure> {
        let price = self.price(model, || self.prices.ceiling());
        let measured = tokens::of_prompt(prompt.iter().copied());
        let plan = Plan::new((model, marks), price, measured, attempt.max_output_tokens(None));
        self.hold(attempt, plan, prompt).await
    }

    async fn hold(&self, attempt: &Attempt, mut plan: Plan, prompt: &[&str]) -> Result<Plan, Failure> {
        let Some((budget, limits)) = &self.budgets else { return Ok(plan) };
        let tenant = &attempt.job().spec.tenant;
        let (per_job, per_day) = (limits.per_job, limits.per_day(tenant));
        if per_job.or(per_day).is_none() {
            return Ok(plan);
        }
        let longest = *plan.max_output_tokens.get_or_insert(self.max_output_tokens);
        let nano_usd = plan.price.cost(tokens::at_most(prompt.iter().copied()), u64::from(longest));
        if nano_usd == 0 {
            return Ok(plan);
        }
        // What was booked before is counted.
        attempt.flush().await?;
        let held = budget.hold(attempt.lease(), Hold { nano_usd, per_job, per_day }).await;
        match held.unwrap_or_else(|err| {
            tracing::warn!(error = %err, "budgets are away: no model call is made");
            Held::Busy
        }) {
            Held::Ok => {
                plan.held_nano_usd = nano_usd;
                Ok(plan)
            }
            Held::Busy => {
                count("busy");
                Err(Failure::NoQuota { after: BUSY_WAIT })
            }
            Held::OverJob { spent } => {
                count("over_job");
                Err(Failure::OverBudget(over_job(nano_usd, spent, per_job.unwrap_or_default())))
            }
            Held::OverDay(spending) => {
                count("over_day");
                Err(Failure::OverBudget(over_day(nano_usd, &spending, tenant, per_day.unwrap_or_default())))
            }
            Held::Fenced => Err(Stopped.into()),
        }
    }

    /// Says durably that the call is about to be made; after that it is booked, whoever dies.
    pub(crate) async fn open<'a>(&'a self, attempt: &'a Attempt, plan: Plan) -> Result<Call<'a>, Stopped> {
        let Plan { model, marks, price, prompt, max_output_tokens, held_nano_usd } = plan;
        let learned = self.learned(&model, marks, |learned| *learned);
        let started = CallStarted {
            call: Uuid::now_v7(),
            model,
            input_tokens: learned.input(prompt),
            max_output_tokens,
            output_per_thousand: learned.output_per_thousand().unwrap_or(1000),
            unmeasured: learned.output_per_thousand().is_none(),
            pace: learned.pace(),
            price,
            prices: prices::VERSION.to_owned(),
            held_nano_usd,
        };
        attempt.emit(EventBody::ModelCalled(started.clone())).await?;
        let call = Call::new(self, attempt, (started, marks), prompt);
        attempt.flush().await?;
        crash::point("step.started");
        Ok(call)
    }

    /// Of a model that is in no table, that of the dearest one.
    fn price(&self, model: &str, dearest: impl FnOnce() -> Price) -> Price {
        self.prices.of(model).unwrap_or_else(|| {
            let first = lock(&self.unknown).insert(model.to_owned());
            if first {
                tracing::warn!(
                    model,
                    "no price is known for this model: its tokens are counted as dear as any; set \
                     input_per_million and output_per_million in [prices.\"{model}\"], to 0 if it is free"
                );
            }
            dearest()
        })
    }

    fn learned<T>(&self, model: &str, marks: Marks, with: impl FnOnce(&mut Learned) -> T) -> T {
        with(lock(&self.learned).entry((model.to_owned(), marks)).or_default())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

fn count(answer: &'static str) {
    counter!(telemetry::BUDGET_REFUSALS, "reason" => answer).increment(1);
}

fn over_job(nano_usd: u64, spent: u64, limit: u64) -> JobError {
    let [call, spent, limit] = [nano_usd, spent, limit].map(Usd::from_nano);
    let message = format!(
        "the next model call may cost {call}, and {spent} of the {limit} that a job may spend are spent: ask \
         with a smaller max_output_tokens or a shorter question, or raise budgets.per_job_usd"
    );
    JobError::new("budget_exceeded", message, false)
}

fn over_day(nano_usd: u64, spending: &Spending, tenant: &TenantId, limit: u64) -> JobError {
    let [call, spent, limit] = [nano_usd, spending.spent, limit].map(Usd::from_nano);
    let resets_at = spending.resets_at();
    let message = format!(
        "the next model call may cost {call}, and {spent} of the {limit} that tenant `{tenant}` may spend a \
         day are spent: the next day begins at {resets_at}"
    );
    JobError::new("budget_exhausted", message, true)
}
