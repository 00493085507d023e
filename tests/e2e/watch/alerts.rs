//! Each alert is made to fire by a fault of its own, in a running system that Prometheus scrapes.

use std::sync::atomic::{AtomicU32, Ordering};

use futures::future::join_all;
use rustix::process::Signal;
use serde_json::json;

use millhand_tests::{Server, wait_for};

use super::dashboards::every_query_has_data;
use super::load;
use super::system::System;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_alert_fires_for_its_fault_and_every_panel_has_data() {
    let system = System::start().await;
    let (steady, frozen, doomed) = futures::join!(system.worker(), system.worker(), system.worker());
    // Nothing is scraped yet.
    is_told(&system, "MillhandUnwatched", "page").await;
    system.watch(&[&steady, &frozen, &doomed]).await;
    a_quiet_day(&system).await;
    assert_eq!(system.prometheus.fired().await, ["MillhandUnwatched"], "nothing else is wrong yet");

    jobs_fail(&system).await;
    money_is_spent(&system).await;
    pools_refuse(&system).await;
    readers_are_hurt(&system).await;
    workers_die(&system, &steady, frozen, doomed).await;
    load::too_much_waits(&system, &steady).await;
    nobody_works(&system, steady).await;
    load::nobody_decides(&system).await;
    load::a_tenant_starves(&system).await;
    every_query_has_data(&system.prometheus).await;
    let fired = system.prometheus.fired().await;
    for (alert, _) in super::alerts() {
        assert!(fired.contains(&alert), "{alert} never fired");
    }
}

/// A little of everything that a dashboard shows.
async fn a_quiet_day(system: &System) {
    let round = AtomicU32::new(0);
    system
        .shows("millhand_cache_results_total", async || {
            let question = format!("再问{} tokens=5", round.fetch_add(1, Ordering::Relaxed));
            for _ in 0..2 {
                assert_eq!(system.ask("cold", &question).await["status"], "completed");
            }
        })
        .await;
    let job = system.api.client.chat("读 tokens=5").await;
    system.api.client.sse(&job, 1, |_| false).await;
}

async fn jobs_fail(system: &System) {
    let provider = &system.provider;
    let refused = json!([{"kind": "error", "status": 400, "when": "refused"}]);
    provider.control(json!({"physics": {"first_token": "10s"}, "faults": refused})).await;
    system
        .fires(&["MillhandJobsFail", "MillhandSuccessBelowTarget"], async || {
            let asked = json!({"input": "silent", "agent": "chat", "deadline_seconds": 1});
            let job = system.api.client.submit(asked).await;
            assert_eq!(system.api.client.finished(&job).await["status"], "expired");
        })
        .await;
    provider.control(json!({"physics": {"first_token": "0ms"}})).await;
    system
        .fires(&["MillhandDeadLetters"], async || {
            assert_eq!(system.ask("chat", "refused").await["status"], "failed");
        })
        .await;
    provider.control(json!({"physics": {"first_token": "1600ms"}, "faults": []})).await;
    system
        .fires(&["MillhandFirstTokenSlow"], async || {
            assert_eq!(system.ask("chat", "慢 tokens=2").await["status"], "completed");
        })
        .await;
    provider.control(json!({"physics": {"first_token": "0ms"}})).await;
}

async fn money_is_spent(system: &System) {
    let asked = |tokens: u32| json!({"input": format!("贵 tokens={tokens}"), "agent": "dear", "max_output_tokens": tokens});
    system
        .fires(&["MillhandCostHigh"], async || {
            let job = system.api.client.submit(asked(5)).await;
            assert_eq!(system.api.client.finished(&job).await["usage"]["cost_usd"], 0.5);
        })
        .await;
    system
        .fires(&["MillhandBudgetRefuses"], async || {
            let job = system.api.client.submit(asked(100)).await;
            assert_eq!(system.api.client.finished(&job).await["error"]["code"], "budget_exceeded");
        })
        .await;
}

