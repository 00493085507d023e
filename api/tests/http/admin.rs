//! The operators' listener.

use millhand_common::model::{JobError, Status, TenantId, Terminal};
use millhand_common::ports::{By, JobStore};
use serde_json::json;

use crate::support::{id_of, problem, start};

#[tokio::test(flavor = "multi_thread")]
async fn queues_workers_and_metrics_are_shown() {
    let ingress = start().await;
    ingress.submit("排队").await;
    let queues = ingress.admin.get("/v1/queues").await.json();
    let interactive =
        queues["data"].as_array().unwrap().iter().find(|lane| lane["lane"] == "interactive").unwrap();
    assert_eq!(interactive["ready"], 1, "{queues}");
    let tenants = ingress.admin.get("/v1/tenants?limit=1").await.json();
    let own = json!([{
        "tenant": "default", "weight": 1, "waiting": 1, "running": 0, "at_cap": false, "unserved_ms": 0,
    }]);
    assert_eq!(tenants["data"], own, "{tenants}");
    problem(&ingress.admin.get("/v1/tenants?limit=0").await, 422, "invalid_request");
    assert_eq!(ingress.admin.get("/v1/workers").await.json(), json!({ "data": [], "next_cursor": null }));
    let metrics = ingress.admin.get("/metrics").await;
    assert!(metrics.text().contains("millhand_test_metric 1"));
    assert!(metrics.header("content-type").unwrap().starts_with("text/plain"));
    assert_eq!(ingress.admin.get("/healthz").await.status, 200);
    assert_eq!(ingress.admin.get("/readyz").await.json()["status"], "ready");
    problem(&ingress.admin.get("/v1/jobs").await, 404, "not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dead_letter_is_replayed_once_and_dropped() {
    let ingress = start().await;
    let id = ingress.submit("毒").await;
    let failed = Terminal::failed(JobError::new("poison", "it died three times", false));
    ingress.store.close(&TenantId::default(), id, By::Anyone, failed).await.unwrap();
    let letters = ingress.admin.get("/v1/dead-letters").await.json();
    let letters = letters["data"].as_array().unwrap();
    assert_eq!(
        (&letters[0]["job"]["id"], &letters[0]["job"]["status"]),
        (&json!(id.to_string()), &json!(Status::Failed))
    );
    let replay = format!("/v1/dead-letters/{id}/replay");
    let first = ingress.admin.send("POST", &replay, &[], b"").await;
    assert_eq!((first.status, &first.json()["replay_of"]), (202, &json!(id.to_string())));
    let second = ingress.admin.send("POST", &replay, &[], b"").await;
    assert_eq!((second.status, id_of(&second.json())), (200, id_of(&first.json())));
    let drop = format!("/v1/dead-letters/{id}/drop");
    assert_eq!(ingress.admin.send("POST", &drop, &[], b"").await.status, 204);
    problem(&ingress.admin.send("POST", &drop, &[], b"").await, 404, "dead_letter_not_found");
}

#[tokio::test(flavor = "multi_thread")]
async fn drain_turns_readiness_off() {
    let ingress = start().await;
    assert_eq!(ingress.admin.send("POST", "/v1/drain", &[], b"").await.status, 202);
    assert_eq!(ingress.client.get("/readyz").await.status, 503);
    assert_eq!(ingress.client.get("/healthz").await.status, 200);
    let backup = ingress.admin.post("/v1/backup", &json!({ "dir": "/somewhere" })).await;
    problem(&backup, 422, "backup_not_supported");
}
