//! GET /metrics: what this process counted, and the whole system as the store sees it now.

use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};
use metrics::{counter, gauge};
use millhand_common::model::Lane;
use millhand_common::ports::{LaneDepth, Levels, TenantLoad, WorkerInfo};
use millhand_common::telemetry;
use tokio::time::timeout;

use super::{FACT_TIMEOUT, SOON};
use crate::state::AdminState;

/// All metrics, with queues, tenants and workers as they are now.
pub(crate) async fn text(State(admin): State<AdminState>) -> Response {
    let hints = Lane::ALL.map(|lane| timeout(FACT_TIMEOUT, admin.broker.depth(lane)));
    let levels = admin.limiters.iter().map(|pool| timeout(FACT_TIMEOUT, pool.limiter.levels()));
    let (lanes, tenants, workers, hints, levels) = tokio::join!(
        timeout(FACT_TIMEOUT, admin.store.depth(SOON)),
        timeout(FACT_TIMEOUT, admin.store.tenants()),
        timeout(FACT_TIMEOUT, admin.store.workers()),
        futures::future::join_all(hints),
        futures::future::join_all(levels),
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
    for (pool, levels) in admin.limiters.iter().zip(levels) {
        if let Ok(Ok(levels)) = levels {
            show_levels(&pool.name, &levels);
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
    let (least, most) = parts_of_shares(tenants);
    gauge!(telemetry::TENANT_SHARE, "of" => "least").set(least);
    gauge!(telemetry::TENANT_SHARE, "of" => "most").set(most);
}

/// Of the tenants that compete, what the one runs that has least and the one that has most, as multiples of what
/// their weights give them.
fn parts_of_shares(tenants: &[TenantLoad]) -> (f64, f64) {
    let compete: Vec<_> = tenants.iter().filter(|tenant| 0 < tenant.waiting && !tenant.at_cap).collect();
    let running: u64 = compete.iter().map(|tenant| tenant.running).sum();
    let weights: u64 = compete.iter().map(|tenant| u64::from(tenant.weight)).sum();
    if compete.len() < 2 || running == 0 {
        return (1.0, 1.0);
    }
    let parts = compete.iter().map(|tenant| {
        let (part, share) = (as_gauge(tenant.running) / as_gauge(running), f64::from(tenant.weight));
        part / share * as_gauge(weights)
    });
    parts.fold((f64::INFINITY, 0.0), |(least, most): (f64, f64), part| (least.min(part), most.max(part)))
}

fn show_levels(pool: &str, levels: &Levels) {
    for level in &levels.limits {
        let set = |name: &'static str, value| {
            gauge!(name, "pool" => pool.to_owned(), "dimension" => level.limit.dimension()).set(value);
        };
        set(telemetry::LIMITER_LIMIT, as_gauge(level.units));
        set(telemetry::LIMITER_LEFT, as_gauge(level.left));
        set(telemetry::LIMITER_DEBT, as_gauge(level.debt));
        set(telemetry::LIMITER_USED, level.used);
    }
    gauge!(telemetry::LIMITER_ACTIVE, "pool" => pool.to_owned()).set(as_gauge(levels.active));
    counter!(telemetry::LIMITER_EXPIRED, "pool" => pool.to_owned()).absolute(levels.expired);
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_compared_among_those_who_compete() {
        let tenant = |name: &str, weight, waiting, running| TenantLoad {
            tenant: name.parse().unwrap(),
            weight,
            waiting,
            running,
            at_cap: name == "capped",
            unserved_ms: 0,
        };
        let others = [tenant("idle", 1, 0, 5), tenant("capped", 1, 9, 7)];
        let among = |mut some: Vec<TenantLoad>| {
            some.extend(others.clone());
            parts_of_shares(&some)
        };
        assert_eq!(among(vec![]), (1.0, 1.0));
        assert_eq!(among(vec![tenant("a", 1, 5, 4)]), (1.0, 1.0));
        assert_eq!(among(vec![tenant("a", 1, 5, 0), tenant("b", 1, 5, 0)]), (1.0, 1.0));
        assert_eq!(among(vec![tenant("a", 1, 5, 2), tenant("b", 3, 5, 6)]), (1.0, 1.0));
        assert_eq!(among(vec![tenant("a", 1, 5, 6), tenant("b", 3, 5, 2)]), (1.0 / 3.0, 3.0));
        assert_eq!(among(vec![tenant("a", 1, 5, 4), tenant("b", 1, 5, 0)]), (0.0, 2.0));
    }
}
