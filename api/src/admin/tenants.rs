//! GET /v1/tenants: who has how much waiting and running.

use std::cmp::Reverse;

use axum::Json;
use axum::extract::State;
use millhand_common::ports::TenantLoad;
use serde::Deserialize;
use serde_json::{Value, json};

use crate::error::ApiError;
use crate::params::{Params, page_limit};
use crate::state::{AdminState, ask};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TenantsParams {
    /// 1-100, default 20.
    limit: Option<u64>,
}

/// The tenants that have most, and what the others have together: there is no page after it.
pub(crate) async fn list(
    State(admin): State<AdminState>,
    Params(params): Params<TenantsParams>,
) -> Result<Json<Value>, ApiError> {
    let limit = page_limit(params.limit)?;
    Ok(Json(most_first(ask(admin.store.tenants()).await?, limit)))
}

fn most_first(mut tenants: Vec<TenantLoad>, limit: usize) -> Value {
    tenants.sort_by_cached_key(|tenant| {
        (Reverse(tenant.waiting + tenant.running), tenant.tenant.as_str().to_owned())
    });
    let others = tenants.split_off(limit.min(tenants.len()));
    let sum = |of: fn(&TenantLoad) -> u64| others.iter().map(of).sum::<u64>();
    json!({
        "data": tenants,
        "others": {
            "tenants": others.len(),
            "waiting": sum(|tenant| tenant.waiting),
            "running": sum(|tenant| tenant.running),
        },
        "next_cursor": null,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn those_with_most_come_first_and_the_rest_is_summed() {
        let tenant = |name: &str, waiting, running| TenantLoad {
            tenant: name.parse().unwrap(),
            weight: 1,
            waiting,
            running,
            at_cap: false,
            unserved_ms: 0,
        };
        let all = vec![tenant("a", 1, 0), tenant("c", 2, 1), tenant("b", 3, 0), tenant("d", 0, 2)];
        let shown = most_first(all.clone(), 2);
        let names = |shown: &Value| -> Vec<String> {
            let tenants = shown["data"].as_array().unwrap().iter();
            tenants.map(|tenant| tenant["tenant"].as_str().unwrap().to_owned()).collect()
        };
        assert_eq!(names(&shown), ["b", "c"]);
        assert_eq!(shown["others"], json!({"tenants": 2, "waiting": 1, "running": 2}));
        let shown = most_first(all, 20);
        assert_eq!(names(&shown), ["b", "c", "d", "a"]);
        assert_eq!(shown["others"], json!({"tenants": 0, "waiting": 0, "running": 0}));
    }
}
