//! The admin listener: queues, tenants, workers, dead letters, drain and backup, for operators.

pub(crate) mod metrics;
pub(crate) mod tenants;

use std::path::PathBuf;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, StatusCode};
use millhand_common::model::{JobId, Lane, Timestamp, WorkerId};
use millhand_common::ports::{DeadLetter, LaneDepth, Level, Replayed, WorkerInfo};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::hints::publish_now;
use crate::json;
use crate::params::{ListParams, NoParams, Params, cursor, page_limit, path_id};
use crate::state::{AdminState, ask};
use crate::view::{JobView, ListView};

/// Longest wait for facts that only decorate an answer.
const FACT_TIMEOUT: Duration = Duration::from_secs(1);
/// What comes due within this is shown as due soon: as long as a worker of this machine takes to start.
const SOON: Duration = Duration::from_secs(1);
const BODY_BYTES: usize = 64 * 1024;
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

fn dead_letter_not_found() -> ApiError {
    ApiError::not_found("dead_letter_not_found", "There is no such dead letter.")
}

#[derive(Serialize, ToSchema)]
pub(crate) struct QueueView {
    #[serde(flatten)]
    #[schema(value_type = Object)]
    depth: LaneDepth,
    /// Hints as the broker counts them; null when it does not answer.
    broker_depth: Option<u64>,
}

/// Ready, waiting and running work of each lane.
pub(crate) async fn queues(State(admin): State<AdminState>) -> Result<Json<ListView<QueueView>>, ApiError> {
    let mut views = Vec::new();
    for depth in ask(admin.store.depth(SOON)).await? {
        let counted = tokio::time::timeout(FACT_TIMEOUT, admin.broker.depth(depth.lane)).await;
        views.push(QueueView { depth, broker_depth: counted.ok().and_then(Result::ok) });
    }
    Ok(Json(ListView::new(views, None)))
}

/// The quota of each limited model: what it lets through in the long run, what of it was used in the last minute,
/// what could start now, and how each of its limits stands. Null where the limiter does not answer, or nothing is
/// known yet.
pub(crate) async fn limits(State(admin): State<AdminState>) -> Json<Value> {
    let pools = admin.limiters.iter().map(|pool| async move {
        let limiter = &pool.limiter;
        let asked = async { tokio::join!(limiter.quota(), limiter.forecast(), limiter.levels()) };
        let (quota, forecast, levels) = match tokio::time::timeout(FACT_TIMEOUT, asked).await {
            Ok((quota, forecast, levels)) => (quota.ok().flatten(), forecast.ok(), levels.ok()),
            Err(_) => (None, None, None),
        };
        let limits = levels.as_ref().map(|levels| levels.limits.iter().map(level_view).collect::<Vec<_>>());
        json!({
            "pool": pool.name,
            "limit": quota.map(|quota| quota.limit.as_str()),
            "calls_per_second": quota.map(|quota| quota.calls_per_second),
            "used": quota.map(|quota| quota.used),
            "calls_now": forecast.map(|forecast| forecast.calls),
            "limits": limits,
            "calls_under_way": levels.as_ref().map(|levels| levels.active),
            "opens_in_ms": forecast.map(|forecast| u64::try_from(forecast.opens_in.as_millis()).ok()),
        })
    });
    let pools = futures::future::join_all(pools).await;
    Json(json!({ "data": pools, "next_cursor": null }))
}

fn level_view(level: &Level) -> Value {
    json!({
        "dimension": level.limit.dimension(),
        "limit": level.units,
        "left": level.left,
        "debt": level.debt,
        "used": level.used,
    })
}

/// The workers that said they live.
pub(crate) async fn workers(State(admin): State<AdminState>) -> Result<Json<Value>, ApiError> {
    let workers: Vec<WorkerInfo> = ask(admin.store.workers()).await?;
    Ok(Json(json!({ "data": workers, "next_cursor": null })))
}

/// Asks a worker to drain, wherever it runs: it finishes what it runs and pulls no more.
pub(crate) async fn drain_worker(
    State(admin): State<AdminState>,
    Params(NoParams {}): Params<NoParams>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let not_found = || {
        ApiError::not_found("worker_not_found", "No such worker lives: GET /v1/workers lists those that do.")
    };
    let id: WorkerId = path_id(&id, not_found)?;
    if !ask(admin.store.drain_worker(id)).await? {
        return Err(not_found());
    }
    Ok((StatusCode::ACCEPTED, Json(json!({ "id": id, "status": "draining" }))).into_response())
}

/// Nothing of the lane is claimed until it is resumed; accepts go on.
pub(crate) async fn pause_lane(
    State(admin): State<AdminState>,
    Params(NoParams {}): Params<NoParams>,
    Path(lane): Path<String>,
) -> Result<Json<Value>, ApiError> {
    set_paused(&admin, &lane, true).await
}

