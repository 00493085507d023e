//! Ends a job: one operation, whoever asks for it.

use rusqlite::{OptionalExtension, params};
use serde_json::value::RawValue;

use crate::model::{EventBody, JobId, Status, TenantId, Terminal};
use crate::ports::{By, Cancelled, Closed, Lease, Totals, WorkerSignal};
use crate::telemetry;

use super::super::super::ending::{Outcome, at_deadline, cited, last_event};
use super::super::engine::{Fault, Tx};
use super::accept::arrives;
use super::append::{owned_last_seq, write};
use super::state::Live;
use super::{record, spending, totals};

pub(super) fn close(
    tx: &mut Tx<'_>,
    tenant: &TenantId,
    id: JobId,
    by: By,
    terminal: Terminal,
) -> Result<Closed, Fault> {
    let Some(live) = tx.state.get(id).filter(|live| live.tenant == *tenant) else {
        return already(tx, tenant, id, &by, terminal.status);
    };
    let tail = match by {
        By::Anyone => Vec::new(),
        By::Owner { epoch, first_seq, tail } => {
            let last_seq = live.last_seq;
            let lease = Lease { tenant: tenant.clone(), job: id, epoch };
            if owned_last_seq(tx, &lease).is_none() {
                return Ok(Closed::Fenced);
            }
            // What the log has already is not written twice.
            let known = usize::try_from((last_seq + 1).saturating_sub(first_seq)).unwrap_or(usize::MAX);
            tail.iter().skip(known).map(EventBody::parts).collect()
        }
    };
    end(tx, id, tail, terminal)?;
    Ok(Closed::Ok)
}