async fn pools_refuse(system: &System) {
    system
        .fires(&["MillhandLimiterRefused"], async || {
            let once = json!([{"kind": "rate_limited", "when": "tight", "times": 1, "retry_after": 0.1}]);
            system.provider.faults(once).await;
            assert_eq!(system.ask("tight", "tight tokens=2").await["status"], "completed");
        })
        .await;
    system.provider.faults(json!([{"kind": "insufficient_quota", "when": "sick", "times": 1}])).await;
    system
        .fires(&["MillhandPoolShut"], async || {
            assert_eq!(system.ask("sick", "sick tokens=2").await["status"], "completed");
        })
        .await;
    is_told(system, "MillhandPoolShut", "ticket").await;
    // One call at a time: the other job is given back, and comes again.
    system
        .shows("millhand_limiter_wait_seconds_count", async || {
            let both = ["一 tokens=10 gap=50", "二 tokens=10 gap=50"].map(|text| system.ask("tight", text));
            assert!(join_all(both).await.iter().all(|job| job["status"] == "completed"));
        })
        .await;
    system
        .shows("millhand_model_retries_total", async || {
            system.provider.faults(json!([{"kind": "error", "times": 1, "when": "hiccup"}])).await;
            assert_eq!(system.ask("chat", "hiccup tokens=2").await["status"], "completed");
        })
        .await;
    // What it cost is not told either.
    system
        .shows("millhand_model_stream_cuts_total", async || {
            system.provider.faults(json!([{"kind": "cut", "after": 3, "times": 1, "when": "snap"}])).await;
            assert_eq!(system.ask("chat", "snap tokens=8 gap=10").await["status"], "completed");
        })
        .await;
}

/// Alertmanager has it, for this receiver.
async fn is_told(system: &System, alert: &str, receiver: &str) {
    wait_for("Alertmanager to know", async || {
        (system.prometheus.told(alert).await == [receiver]).then_some(())
    })
    .await;
}

async fn readers_are_hurt(system: &System) {
    let client = &system.api.client;
    // More streams than the ingress serves.
    let long = client.chat("长 tokens=600 gap=100").await;
    let open = || client.sse(&long, 0, |_| false);
    let too_many = async {
        client.reaches(&long, "in_progress").await;
        wait_for("both streams to be open", async || {
            (system.api.metric("millhand_api_stream_readers").await == 2.0).then_some(())
        })
        .await;
        system.fires(&["MillhandApiErrors"], async || assert!(open().await.is_empty())).await;
        client.post(&format!("/v1/jobs/{long}/cancel"), &json!({})).await;
    };
    futures::join!(open(), open(), too_many);
    // An event that is gone from the store.
    system
        .fires(&["MillhandStreamGap"], async || {
            let job = client.chat("洞 tokens=2").await;
            client.finished(&job).await;
            system.cluster.loses_event(&job, 2);
            assert_eq!(client.sse(&job, 0, |_| false).await.len(), 1, "it ends before the gap");
        })
        .await;
}

async fn workers_die(system: &System, steady: &Server, frozen: Server, doomed: Server) {
    let client = &system.api.client;
    // More than one worker has room for.
    let questions: Vec<String> = (0..10).map(|n| format!("死{n} tokens=40 gap=50")).collect();
    let jobs = join_all(questions.iter().map(|question| client.chat(question))).await;
    busy(&doomed).await;
    doomed.kill9().await;
    system.fires(&["MillhandTakeovers", "MillhandDown"], async || {}).await;
    join_all(jobs.iter().map(|job| client.finished(job))).await;
    system.watch(&[steady, &frozen]).await;

    // One that was frozen for longer than its lease knows so, and writes nothing: on a busy machine that happens.
    system
        .fires(&["MillhandFencedWrites"], async || {
            let jobs = join_all((0..6).map(|_| client.chat("冻 tokens=100 gap=50"))).await;
            busy(&frozen).await;
            frozen.signal(Signal::STOP);
            wait_for("somebody else to have its jobs", async || {
                let records = join_all(jobs.iter().map(|job| client.job(job))).await;
                records.iter().any(|job| job["attempt"] == 2).then_some(())
            })
            .await;
            // It goes on as if it still had them: its lease would have been good for some seconds more.
            frozen.signal(Signal::CONT);
            join_all(jobs.iter().map(|job| client.finished(job))).await;
        })
        .await;
    frozen.sigterm().await;
}

async fn busy(worker: &Server) {
    wait_for("the worker to be busy", async || {
        (worker.metric("millhand_worker_running_jobs").await > 0.0).then_some(())
    })
    .await;
}

async fn nobody_works(system: &System, last: Server) {
    last.sigterm().await;
    system.watch(&[]).await;
    let client = &system.api.client;
    let job = client.chat("等 tokens=2").await;
    system.fires(&["MillhandNoWorkers"], async || {}).await;
    system.fires(&["MillhandQueueOld"], async || {}).await;
    let late = system.worker().await;
    system.watch(&[&late]).await;
    assert_eq!(client.finished(&job).await["status"], "completed");
    // Nobody gets hints while the broker is frozen; the store does without.
    system
        .fires(&["MillhandHintsLost"], async || {
            system.cluster.broker(Signal::STOP);
            let job = client.chat("暂 tokens=2").await;
            assert_eq!(client.finished(&job).await["status"], "completed");
            system.cluster.broker(Signal::CONT);
        })
        .await;
}
