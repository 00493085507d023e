//! Rows of `jobs` and `events`, and their checksums.

use std::path::Path;

use rusqlite::{Connection, Row, params};
use serde::Deserialize;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::model::{Event, Job, JobId, JobSpec, Lane, Status, TenantId, Timestamp};

use super::super::super::ending::Outcome;
use super::super::folder::OpenError;
use super::super::schema::LIVE;

/// Columns that [`job`] reads, in its order.
pub(super) const JOB: &str = "version, status, attempt, deaths, epoch, created_at, started_at, finished_at,
    expires_at, cancel_requested, wait, spec, spec_crc, result, result_crc,
    coalesce(last_seq, (SELECT max(seq) FROM events WHERE events.job = jobs.version), 0)";

/// The job of a row of [`JOB`].
pub(super) fn job(row: &Row<'_>) -> rusqlite::Result<Job> {
    let version: u64 = row.get(0)?;
    let spec: JobSpec = guarded(row, 11, 12, version, "spec")?.ok_or_else(|| damaged(version, "spec"))?;
    let outcome: Outcome = guarded(row, 13, 14, version, "result")?.unwrap_or_default();
    let wait: Option<String> = row.get(10)?;
    Ok(Job {
        spec,
        version,
        status: status(row.get(1)?).ok_or_else(|| damaged(version, "status"))?,
        attempt: row.get(2)?,
        deaths: row.get(3)?,
        epoch: row.get(4)?,
        created_at: Timestamp::from_millis(row.get(5)?),
        started_at: row.get::<_, Option<u64>>(6)?.map(Timestamp::from_millis),
        finished_at: row.get::<_, Option<u64>>(7)?.map(Timestamp::from_millis),
        expires_at: Timestamp::from_millis(row.get(8)?),
        cancel_requested: row.get(9)?,
        wait: wait.and_then(|text| serde_json::from_str(&text).ok()),
        output: outcome.output,
        usage: outcome.usage,
        error: outcome.error,
        last_seq: row.get(15)?,
    })
}

fn guarded<T: for<'de> Deserialize<'de>>(
    row: &Row<'_>,
    text: usize,
    crc: usize,
    version: u64,
    what: &str,
) -> rusqlite::Result<Option<T>> {
    let Some(text) = row.get_ref(text)?.as_bytes_or_null()? else { return Ok(None) };
    if row.get::<_, u32>(crc)? != crc32fast::hash(text) {
        return Err(damaged(version, what));
    }
    serde_json::from_slice(text).map(Some).map_err(|_| damaged(version, what))
}

/// The event of a row `seq, attempt, at, kind, data, crc` of the log of `job`.
pub(super) fn event(job: JobId, row: &Row<'_>) -> rusqlite::Result<Event> {
    let seq: u64 = row.get(0)?;
    let (kind, data): (String, String) = (row.get(3)?, row.get(4)?);
    if row.get::<_, u32>(5)? != event_crc(seq, &kind, &data) {
        return Err(damaged_event(job, seq));
    }
    Ok(Event {
        v: Event::VERSION,
        seq,
        kind,
        job_id: job,
        attempt: row.get(1)?,
        at: Timestamp::from_millis(row.get(2)?),
        data: RawValue::from_string(data).map_err(|_| damaged_event(job, seq))?,
    })
}

/// Columns that [`event`] reads.
pub(super) const EVENT: &str = "seq, attempt, at, kind, data, crc";

/// Appends one event to the log of the job numbered `version`.
pub(super) fn write_event(db: &Connection, version: u64, event: &Event) -> rusqlite::Result<()> {
    let crc = event_crc(event.seq, &event.kind, event.data.get());
    db.prepare_cached(
        "INSERT INTO events (job, seq, attempt, at, kind, data, crc) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7)",
    )?
    .execute(params![
        version,
        event.seq,
        event.attempt,
        event.at.as_millis(),
        event.kind,
        event.data.get(),
        crc
    ])?;
    Ok(())
}

/// The whole log of a job, as the open transaction sees it.
pub(super) fn whole_log(db: &Connection, job: JobId, version: u64) -> rusqlite::Result<Vec<Event>> {
    log_from(db, job, version, 1)
}