pub(crate) async fn resume_lane(
    State(admin): State<AdminState>,
    Params(NoParams {}): Params<NoParams>,
    Path(lane): Path<String>,
) -> Result<Json<Value>, ApiError> {
    set_paused(&admin, &lane, false).await
}

async fn set_paused(admin: &AdminState, lane: &str, paused: bool) -> Result<Json<Value>, ApiError> {
    let known = Lane::ALL.into_iter().find(|known| known.as_str() == lane);
    let lane = known.ok_or_else(|| {
        ApiError::not_found("lane_not_found", "There is no such lane: the lanes are interactive and batch.")
    })?;
    ask(admin.store.pause_lane(lane, paused)).await?;
    Ok(Json(json!({ "lane": lane, "paused": paused })))
}

#[derive(Serialize, ToSchema)]
pub(crate) struct DeadLetterView {
    job: JobView,
    #[schema(value_type = String)]
    buried_at: Timestamp,
    #[schema(value_type = Option<String>)]
    replayed_as: Option<JobId>,
}

impl From<DeadLetter> for DeadLetterView {
    fn from(letter: DeadLetter) -> Self {
        let DeadLetter { job, buried_at, replayed_as } = letter;
        Self { job: job.into(), buried_at, replayed_as }
    }
}

/// Jobs that failed for good, newest first.
pub(crate) async fn dead_letters(
    State(admin): State<AdminState>,
    Params(params): Params<ListParams>,
) -> Result<Json<ListView<DeadLetterView>>, ApiError> {
    let limit = page_limit(params.limit)?;
    let before = cursor::decode(params.cursor.as_deref())?;
    // One more tells whether there is a next page.
    let mut letters = ask(admin.store.dead_letters(limit + 1, before)).await?;
    let more = limit < letters.len();
    letters.truncate(limit);
    let next = if more { letters.last().map(|letter| letter.job.spec.id.to_string()) } else { None };
    Ok(Json(ListView::new(letters.into_iter().map(DeadLetterView::from).collect(), next)))
}

/// Makes a new job of a dead letter: 202, and 200 with the same job the second time.
pub(crate) async fn replay(
    State(admin): State<AdminState>,
    Params(NoParams {}): Params<NoParams>,
    Path(id): Path<String>,
) -> Result<Response, ApiError> {
    let id = path_id(&id, dead_letter_not_found)?;
    match ask(admin.store.replay(id)).await? {
        Replayed::Job(job, made) => {
            if made {
                publish_now(&*admin.broker, &*admin.store, &job).await;
            }
            let status = if made { StatusCode::ACCEPTED } else { StatusCode::OK };
            Ok((status, Json(JobView::from(*job))).into_response())
        }
        Replayed::Unknown => Err(dead_letter_not_found()),
    }
}

/// Forgets a dead letter; its job stays, failed.
pub(crate) async fn drop_dead_letter(
    State(admin): State<AdminState>,
    Params(NoParams {}): Params<NoParams>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let id = path_id(&id, dead_letter_not_found)?;
    if ask(admin.store.drop_dead_letter(id)).await? {
        Ok(StatusCode::NO_CONTENT)
    } else {
        Err(dead_letter_not_found())
    }
}

/// Readiness off, and no more work is pulled; what runs goes on.
pub(crate) async fn drain(
    State(admin): State<AdminState>,
    Params(NoParams {}): Params<NoParams>,
) -> Response {
    admin.stage.drain();
    if let Some(on_drain) = &admin.on_drain {
        on_drain();
    }
    (StatusCode::ACCEPTED, Json(json!({ "status": "draining" }))).into_response()
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct BackupBody {
    dir: PathBuf,
}

/// Copies the store into a folder of this machine while it runs.
pub(crate) async fn backup(
    State(admin): State<AdminState>,
    Params(NoParams {}): Params<NoParams>,
    headers: HeaderMap,
    body: Body,
) -> Result<Json<Value>, ApiError> {
    json::check_json(&headers)?;
    json::check_headers(&headers, BODY_BYTES)?;
    let body = json::read_body(body, BODY_BYTES, BODY_TIMEOUT).await?;
    let BackupBody { dir } = json::typed(json::parse(&body)?)?;
    let Some(backup) = &admin.backup else {
        let detail = "This store is not backed up through Millhand: use its own tools.";
        return Err(ApiError::new(StatusCode::UNPROCESSABLE_ENTITY, "backup_not_supported", detail));
    };
    if !dir.is_absolute() {
        return Err(ApiError::invalid(
            "`dir` is an absolute path: the server has a working folder of its own.",
        ));
    }
    match backup(dir.clone()).await {
        Ok(()) => Ok(Json(json!({ "dir": dir }))),
        Err(reason) => Err(ApiError::conflict("backup_failed", reason)),
    }
}
