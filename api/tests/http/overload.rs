//! What is refused when more waits than can be done, and what is not.

use std::time::Duration;

use millhand_common::model::{Share, Timestamp};
use serde_json::{Value, json};
use tokio::net::TcpStream;

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

const DOCUMENTS: &str = "/v1/collections/manuals/documents";

#[tokio::test]
async fn a_tenant_that_submits_too_often_is_told_when_to_come_back() {
    let pace = Share { submits_per_minute: Some(3), ..Share::default() };
    let ingress = start_with(|state| state.shares.others = pace).await;
    let job = submit(&ingress, json!({})).await;
    assert_eq!(job.status, 202);
    let document = json!({"name": "a.md", "text": "# A"});
    assert_eq!(ingress.client.post(DOCUMENTS, &document).await.status, 202, "documents count too");
    assert_eq!(ingress.client.post("/v1/jobs", &json!({"input": ""})).await.status, 422, "whatever they are");
    let refused = submit(&ingress, json!({})).await;
    assert_eq!(problem(&refused, 429, "rate_limited")["retryable"], true);
    assert!((20..=30).contains(&retry_after(&refused)), "a third of a minute, and some more: {refused:?}");
    problem(&ingress.client.post(DOCUMENTS, &document).await, 429, "rate_limited");
    problem(&ingress.client.post_with("/v1/jobs", &[], &json!("not read")).await, 429, "rate_limited");

    let path = format!("/v1/jobs/{}", job.json()["id"].as_str().unwrap());
    for _ in 0..8 {
        assert_eq!(ingress.client.get(&path).await.status, 200, "reads are not counted");
        assert_eq!(ingress.client.get(&format!("{path}/events?after=1")).await.status, 200, "nor resumes");
    }
    assert_eq!(ingress.client.post(&format!("{path}/cancel"), &json!({})).await.status, 200, "nor cancels");
}

/// Of twenty places sixteen are taken by connections that say nothing.
#[tokio::test(flavor = "multi_thread")]
async fn submits_meet_the_ceiling_of_connections_before_everything_else_does() {
    let ingress = start_with(|state| state.config.limits.connections = 20).await;
    let job = ingress.submit("q").await;
    let mut held = Vec::new();
    for _ in 0..16 {
        held.push(TcpStream::connect(ingress.client.address).await.unwrap());
    }
    let refused = wait_for("submits to be turned away", async || {
        let answer = submit(&ingress, json!({})).await;
        (answer.status == 503).then_some(answer)
    })
    .await;
    assert_eq!(refused.json()["code"], "too_many_connections");
    assert_eq!(retry_after(&refused), 2);
    let path = format!("/v1/jobs/{job}");
    // One after the other: each has its place given back only when its connection is closed.
    let answers = async |method: &'static str, path: String| {
        wait_for("one of the last places", async || {
            let answer = ingress.client.send(method, &path, &[], b"").await;
            (answer.status != 503).then_some(answer.status)
        })
        .await
    };
    for (method, path) in [
        ("GET", path.clone()),
        ("GET", format!("{path}/events?after=0")),
        ("GET", "/healthz".to_owned()),
        ("GET", "/readyz".to_owned()),
        ("POST", format!("{path}/cancel")),
    ] {
        assert_eq!(answers(method, path.clone()).await, 200, "{method} {path}");
    }
    let mut stream = ingress.client.sse(&format!("{path}/events"), "Last-Event-ID: 1\r\n").await;
    assert!(stream.block().await.unwrap().contains("job.cancelled"), "a stream resumes");
    for path in ["/v1/jobs", DOCUMENTS] {
        let document = json!({"name": "a.md", "text": "# A"});
        assert_eq!(ingress.client.post(path, &document).await.json()["code"], "too_many_connections");
    }
    drop(held);
    wait_for("submits to be let in again", async || {
        (submit(&ingress, json!({})).await.status == 202).then_some(())
    })
    .await;
}

#[tokio::test]
async fn an_ingress_that_takes_in_all_it_can_still_answers_readers() {
    let ingress = start_with(|state| state.config.limits.submits = 0).await;
    let refused = submit(&ingress, json!({})).await;
    assert_eq!(problem(&refused, 503, "too_many_submits")["retryable"], true);
    assert_eq!(retry_after(&refused), 1);
    problem(
        &ingress.client.post(DOCUMENTS, &json!({"name": "a.md", "text": "# A"})).await,
        503,
        "too_many_submits",
    );
    for path in ["/v1/jobs", "/v1/conversations", "/healthz", "/readyz"] {
        assert_eq!(ingress.client.get(path).await.status, 200, "{path}");
    }
}
