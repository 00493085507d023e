//! What is refused when more waits than can be done, and what is not.

use std::time::Duration;

use millhand_common::model::{Share, Timestamp};
use serde_json::{Value, json};

use crate::support::client::Answer;
use crate::support::{Ingress, problem, start_with, wait_for};

fn question(more: Value) -> Value {
    let mut body = json!({"input": "q", "agent": "chat"});
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    body
}

async fn submit(ingress: &Ingress, more: Value) -> Answer {
    ingress.client.post("/v1/jobs", &question(more)).await
}

fn retry_after(answer: &Answer) -> u64 {
    answer.header("retry-after").unwrap().parse().unwrap()
}

/// Nobody works here, so one job a second is expected to end.
#[tokio::test]
async fn a_job_that_could_not_start_in_time_is_refused_and_others_are_not() {
    let ingress = start_with(|state| {
        state.config.admission.expected_jobs_per_second = 1;
        state.config.admission.max_wait_interactive = Some(Duration::from_secs(4));
    })
    .await;
    let with_key = [("idempotency-key", "first")];
    let first = ingress.client.post_with("/v1/jobs", &with_key, &question(json!({}))).await;
    assert_eq!(first.status, 202, "an idle system lets everything in");
    for _ in 0..3 {
        assert_eq!(submit(&ingress, json!({})).await.status, 202);
    }
    let refused = submit(&ingress, json!({})).await;
    assert_eq!(problem(&refused, 503, "overloaded")["retryable"], true);
    assert!((1..=3).contains(&retry_after(&refused)), "a second, and some more");

    let again = ingress.client.post_with("/v1/jobs", &with_key, &question(json!({}))).await;
    assert_eq!((again.status, again.header("idempotency-replayed")), (202, Some("true")));
    let path = format!("/v1/jobs/{}", first.json()["id"].as_str().unwrap());
    assert_eq!(ingress.client.get(&path).await.status, 200, "reads go on");
    // It would expire in the queue.
    let late = submit(&ingress, json!({"lane": "batch", "deadline_seconds": 3})).await;
    problem(&late, 503, "overloaded");
    assert_eq!(submit(&ingress, json!({"lane": "batch"})).await.status, 202, "it can wait");
    let scheduled = json!({"not_before": (Timestamp::now() + Duration::from_secs(3600)).to_string()});
    assert_eq!(submit(&ingress, scheduled).await.status, 202, "it does not wait now");

    let cancel = format!("{path}/cancel");
    assert_eq!(ingress.client.post(&cancel, &json!({})).await.status, 200, "cancels go on");
    wait_for("the place to be seen", async || {
        (submit(&ingress, json!({})).await.status == 202).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_tenant_whose_line_is_full_is_told_so() {
    let ingress =
        start_with(|state| state.shares.others = Share { max_queued: Some(2), ..Share::default() }).await;
    for _ in 0..2 {
        assert_eq!(submit(&ingress, json!({})).await.status, 202);
    }
    let refused = submit(&ingress, json!({})).await;
    problem(&refused, 429, "too_many_queued");
    assert!((1..=2).contains(&retry_after(&refused)));
    assert_eq!(submit(&ingress, json!({"lane": "batch"})).await.status, 202, "each lane has its line");
}
