//! Writes of an owner to its job's log, fenced by its epoch.

use rusqlite::params;
use serde_json::value::RawValue;

use crate::model::{Event, EventBody, JobId, Timestamp, Wait, WaitReason};
use crate::ports::{Appended, Lease, Released};
use crate::telemetry;

use super::super::engine::{Fault, Tx};
use super::{record, spending};

pub(super) fn append(
    tx: &mut Tx<'_>,
    lease: &Lease,
    first_seq: u64,
    events: Vec<(String, Box<RawValue>)>,
) -> Result<Appended, Fault> {
    let Some(last_seq) = owned_last_seq(tx, lease) else { return Ok(Appended::Fenced) };
    if first_seq != last_seq + 1 {
        let end = first_seq + events.len() as u64;
        return Ok(if end <= last_seq + 1 { Appended::Duplicate } else { Appended::Behind(last_seq) });
    }
    for event in events {
        write(tx, lease.job, event)?;
    }
    Ok(Appended::Ok)
}

/// Where the log ends, when the lease's epoch is the current one.
pub(super) fn owned_last_seq(tx: &mut Tx<'_>, lease: &Lease) -> Option<u64> {
    let owned = tx
        .state
        .get(lease.job)
        .filter(|live| live.epoch == lease.epoch && live.lease.is_some() && live.tenant == lease.tenant);
    if owned.is_none() {
        tx.after.count(|| metrics::counter!(telemetry::FENCED_WRITES).increment(1));
    }
    owned.map(|live| live.last_seq)
}

/// Appends one event to a live job's log.
pub(super) fn write(
    tx: &mut Tx<'_>,
    job: JobId,
    (kind, data): (String, Box<RawValue>),
) -> rusqlite::Result<()> {
    let Some(live) = tx.state.get_mut(job) else { return Ok(()) };
    live.last_seq += 1;
    if !kind.starts_with("job.") {
        live.heard_at = tx.now;
    }
    let event = Event {
        v: Event::VERSION,
        seq: live.last_seq,
        kind,
        job_id: job,
        attempt: live.attempt,
        at: tx.now,
        data,
    };
    record::write_event(tx.db, live.version, &event)?;
    spending::note(tx, job, &event.kind, event.data.get())?;
    tx.after.event(event);
    Ok(())
}

pub(super) fn release(
    tx: &mut Tx<'_>,
    lease: &Lease,
    not_before: Option<Timestamp>,
    reason: WaitReason,
) -> Result<Released, Fault> {
    if let Some(live) = tx.state.get(lease.job)
        && live.lease.is_none()
        && live.epoch == lease.epoch
        && live.started
    {
        // A repetition: this epoch was given back already.
        return Ok(Released::Ok);
    }
    if owned_last_seq(tx, lease).is_none() {
        return Ok(Released::Fenced);
    }
    spending::settle(tx, lease.job)?;
    let at = not_before.filter(|at| *at > tx.now);
    write(tx, lease.job, EventBody::JobWaiting { reason, not_before: at }.parts())?;
    let wait = Wait { reason, expected_start_at: at };
    let tenant = lease.tenant.clone();
    let Some(live) = tx.state.get_mut(lease.job) else { return Ok(Released::Fenced) };
    live.lease = None;
    live.ready_at = at.unwrap_or(tx.now);
    tx.db
        .prepare_cached("UPDATE jobs SET status = 0, wait = ?2 WHERE version = ?1")?
        .execute(params![live.version, serde_json::to_string(&wait).expect("plain data")])?;
    tx.state.stops_running(&tenant);
    tx.state.make_due(lease.job, at.unwrap_or(tx.now));
    Ok(Released::Ok)
}
