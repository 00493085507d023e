//! What was said in a conversation, out of its jobs.

use crate::model::{Job, JobInput, Message, Output, Role};
use crate::ports::{Page, StoredMessage};

/// A place among the messages of a conversation, written `<job>.<messages of it already seen>`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Place {
    /// The version of a job.
    pub(super) job: u64,
    seen: usize,
}

impl Place {
    /// The start when there is no cursor, or one that nobody gave out.
    pub(super) fn of(cursor: Option<&str>) -> Self {
        cursor
            .and_then(|cursor| cursor.split_once('.'))
            .and_then(|(job, seen)| Some(Self { job: job.parse().ok()?, seen: seen.parse().ok()? }))
            .unwrap_or_default()
    }

    /// The next `limit` messages of `told`: the jobs from this place on, oldest first, one more than `limit`
    /// if there are so many.
    pub(super) fn page(self, told: &[Job], limit: usize) -> Page<StoredMessage> {
        let mut data = Vec::new();
        for job in told {
            let seen = if job.version == self.job { self.seen } else { 0 };
            for (at, message) in messages_of(job).into_iter().enumerate().skip(seen) {
                if data.len() == limit {
                    return Page { data, next: Some(format!("{}.{at}", job.version)) };
                }
                data.push(message);
            }
        }
        Page { data, next: None }
    }
}

/// The last `limit` messages of `told`, oldest first; its jobs are newest first.
pub(super) fn last(told: &[Job], limit: usize) -> Vec<StoredMessage> {
    let mut messages: Vec<StoredMessage> = told.iter().rev().flat_map(messages_of).collect();
    messages.drain(..messages.len().saturating_sub(limit));
    messages
}

/// What was said in one job: its input, then its answer.
fn messages_of(job: &Job) -> Vec<StoredMessage> {
    let asked = match &job.spec.input {
        JobInput::Chat { messages } => messages.as_slice(),
        JobInput::Ingest { .. } => &[],
    };
    let answer = match &job.output {
        Some(Output::Answer { text, .. }) => Some(Message { role: Role::Assistant, content: text.clone() }),
        _ => None,
    };
    let answered_at = job.finished_at.unwrap_or(job.created_at);
    asked
        .iter()
        .map(|message| (message.clone(), job.created_at))
        .chain(answer.map(|message| (message, answered_at)))
        .map(|(message, created_at)| StoredMessage { message, job_id: job.spec.id, created_at })
        .collect()
}