/// The same from one event on.
pub(super) fn log_from(
    db: &Connection,
    job: JobId,
    version: u64,
    first_seq: u64,
) -> rusqlite::Result<Vec<Event>> {
    db.prepare_cached(
        "SELECT seq, attempt, at, kind, data, crc FROM events WHERE job = ?1 AND seq >= ?2 ORDER BY seq",
    )?
    .query_map([version, first_seq], |row| event(job, row))?
    .collect()
}

/// The job numbered `version`, as the open transaction sees it.
pub(super) fn read_job(db: &Connection, version: u64) -> rusqlite::Result<Job> {
    db.prepare_cached(&format!("SELECT {JOB} FROM jobs WHERE version = ?1"))?.query_row([version], job)
}

fn event_crc(seq: u64, kind: &str, data: &str) -> u32 {
    let mut hasher = crc32fast::Hasher::new();
    hasher.update(&seq.to_le_bytes());
    hasher.update(kind.as_bytes());
    hasher.update(data.as_bytes());
    hasher.finalize()
}

fn damaged(version: u64, what: &str) -> rusqlite::Error {
    corrupt(format!("jobs.db, table jobs, row {version}, {what}"))
}

fn damaged_event(job: JobId, seq: u64) -> rusqlite::Error {
    corrupt(format!("jobs.db, table events, {job}, seq {seq}"))
}

fn corrupt(place: String) -> rusqlite::Error {
    rusqlite::Error::SqliteFailure(rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT), Some(place))
}

/// Refuses a damaged file, naming the place. Files up to `whole_bytes` are read whole; of larger ones
/// the jobs that are still open and their logs, the rest when it is asked for.
pub(super) fn check(db: &Connection, file: &Path, whole_bytes: u64) -> Result<(), OpenError> {
    let failed = |err: rusqlite::Error| OpenError::Damaged {
        place: file.display().to_string(),
        what: err.to_string(),
    };
    let whole = std::fs::metadata(file).map_or(0, |meta| meta.len()) <= whole_bytes;
    if whole {
        let verdict: String = db.query_row("PRAGMA quick_check(1)", [], |row| row.get(0)).map_err(failed)?;
        if verdict != "ok" {
            return Err(OpenError::Damaged { place: file.display().to_string(), what: verdict });
        }
    }
    let which = if whole { "true" } else { LIVE };
    let jobs = format!("SELECT {JOB} FROM jobs WHERE {which} ORDER BY version");
    let mut jobs = db.prepare(&jobs).map_err(failed)?;
    let mut events =
        db.prepare(&format!("SELECT {EVENT} FROM events WHERE job = ?1 ORDER BY seq")).map_err(failed)?;
    let mut rows = jobs.query([]).map_err(failed)?;
    while let Some(row) = rows.next().map_err(failed)? {
        let job = job(row).map_err(failed)?;
        let mut log = events.query([job.version]).map_err(failed)?;
        while let Some(row) = log.next().map_err(failed)? {
            event(job.spec.id, row).map_err(failed)?;
        }
    }
    Ok(())
}

/// Statuses as the table keeps them.
pub(super) fn status_code(status: Status) -> i64 {
    match status {
        Status::Queued => 0,
        Status::InProgress => 1,
        Status::Completed => 2,
        Status::Incomplete => 3,
        Status::Expired => 4,
        Status::Failed => 5,
        Status::Cancelled => 6,
    }
}

pub(super) fn status(code: i64) -> Option<Status> {
    Status::ALL.into_iter().find(|status| status_code(*status) == code)
}

pub(super) fn lane_code(lane: Lane) -> i64 {
    match lane {
        Lane::Interactive => 0,
        Lane::Batch => 1,
    }
}

pub(super) fn lane(code: i64) -> Lane {
    if code == lane_code(Lane::Batch) { Lane::Batch } else { Lane::Interactive }
}

pub(super) fn job_id(uuid: Uuid) -> JobId {
    JobId::from_uuid(uuid)
}

pub(super) fn tenant(text: String) -> rusqlite::Result<TenantId> {
    TenantId::try_from(text).map_err(|_| corrupt("jobs.db, table jobs, a tenant".to_owned()))
}
