//! A tenant with nothing left to spend is told before its job is accepted.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use async_trait::async_trait;
use millhand_api::Allowance;
use millhand_common::model::{TenantId, Timestamp};
use millhand_common::ports::{Budget, BudgetLimits, Held, Hold, Lease, Spending, StoreError};
use millhand_common::prices::Price;
use serde_json::json;

use crate::support::{problem, start_with};

/// Somebody spends.
#[derive(Default)]
struct Purse(AtomicU64);

#[async_trait]
impl Budget for Purse {
    async fn hold(&self, _: &Lease, _: Hold) -> Result<Held, StoreError> {
        Ok(Held::Fenced)
    }

    async fn spending(&self, _: &TenantId) -> Result<Spending, StoreError> {
        let spent = self.0.load(Ordering::SeqCst);
        // An hour before midnight; what is held may come back.
        Ok(Spending { spent, held: 1_000_000, now: Timestamp::from_millis(23 * 3_600_000) })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_used_up_budget_refuses_new_jobs_and_answers_old_ones() {
    let purse = Arc::new(Purse::default());
    let allowance = |price| Allowance {
        budget: purse.clone(),
        limits: BudgetLimits { per_day: Some(1_000_000), ..BudgetLimits::default() },
        prices: vec![price],
        max_output_tokens: 400,
    };
    // A thousand billionths for a token.
    let dear = allowance(Price { input: 1_000_000_000, output: 1_000_000_000 });
    let ingress = start_with(|state| state.allowance = Some(dear)).await;
    let ask = json!({ "input": "how much?" });
    let first = ingress.client.post_with("/v1/jobs", &[("idempotency-key", "one")], &ask).await;
    assert_eq!(first.status, 202, "{first:?}");
    purse.0.store(600_000, Ordering::SeqCst);
    let answer = ingress.client.post("/v1/jobs", &ask).await;
    problem(&answer, 429, "budget_exhausted");
    assert_eq!(answer.header("retry-after"), Some("3601"));
    let detail = answer.json()["detail"].as_str().unwrap().to_owned();
    assert!(detail.contains("$0.0006 of $0.001") && detail.contains("1970-01-02T00:00:00"), "{detail}");
    let again = ingress.client.post_with("/v1/jobs", &[("idempotency-key", "one")], &ask).await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (202, Some("true")), "{again:?}");
    let short = json!({ "input": "how much?", "max_output_tokens": 300 });
    assert_eq!(ingress.client.post("/v1/jobs", &short).await.status, 202, "a shorter answer fits");

    let free = allowance(Price::default());
    let ingress = start_with(|state| state.allowance = Some(free)).await;
    assert_eq!(ingress.client.post("/v1/jobs", &ask).await.status, 202, "what is free costs no budget");
}
