//! Who runs a job: claims, challenges, renewals.

use rusqlite::params;

use crate::model::{EventBody, JobId, Lane, Status, TenantId, Terminal, Wait, WaitReason};
use crate::ports::{Claim, Claimed, Lease, Renewed, Run, WorkerSignal};
use crate::telemetry;

use super::super::super::ending::poison;
use super::super::engine::{Fault, Tx};
use super::accept::arrives;
use super::append::{owned_last_seq, write};
use super::close::{end, end_at_deadline};
use super::state::Held;
use super::{record, spending};

/// `tenant` is `None` where the store itself chose the job.
pub(super) fn claim(
    tx: &mut Tx<'_>,
    tenant: Option<&TenantId>,
    id: JobId,
    claim: Claim,
) -> Result<Claimed, Fault> {
    let now = tx.now;
    let Some(live) = tx.state.get(id).filter(|live| tenant.is_none_or(|tenant| live.tenant == *tenant))
    else {
        return Ok(Claimed::Done);
    };
    let lane = live.lane;
    let takeover = match live.lease {
        Some(_) if live.op == Some(claim.op) => return run(tx, id).map(Claimed::Run),
        Some(held) if held.is_live(now) => return Ok(Claimed::Busy),
        held => held,
    };
    if live.expires_at <= now {
        end_at_deadline(tx, id)?;
        return Ok(Claimed::Done);
    }
    if live.cancel_requested {
        end(tx, id, Vec::new(), Terminal::bare(Status::Cancelled))?;
        return Ok(Claimed::Done);
    }
    if live.not_before.is_some_and(|at| at > now) || live.ready_at > now || !tx.state.is_head(id) {
        return Ok(Claimed::Waiting);
    }
    if tx.state.is_paused(lane) {
        // Its hint is used up.
        tx.state.make_due(id, now);
        return Ok(Claimed::Waiting);
    }
    // A job that lost its owner has a slot of its tenant already.
    if takeover.is_none_or(|held| held.owner.is_none()) && !tx.state.has_room(&live.tenant) {
        wait_for_tenant(tx, id)?;
        return Ok(Claimed::Waiting);
    }
    if takeover.is_some() && !died(tx, id)? {
        return Ok(Claimed::Done);
    }
    spending::settle(tx, id)?;
    start(tx, id, claim, takeover)?;
    run(tx, id).map(Claimed::Run)
}

/// Its tenant runs as many jobs as it may. Said once.
fn wait_for_tenant(tx: &mut Tx<'_>, id: JobId) -> Result<(), Fault> {
    let now = tx.now;
    if let Some(live) = tx.state.get_mut(id)
        && !std::mem::replace(&mut live.waits_for_tenant, true)
    {
        let wait = Wait { reason: WaitReason::Tenant, expected_start_at: None };
        tx.db
            .prepare_cached("UPDATE jobs SET wait = ?2 WHERE version = ?1")?
            .execute(params![live.version, serde_json::to_string(&wait).expect("plain data")])?;
        let body = EventBody::JobWaiting { reason: WaitReason::Tenant, not_before: None };
        write(tx, id, body.parts())?;
    }
    tx.state.wait_for_tenant(id, now);
    Ok(())
}

/// Counts a death; false when the job is poison and is now failed.
fn died(tx: &mut Tx<'_>, id: JobId) -> Result<bool, Fault> {
    let Some(live) = tx.state.get_mut(id) else { return Ok(false) };
    live.deaths += 1;
    let (version, deaths) = (live.version, live.deaths);
    tx.after.count(|| metrics::counter!(telemetry::TAKEOVERS).increment(1));
    tx.db
        .prepare_cached("UPDATE jobs SET deaths = ?2 WHERE version = ?1")?
        .execute(params![version, deaths])?;
    if deaths < Lease::MAX_DEATHS {
        return Ok(true);
    }
    end(tx, id, Vec::new(), poison(deaths))?;
    Ok(false)
}

