//! What scripts answer, read back.

use std::collections::HashMap;

use redis::Value;
use serde_json::value::RawValue;
use uuid::Uuid;

use crate::model::{Event, Job, JobId, Status, TenantId, Timestamp, Usage, Wait, WaitReason};
use crate::ports::StoreError;

use super::super::ending::Outcome;

pub(super) fn damaged(what: impl Into<String>) -> StoreError {
    StoreError::Damaged(what.into())
}

/// The elements of an array.
pub(super) fn list(value: &Value) -> Result<&[Value], StoreError> {
    match value {
        Value::Array(values) => Ok(values),
        other => Err(damaged(format!("a list was expected, not {other:?}"))),
    }
}

pub(super) fn text(value: &Value) -> Result<&str, StoreError> {
    match value {
        Value::BulkString(bytes) => std::str::from_utf8(bytes).map_err(|err| damaged(err.to_string())),
        Value::SimpleString(text) => Ok(text),
        other => Err(damaged(format!("text was expected, not {other:?}"))),
    }
}

pub(super) fn number(value: &Value) -> Result<u64, StoreError> {
    match value {
        Value::Int(number) => u64::try_from(*number).map_err(|err| damaged(err.to_string())),
        other => text(other)?.parse().map_err(|_| damaged(format!("a number was expected, not {other:?}"))),
    }
}

/// An element of a list, by its place.
pub(super) fn at(values: &[Value], place: usize) -> Result<&Value, StoreError> {
    values.get(place).ok_or_else(|| damaged("an answer is too short"))
}

pub(super) fn is_nothing(value: &Value) -> bool {
    matches!(value, Value::Nil | Value::Boolean(false))
}

/// The fields of a hash.
pub(super) struct Fields<'a>(HashMap<&'a str, &'a str>);

impl<'a> Fields<'a> {
    pub(super) fn read(value: &'a Value) -> Result<Self, StoreError> {
        let flat = list(value)?;
        flat.chunks_exact(2)
            .map(|pair| Ok((text(&pair[0])?, text(&pair[1])?)))
            .collect::<Result<_, _>>()
            .map(Self)
    }

    pub(super) fn text(&self, field: &str) -> Option<&'a str> {
        self.0.get(field).copied()
    }

    pub(super) fn number(&self, field: &str) -> Option<u64> {
        self.text(field).and_then(|value| value.parse().ok())
    }

    fn moment(&self, field: &str) -> Option<Timestamp> {
        self.number(field).map(Timestamp::from_millis)
    }

    fn needed(&self, field: &str) -> Result<u64, StoreError> {
        self.number(field).ok_or_else(|| damaged(format!("a record has no `{field}`")))
    }
}

/// A record as `record()` of the scripts gives it.
pub(super) fn job(value: &Value) -> Result<Job, StoreError> {
    let parts = list(value)?;
    let fields = Fields::read(at(parts, 0)?)?;
    let spec = serde_json::from_str(text(at(parts, 1)?)?).map_err(|err| damaged(format!("a spec: {err}")))?;
    let out = at(parts, 2)?;
    let outcome: Outcome = if is_nothing(out) {
        Outcome::default()
    } else {
        serde_json::from_str(text(out)?).map_err(|err| damaged(format!("an outcome: {err}")))?
    };
    let status = fields.text("status").and_then(Status::parse);
    // What its calls have used; shown when it is over.
    let spent = status.filter(|status| status.is_terminal()).and_then(|_| {
        fields.number("calls")?;
        let sum = |field| fields.number(field).unwrap_or(0);
        Some(Usage { input_tokens: sum("input"), output_tokens: sum("output"), nano_usd: sum("nano") })
    });
    let small = |field| fields.needed(field).map(|value| u32::try_from(value).unwrap_or(u32::MAX));
    Ok(Job {
        spec,
        status: status.ok_or_else(|| damaged("a record has no status"))?,
        attempt: small("attempt")?,
        deaths: small("deaths")?,
        epoch: fields.needed("epoch")?,
        version: fields.needed("version")?,
        created_at: Timestamp::from_millis(fields.needed("created")?),
        started_at: fields.moment("started"),
        finished_at: fields.moment("finished"),
        expires_at: Timestamp::from_millis(fields.needed("expires")?),
        last_seq: fields.needed("last_seq")?,
        wait: wait(&fields),
        output: outcome.output,
        usage: spent.or(outcome.usage),
        error: outcome.error,
        cancel_requested: fields.text("cancel").is_some(),
    })
}

/// A moment without a reason is when a worker is expected to be free: scripts of earlier versions take a reason
/// for something that keeps a job from starting.
fn wait(fields: &Fields<'_>) -> Option<Wait> {
    let at = fields.moment("wait_at");
    let reason = match fields.text("wait") {
        Some(word) => wait_reason(word)?,
        None => at.map(|_| WaitReason::Worker)?,
    };
    Some(Wait { reason, expected_start_at: at })
}

/// One word for a reason to wait, as on the wire.
pub(super) fn wait_word(reason: WaitReason) -> &'static str {
    match reason {
        WaitReason::Scheduled => "scheduled",
        WaitReason::Quota => "quota",
        WaitReason::Retry => "retry",
        WaitReason::Drain => "drain",
        WaitReason::Conversation => "conversation",
        WaitReason::Tenant => "tenant",
        WaitReason::Model => "model",
        WaitReason::Worker => "worker",
    }
}

fn wait_reason(word: &str) -> Option<WaitReason> {
    use WaitReason::{Conversation, Drain, Model, Quota, Retry, Scheduled, Tenant, Worker};
    [Scheduled, Quota, Retry, Drain, Conversation, Tenant, Model, Worker]
        .into_iter()
        .find(|reason| wait_word(*reason) == word)
}

/// The entries of a stream, as `XRANGE` gives them.
pub(super) fn log(job: JobId, value: &Value) -> Result<Vec<Event>, StoreError> {
    list(value)?
        .iter()
        .map(|entry| {
            let entry = list(entry)?;
            let seq = text(at(entry, 0)?)?;
            let seq = seq.strip_suffix("-0").unwrap_or(seq);
            event(job, &format!("{seq} {}", text(at(list(at(entry, 1)?)?, 1)?)?))
        })
        .collect()
}

/// `<seq> <attempt> <at> <type> <data>`.
pub(super) fn event(job: JobId, line: &str) -> Result<Event, StoreError> {
    let parse = || {
        let mut parts = line.splitn(5, ' ');
        Some(Event {
            v: Event::VERSION,
            seq: parts.next()?.parse().ok()?,
            attempt: parts.next()?.parse().ok()?,
            at: Timestamp::from_millis(parts.next()?.parse().ok()?),
            kind: parts.next()?.to_owned(),
            job_id: job,
            data: RawValue::from_string(parts.next()?.to_owned()).ok()?,
        })
    };
    parse().ok_or_else(|| damaged(format!("an event in the log of {job}")))
}

/// The name of a job or conversation in keys.
pub(super) fn name(tenant: &TenantId, uuid: Uuid) -> String {
    format!("{tenant}:{}", uuid.simple())
}

pub(super) fn uuid(value: &Value) -> Result<Uuid, StoreError> {
    Uuid::try_parse(text(value)?).map_err(|_| damaged("an id"))
}

pub(super) fn unknown<T>(word: &str) -> Result<T, StoreError> {
    Err(damaged(format!("an answer `{word}` that this program does not know")))
}