/// The job is over: `Ok` again for the owner that ended it so.
fn already(tx: &Tx<'_>, tenant: &TenantId, id: JobId, by: &By, asked: Status) -> Result<Closed, Fault> {
    let row: Option<(i64, u64)> = tx
        .db
        .prepare_cached("SELECT status, epoch FROM jobs WHERE id = ?1 AND tenant = ?2")?
        .query_row(params![id.uuid(), tenant.as_str()], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    let stored = row.and_then(|(code, epoch)| record::status(code).map(|status| (status, epoch)));
    Ok(match (stored, by) {
        (None, _) => Closed::Fenced,
        (Some((status, epoch)), By::Owner { epoch: mine, .. }) if epoch == *mine && status == asked => {
            Closed::Ok
        }
        (Some((status, _)), _) => Closed::Already(status),
    })
}

/// Ends a live job.
pub(super) fn end(
    tx: &mut Tx<'_>,
    id: JobId,
    tail: Vec<(String, Box<RawValue>)>,
    terminal: Terminal,
) -> Result<(), Fault> {
    for event in tail {
        write(tx, id, event)?;
    }
    spending::settle(tx, id)?;
    let usage = tx.state.get(id).and_then(Live::usage).or(terminal.usage);
    let terminal = Terminal { usage, ..terminal };
    write(tx, id, last_event(&terminal).parts())?;
    let now = tx.now;
    let Some(live) = tx.state.get(id).cloned() else { return Ok(()) };
    let next = tx.state.remove(id);
    let mut counts = Totals::of_end(terminal.status);
    if let Some(held) = live.lease.filter(|held| held.owner.is_some())
        && terminal.status.enters_history()
    {
        (counts.ended, counts.busy, counts.calls) = (1, now.since(held.since), live.money.spent.calls);
    }
    if counts != Totals::default() {
        totals::add(tx, live.lane, counts)?;
    }
    if let Some(held) = live.lease
        && let Some(owner) = held.owner
    {
        // An owner that did not close the job itself stops at once.
        let lease = Lease { tenant: live.tenant.clone(), job: id, epoch: live.epoch };
        tx.after.signal(owner, WorkerSignal::Cancel(lease));
    }
    for document in cited(terminal.output.as_ref()) {
        tx.db
            .prepare_cached("INSERT OR IGNORE INTO cited (document, job) VALUES (?1, ?2)")?
            .execute(params![document, live.version])?;
    }
    if terminal.status == Status::Failed {
        tx.db
            .prepare_cached("INSERT OR IGNORE INTO dead_letters (job, buried_at) VALUES (?1, ?2)")?
            .execute(params![live.version, now.as_millis()])?;
    }
    let status = terminal.status;
    let outcome = Outcome { output: terminal.output, usage: terminal.usage, error: terminal.error };
    let text = serde_json::to_string(&outcome).expect("an outcome is plain data with string keys");
    tx.db
        .prepare_cached(
            "UPDATE jobs SET status = ?2, finished_at = ?3, wait = NULL, result = ?4, result_crc = ?5,
                             last_seq = ?6
             WHERE version = ?1",
        )?
        .execute(params![
            live.version,
            record::status_code(status),
            now.as_millis(),
            text,
            crc32fast::hash(text.as_bytes()),
            live.last_seq,
        ])?;
    if let Some(next) = next {
        take_turn(tx, next)?;
    }
    let (took, attempts) = (now.since(live.created_at), live.attempt);
    tx.after.count(move || {
        metrics::counter!(telemetry::JOBS_TERMINAL, "status" => status.as_str()).increment(1);
        metrics::histogram!(telemetry::JOB_DURATION).record(took.as_secs_f64());
        metrics::histogram!(telemetry::JOB_ATTEMPTS).record(f64::from(attempts));
    });
    Ok(())
}

/// The job became the first open one of its conversation.
fn take_turn(tx: &mut Tx<'_>, next: JobId) -> Result<(), Fault> {
    let now = tx.now;
    let Some(live) = tx.state.get_mut(next) else { return Ok(()) };
    if live.lease.is_some() {
        return Ok(());
    }
    live.ready_at = live.ready_at.max(now);
    let at = live.ready_at;
    if at <= now {
        tx.db.prepare_cached("UPDATE jobs SET wait = NULL WHERE version = ?1")?.execute([live.version])?;
        arrives(tx, next)?;
    }
    tx.state.make_due(next, at);
    Ok(())
}

/// Ends a job whose deadline has passed: `incomplete` when a reader has text of it, else `expired`.
pub(super) fn end_at_deadline(tx: &mut Tx<'_>, id: JobId) -> Result<(), Fault> {
    let Some(live) = tx.state.get(id) else { return Ok(()) };
    let terminal = at_deadline(&record::whole_log(tx.db, id, live.version)?);
    end(tx, id, Vec::new(), terminal)
}

pub(super) fn cancel(tx: &mut Tx<'_>, tenant: &TenantId, id: JobId) -> Result<Cancelled, Fault> {
    let now = tx.now;
    let open = tx.state.get_mut(id).filter(|live| live.tenant == *tenant);
    let Some(live) = open else { return ended(tx, tenant, id) };
    let (version, epoch) = (live.version, live.epoch);
    match &mut live.lease {
        Some(held) if held.is_live(now) => {
            live.cancel_requested = true;
            held.obey_by.get_or_insert(now + Lease::CANCEL_GRACE);
            if let Some(owner) = held.owner {
                let lease = Lease { tenant: tenant.clone(), job: id, epoch };
                tx.after.signal(owner, WorkerSignal::Cancel(lease));
            }
            tx.db
                .prepare_cached("UPDATE jobs SET cancel_requested = 1 WHERE version = ?1")?
                .execute([version])?;
        }
        _ => end(tx, id, Vec::new(), Terminal::bare(Status::Cancelled))?,
    }
    Ok(Cancelled::Job(Box::new(record::read_job(tx.db, version)?)))
}

fn ended(tx: &Tx<'_>, tenant: &TenantId, id: JobId) -> Result<Cancelled, Fault> {
    let job = tx
        .db
        .prepare_cached(&format!("SELECT {} FROM jobs WHERE id = ?1 AND tenant = ?2", record::JOB))?
        .query_row(params![id.uuid(), tenant.as_str()], record::job)
        .optional()?;
    if let Some(job) = job {
        return Ok(Cancelled::Job(Box::new(job)));
    }
    let gone = tx
        .db
        .prepare_cached("SELECT 1 FROM gone WHERE id = ?1 AND tenant = ?2")?
        .exists(params![id.uuid(), tenant.as_str()])?;
    Ok(if gone { Cancelled::Gone } else { Cancelled::Unknown })
}