fn start(tx: &mut Tx<'_>, id: JobId, claim: Claim, takeover: Option<Held>) -> Result<(), Fault> {
    tx.state.not_due(id);
    let now = tx.now;
    arrives(tx, id)?;
    let Some(live) = tx.state.get_mut(id) else { return Ok(()) };
    let first = !live.started;
    live.epoch += 1;
    live.attempt += 1;
    live.started = true;
    live.waits_for_tenant = false;
    live.op = Some(claim.op);
    live.lease = Some(Held {
        owner: Some(claim.owner),
        since: now,
        until: now + Lease::TTL,
        challenged: None,
        obey_by: None,
    });
    let (tenant, created_at) = (live.tenant.clone(), live.created_at);
    tx.db
        .prepare_cached(
            "UPDATE jobs SET status = 1, epoch = ?2, attempt = ?3, op = ?4, wait = NULL,
                             started_at = coalesce(started_at, ?5)
             WHERE version = ?1",
        )?
        .execute(params![live.version, live.epoch, live.attempt, claim.op, now.as_millis()])?;
    let body = EventBody::AttemptStarted { attempt: live.attempt, worker: claim.owner };
    write(tx, id, body.parts())?;
    tx.state.starts_running(&tenant, takeover.is_none_or(|held| held.owner.is_none()), now);
    if first {
        let waited = now.since(created_at);
        tx.after.count(move || metrics::histogram!(telemetry::QUEUE_TIME).record(waited.as_secs_f64()));
    }
    Ok(())
}

fn run(tx: &mut Tx<'_>, id: JobId) -> Result<Box<Run>, Fault> {
    let live = tx.state.get(id).expect("a job just claimed is live");
    let lease = Lease { tenant: live.tenant.clone(), job: id, epoch: live.epoch };
    let version = live.version;
    let job = record::read_job(tx.db, version)?;
    let log = record::whole_log(tx.db, id, version)?;
    Ok(Box::new(Run { job, lease, log }))
}

pub(super) fn claim_due(tx: &mut Tx<'_>, lane: Lane, by: Claim) -> Result<Option<Run>, Fault> {
    let unheard = tx.state.ripen(tx.now);
    tx.after.count(move || metrics::counter!(telemetry::SWEEPER_DUE).increment(unheard));
    while let Some(id) = tx.state.next_ready(lane) {
        tx.state.not_due(id);
        if let Claimed::Run(run) = claim(tx, None, id, by)? {
            return Ok(Some(*run));
        }
        // Busy: its lease is watched. Waiting: it becomes due when its turn comes.
    }
    Ok(None)
}

/// Challenges the owner of a job: for this one and for whatever else it holds.
pub(super) fn challenge(tx: &mut Tx<'_>, tenant: &TenantId, id: JobId) {
    let live = tx.state.get(id).filter(|live| live.tenant == *tenant);
    let Some(owner) = live.and_then(|live| live.lease?.owner) else { return };
    let all: Vec<JobId> =
        tx.state.held().filter(|(_, _, held)| held.owner == Some(owner)).map(|(id, _, _)| id).collect();
    for id in all {
        challenge_one(tx, id);
    }
}

pub(super) fn challenge_one(tx: &mut Tx<'_>, id: JobId) {
    let now = tx.now;
    let Some(live) = tx.state.get_mut(id) else { return };
    let (tenant, epoch) = (live.tenant.clone(), live.epoch);
    if let Some(held) = &mut live.lease
        && held.is_live(now)
        && held.challenged.is_none()
        && let Some(owner) = held.owner
    {
        held.challenged = Some(now + Lease::CHALLENGE);
        let until = now + Lease::CHALLENGE;
        tx.after.signal(owner, WorkerSignal::Challenge(Lease { tenant, job: id, epoch }));
        // Due when the challenge runs out: a claim before that answers Busy.
        tx.state.make_due(id, until);
    }
}

pub(super) fn renew(tx: &mut Tx<'_>, lease: &Lease) -> Renewed {
    if owned_last_seq(tx, lease).is_none() {
        return Renewed::Fenced;
    }
    let now = tx.now;
    let Some(live) = tx.state.get_mut(lease.job) else { return Renewed::Fenced };
    let (expires_at, cancel) = (live.expires_at, live.cancel_requested);
    if let Some(held) = &mut live.lease {
        if !held.is_live(now) {
            return Renewed::Fenced;
        }
        held.until = now + Lease::TTL;
        held.challenged = None;
    }
    tx.state.not_due(lease.job);
    if expires_at <= now {
        Renewed::Expired
    } else if cancel {
        Renewed::CancelRequested
    } else {
        Renewed::Ok
    }
}
