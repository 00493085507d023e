//! GET /metrics: what this process counted, and the whole system as the store sees it now.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use metrics::gauge;
use millhand_common::model::Lane;
use millhand_common::ports::{LaneDepth, TenantLoad, WorkerInfo};
use millhand_common::telemetry;
use tokio::time::timeout;

use super::{FACT_TIMEOUT, SOON};
use crate::state::AdminState;

/// All metrics, with queues, tenants and workers as they are now.
pub(crate) async fn text(State(admin): State<AdminState>) -> Response {
    let hints = Lane::ALL.map(|lane| timeout(FACT_TIMEOUT, admin.broker.depth(lane)));
    let quotas = admin.limiters.iter().map(|pool| timeout(FACT_TIMEOUT, pool.limiter.quota()));
    let (lanes, tenants, workers, hints, quotas) = tokio::join!(
        timeout(FACT_TIMEOUT, admin.store.depth(SOON)),
        timeout(FACT_TIMEOUT, admin.store.tenants()),
        timeout(FACT_TIMEOUT, admin.store.workers()),
        futures::future::join_all(hints),
        futures::future::join_all(quotas),
    );
    if let Ok(Ok(lanes)) = lanes {
        show_lanes(&lanes);
    }
    if let Ok(Ok(tenants)) = tenants {
        show_tenants(&tenants);
    }
    if let Ok(Ok(workers)) = workers {
        show_workers(&workers);
    }
    for (lane, counted) in Lane::ALL.into_iter().zip(hints) {
        if let Ok(Ok(count)) = counted {
            gauge!(telemetry::BROKER_HINTS, "lane" => lane.as_str()).set(as_gauge(count));
        }
    }
    for (pool, quota) in admin.limiters.iter().zip(quotas) {
        if let Ok(Ok(Some(quota))) = quota {
            gauge!(telemetry::LIMITER_USED, "pool" => pool.name.clone()).set(quota.used);
        }
    }
    let kind = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");
    ([(header::CONTENT_TYPE, kind)], (admin.metrics)()).into_response()
}

fn show_lanes(lanes: &[LaneDepth]) {
    for LaneDepth { lane, ready, oldest_ready_ms, .. } in lanes {
        gauge!(telemetry::QUEUE_DEPTH, "lane" => lane.as_str()).set(as_gauge(*ready));
        gauge!(telemetry::QUEUE_OLDEST_AGE, "lane" => lane.as_str()).set(seconds(*oldest_ready_ms));
    }
}

/// Numbers of them, never their names.
fn show_tenants(tenants: &[TenantLoad]) {
    let count = |state: &'static str, is_in: fn(&TenantLoad) -> bool| {
        let count = tenants.iter().filter(|tenant| is_in(tenant)).count();
        gauge!(telemetry::TENANTS, "state" => state).set(as_gauge(count as u64));
    };
    count("waiting", |tenant| 0 < tenant.waiting);
    count("running", |tenant| 0 < tenant.running);
    count("capped", |tenant| 0 < tenant.waiting && tenant.at_cap);
    let longest = tenants.iter().map(|tenant| tenant.unserved_ms).max().unwrap_or(0);
    gauge!(telemetry::TENANT_UNSERVED).set(seconds(longest));
}

fn show_workers(workers: &[WorkerInfo]) {
    for (state, draining) in [("working", false), ("draining", true)] {
        let count = workers.iter().filter(|worker| worker.draining == draining).count();
        gauge!(telemetry::WORKERS_LIVE, "state" => state).set(as_gauge(count as u64));
    }
}

fn seconds(millis: u64) -> f64 {
    Duration::from_millis(millis).as_secs_f64()
}

#[expect(clippy::cast_precision_loss, reason = "a gauge is a float; 2^53 jobs do not fit any store")]
fn as_gauge(count: u64) -> f64 {
    count as f64
}
