//! Takes a job in.

use rusqlite::{OptionalExtension, params};

use crate::crash;
use crate::model::{
    ConversationId, Event, EventBody, Job, JobId, JobSpec, OnBusy, Status, Terminal, Timestamp, Wait,
    WaitReason,
};
use crate::ports::{Accept, Accepted, Expected, StoreError};

use super::super::engine::{Fault, Tx};
use super::State;
use super::close::end;
use super::{record, totals};

pub(super) fn accept(tx: &mut Tx<'_>, accept: &Accept) -> Result<Accepted, Fault> {
    let spec = &accept.spec;
    if let Some((key, digest)) = &accept.idempotency
        && let Some((version, stored)) = by_key(tx, spec, key)?
    {
        return Ok(if stored == digest {
            Accepted::Existing(Box::new(record::read_job(tx.db, version)?))
        } else {
            Accepted::KeyReused
        });
    }
    // A repeated accept of the same job, after an answer that was lost.
    if let Some(version) = version_of(tx, spec.id)? {
        return Ok(Accepted::Existing(Box::new(record::read_job(tx.db, version)?)));
    }
    if accept.replays_only {
        return Ok(Accepted::Refused);
    }
    if !tx.room {
        return Err(StoreError::Full.into());
    }
    if let Some(conversation) = spec.conversation_id {
        if accept.known_conversation && !exists(tx, spec, conversation)? {
            return Ok(Accepted::NoConversation);
        }
        let open = tx.state.open_jobs(conversation);
        match (accept.on_busy, open.first()) {
            (OnBusy::Reject, Some(busy)) => return Ok(Accepted::ConversationBusy(*busy)),
            (OnBusy::Interrupt, Some(_)) => {
                for job in open {
                    end(tx, job, Vec::new(), Terminal::bare(Status::Cancelled))?;
                }
            }
            (OnBusy::Enqueue, _) | (_, None) => {}
        }
        if !accept.known_conversation {
            tx.db
                .prepare_cached(
                    "INSERT OR IGNORE INTO conversations (id, tenant, created_at) VALUES (?1, ?2, ?3)",
                )?
                .execute(params![conversation.uuid(), spec.tenant.as_str(), tx.now.as_millis()])?;
        }
    }
    let idempotency = accept.idempotency.as_ref().map(|(key, digest)| (key.as_str(), digest.as_slice()));
    let job = insert(tx, spec, idempotency, accept.expected)?;
    crash::point("accept.before_commit");
    Ok(Accepted::Created(Box::new(job)))
}

/// Writes a new job and its first event, and makes it due in case its hint is never confirmed.
pub(super) fn insert(
    tx: &mut Tx<'_>,
    spec: &JobSpec,
    idempotency: Option<(&str, &[u8])>,
    expected: Expected,
) -> Result<Job, Fault> {
    let now = tx.now;
    let version = tx.state.next_version(now);
    let starts = spec.not_before.filter(|at| *at > now);
    let expires_at = starts.unwrap_or(now) + spec.deadline;
    let mut live = State::new_job(version, spec, now, expires_at);
    live.last_seq = 1;
    tx.state.insert(spec.id, live);
    let must_wait = waits_for(tx, spec.id, starts);
    let may_start = must_wait.is_none();
    if may_start {
        arrives(tx, spec.id)?;
    }
    let expected = if may_start { expected } else { Expected { position: None, start_at: starts } };
    let for_a_worker = |at| Wait { reason: WaitReason::Worker, expected_start_at: Some(at) };
    let wait = must_wait.or(expected.start_at.map(for_a_worker));
    let text = serde_json::to_string(spec).expect("a spec is plain data with string keys");
    let (key, digest) = idempotency.unzip();
    tx.db
        .prepare_cached(
            "INSERT INTO jobs (version, id, tenant, conversation, idem, digest, lane, status, not_before,
                               created_at, expires_at, wait, spec, spec_crc)
             VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, 0, ?8, ?9, ?10, ?11, ?12, ?13)",
        )?
        .execute(params![
            version,
            spec.id.uuid(),
            spec.tenant.as_str(),
            spec.conversation_id.map(ConversationId::uuid),
            key,
            digest,
            record::lane_code(spec.lane),
            spec.not_before.map(Timestamp::as_millis),
            now.as_millis(),
            expires_at.as_millis(),
            wait.as_ref().map(|wait| serde_json::to_string(wait).expect("plain data")),
            text,
            crc32fast::hash(text.as_bytes()),
        ])?;
    let Expected { position, start_at: expected_start_at } = expected;
    let body = EventBody::JobQueued { position, expected_start_at };
    let event = Event::new(spec.id, 1, 0, now, &body);
    record::write_event(tx.db, version, &event)?;
    tx.after.first_event(spec.tenant.clone(), event);
    match starts {
        Some(at) => tx.state.make_due(spec.id, at),
        // A job that waits for its conversation becomes due when its turn comes.
        None if !may_start => {}
        None => {
            let at = tx.state.due_after_accept(spec.lane, &spec.tenant, now);
            tx.state.make_due(spec.id, at);
        }
    }
    Ok(Job {
        spec: spec.clone(),
        status: Status::Queued,
        attempt: 0,
        deaths: 0,
        epoch: 0,
        version,
        created_at: now,
        started_at: None,
        finished_at: None,
        expires_at,
        last_seq: 1,
        wait,
        output: None,
        usage: None,
        error: None,
        cancel_requested: false,
    })
}

/// The job can start, for the first time.
pub(super) fn arrives(tx: &mut Tx<'_>, id: JobId) -> rusqlite::Result<()> {
    match tx.state.get_mut(id) {
        Some(live) if !live.arrived => {
            live.arrived = true;
            let lane = live.lane;
            totals::arrived(tx, lane)
        }
        _ => Ok(()),
    }
}

fn waits_for(tx: &Tx<'_>, id: JobId, starts: Option<Timestamp>) -> Option<Wait> {
    if !tx.state.is_head(id) {
        return Some(Wait { reason: WaitReason::Conversation, expected_start_at: starts });
    }
    starts.map(|at| Wait { reason: WaitReason::Scheduled, expected_start_at: Some(at) })
}

fn by_key(tx: &Tx<'_>, spec: &JobSpec, key: &str) -> rusqlite::Result<Option<(u64, Vec<u8>)>> {
    tx.db
        .prepare_cached("SELECT version, digest FROM jobs WHERE tenant = ?1 AND idem = ?2")?
        .query_row(params![spec.tenant.as_str(), key], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()
}

/// The number of a job that is kept.
pub(super) fn version_of(tx: &Tx<'_>, id: JobId) -> rusqlite::Result<Option<u64>> {
    tx.db
        .prepare_cached("SELECT version FROM jobs WHERE id = ?1")?
        .query_row([id.uuid()], |row| row.get(0))
        .optional()
}

fn exists(tx: &Tx<'_>, spec: &JobSpec, conversation: ConversationId) -> rusqlite::Result<bool> {
    tx.db
        .prepare_cached("SELECT 1 FROM conversations WHERE id = ?1 AND tenant = ?2")?
        .exists(params![conversation.uuid(), spec.tenant.as_str()])
}
