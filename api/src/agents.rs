//! What one can ask, and what it has cost.

use axum::Json;
use axum::extract::State;
use millhand_common::model::{AgentKind, AgentName, Usd};
use millhand_common::ports::{UsageBy, UsageRow};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use crate::access::Tenant;
use crate::error::{ApiError, Problem};
use crate::params::{ListParams, Params, cursor, page_limit};
use crate::state::{Api, ask};
use crate::view::ListView;

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Agent)]
pub(crate) struct AgentView {
    #[schema(value_type = String)]
    name: AgentName,
    kind: AgentKind,
    description: String,
}

/// List the agents one can ask, by name.
#[utoipa::path(get, path = "/v1/agents", tag = "agents", params(ListParams),
    responses((status = 200, body = ListView<AgentView>), (status = 400, body = Problem), (status = 422, body = Problem)))]
pub(crate) async fn agents(
    State(api): State<Api>,
    Params(params): Params<ListParams>,
) -> Result<Json<ListView<AgentView>>, ApiError> {
    let limit = page_limit(params.limit)?;
    let after: Option<String> = cursor::decode(params.cursor.as_deref())?;
    let mut agents: Vec<_> = api.ports.agents.iter().collect();
    agents.sort_by(|a, b| a.name.cmp(&b.name));
    agents.retain(|agent| after.as_deref().is_none_or(|after| after < agent.name.as_str()));
    let more = limit < agents.len();
    agents.truncate(limit);
    let next = if more { agents.last().map(|agent| agent.name.to_string()) } else { None };
    let views = agents.into_iter().map(|agent| AgentView {
        name: agent.name.clone(),
        kind: agent.kind,
        description: agent.description.clone(),
    });
    Ok(Json(ListView::new(views.collect(), next)))
}

/// How usage is summed.
#[derive(Clone, Copy, Debug, Default, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum By {
    #[default]
    Day,
    Tenant,
    Model,
}

#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct UsageParams {
    #[param(inline)]
    by: Option<By>,
}

/// Calls, tokens and money of all model calls that are over, also of jobs that are no longer kept, by the day
/// (UTC) on which they began. Each row is named by `day`, `tenant` or `model`.
#[utoipa::path(get, path = "/v1/usage", tag = "agents", params(UsageParams),
    responses((status = 200, description = "`{\"data\": [{\"day\", \"calls\", \"input_tokens\", \"output_tokens\", \"cost_usd\"}]}`", body = Object),
        (status = 422, body = Problem), (status = 503, body = Problem)))]
pub(crate) async fn usage(
    State(api): State<Api>,
    Tenant(tenant): Tenant,
    Params(params): Params<UsageParams>,
) -> Result<Json<Value>, ApiError> {
    let (by, name) = match params.by.unwrap_or_default() {
        By::Day => (UsageBy::Day, "day"),
        By::Tenant => (UsageBy::Tenant, "tenant"),
        By::Model => (UsageBy::Model, "model"),
    };
    let rows = ask(api.ports.reader.usage(Some(&tenant), by)).await?;
    let rows = rows.into_iter().map(|row| {
        let UsageRow { key, calls, input_tokens, output_tokens, nano_usd } = row;
        let cost_usd = Usd::from_nano(nano_usd).as_dollars();
        json!({ name: key, "calls": calls, "input_tokens": input_tokens, "output_tokens": output_tokens, "cost_usd": cost_usd })
    });
    Ok(Json(json!({ "data": rows.collect::<Vec<_>>() })))
}
