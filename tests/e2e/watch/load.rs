//! More than can be done: too much in line, too few workers, and a tenant that nobody serves.

use futures::future::join_all;
use rustix::process::Signal;
use serde_json::{Value, json};

use millhand_tests::faults::{Mode, Proxy};
use millhand_tests::{Server, wait_for};

use super::system::System;
use crate::credentials::{becomes, keys};

/// A question that takes its slot for so many tenths of a second; nobody minds how long it waits.
fn batch(tenths: u32) -> Value {
    json!({"input": format!("批 tokens={tenths} gap=100"), "agent": "chat", "lane": "batch",
        "max_output_tokens": tenths, "deadline_seconds": 3600})
}

/// All slots are held, nothing ends, and more and more seconds are expected of what waits.
pub(super) async fn too_much_waits(system: &System, worker: &Server) {
    let client = &system.api.client;
    let held = join_all((0..4).map(|_| client.submit(batch(1200)))).await;
    running(worker, 4.0).await;
    let waiting = join_all((0..120).map(|_| client.submit(batch(1)))).await;
    system.fires(&["MillhandWaitTooLong"], async || {}).await;
    // These would mind.
    let impatient = json!({"input": "急 tokens=1", "agent": "chat", "lane": "batch"});
    let submit = async || client.post("/v1/jobs", &impatient).await;
    wait_for("the line to be too long", async || (submit().await.status == 503).then_some(())).await;
    system
        .fires(&["MillhandRefusesJobs"], async || {
            let refused = submit().await;
            assert_eq!((refused.status, &refused.json()["code"]), (503, &json!("overloaded")));
        })
        .await;
    for job in &held {
        client.post(&format!("/v1/jobs/{job}/cancel"), &json!({})).await;
    }
    let ended = join_all(waiting.iter().map(|job| client.finished(job))).await;
    assert!(ended.iter().all(|job| job["status"] == "completed"), "{ended:?}");
}

/// The supervisor has one worker for the work of several, and then no store to ask.
pub(super) async fn nobody_decides(system: &System) {
    let client = &system.api.client;
    let link = Proxy::start(&system.cluster.store()).await;
    let scale = system.supervisor(&format!("redis://{}", link.address())).await;
    system.watch(&[&scale]).await;
    let jobs = join_all((0..12).map(|_| client.submit(batch(15)))).await;
    system.fires(&["MillhandScaleAtMost"], async || {}).await;
    let ended = join_all(jobs.iter().map(|job| client.finished(job))).await;
    assert!(ended.iter().all(|job| job["status"] == "completed"), "{ended:?}");
    link.set(Mode::Cut);
    system.fires(&["MillhandScalerBlind"], async || {}).await;
    link.set(Mode::Pass);
    scale.sigterm().await;
}

/// One has a hundred times the weight of the other, and always something to do. The broker is frozen, so no job
/// begins by a hint that comes by chance. From here on every request needs a key.
pub(super) async fn a_tenant_starves(system: &System) {
    let client = &system.api.client;
    let worker = system.worker().await;
    system.watch(&[&worker]).await;
    let (small, large) = (tenant(system, "small").await, tenant(system, "large").await);
    let submit = async |key: &str, tenths: u32| {
        let request = client.request("POST", "/v1/jobs").bearer_auth(key).json(&batch(tenths));
        let answer = client.send(request).await.unwrap();
        assert_eq!(answer.status, 202, "{}", answer.text);
    };
    submit(&small, 1200).await;
    running(&worker, 1.0).await;
    system.cluster.broker(Signal::STOP);
    join_all((0..240).map(|_| submit(&large, 10))).await;
    // All of them are due by then, and most of them wait for a minute more.
    wait_for("it to be served", async || {
        let tenants = worker.operator().get("/v1/tenants").await.json();
        let mut all = tenants["data"].as_array()?.iter();
        (all.find(|one| one["tenant"] == "large")?["waiting"].as_u64()? <= 210).then_some(())
    })
    .await;
    submit(&small, 1).await;
    system.fires(&["MillhandTenantStarves"], async || {}).await;
    system.cluster.broker(Signal::CONT);
}

/// Its key.
async fn tenant(system: &System, name: &str) -> String {
    let url = format!("redis://{}", system.cluster.store());
    let env = [("MILLHAND_STORE__KIND", "redis"), ("MILLHAND_STORE__URL", url.as_str())];
    let made = keys(&["create", "--tenant", name], &env).await;
    let key = made["key"].as_str().unwrap().to_owned();
    becomes(&system.api.client, &key, "/v1/jobs", 200).await;
    // While no key is known everybody is one tenant.
    becomes(&system.api.client, "mh_none", "/v1/jobs", 401).await;
    key
}

async fn running(worker: &Server, jobs: f64) {
    wait_for("so many jobs to run", async || {
        (worker.metric("millhand_worker_running_jobs").await == jobs).then_some(())
    })
    .await;
}
