//! How jobs end, for every store: what the last event says, and what is kept.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::model::{Event, EventBody, JobError, Output, Status, Terminal, TerminalData, Usage, fold_output};

/// What a terminal job leaves.
#[derive(Default, Serialize, Deserialize)]
pub(super) struct Outcome {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) output: Option<Output>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) usage: Option<Usage>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) error: Option<JobError>,
}

/// Documents an output points into, each once.
pub(super) fn cited(output: Option<&Output>) -> BTreeSet<Uuid> {
    match output {
        Some(Output::Answer { citations, .. }) => {
            citations.iter().map(|citation| citation.document_id.uuid()).collect()
        }
        _ => BTreeSet::new(),
    }
}

pub(super) fn last_event(terminal: &Terminal) -> EventBody {
    let data = TerminalData {
        answered: match &terminal.output {
            Some(Output::Answer { answered, .. }) => Some(*answered),
            _ => None,
        },
        degraded: match &terminal.output {
            Some(Output::Answer { degraded, .. }) => degraded.clone(),
            _ => Vec::new(),
        },
        reason: terminal.reason.clone(),
        usage: terminal.usage,
        error: terminal.error.clone(),
    };
    match terminal.status {
        Status::Completed => EventBody::JobCompleted(data),
        Status::Incomplete => EventBody::JobIncomplete(data),
        Status::Cancelled => EventBody::JobCancelled(data),
        Status::Expired => EventBody::JobExpired(data),
        Status::Failed | Status::Queued | Status::InProgress => EventBody::JobFailed(data),
    }
}

/// The end of a job whose deadline has passed: `incomplete` when a reader has text of it, else `expired`.
pub(super) fn at_deadline<'a>(log: impl IntoIterator<Item = &'a Event>) -> Terminal {
    let fold = fold_output(log);
    let mut terminal = Terminal::bare(Status::Expired);
    terminal.reason = Some("deadline".to_owned());
    if !fold.text.is_empty() {
        terminal.status = Status::Incomplete;
        terminal.output = Some(Output::answer(fold.text, true, fold.citations));
    }
    terminal
}

/// The end of a job that killed its workers.
pub(super) fn poison(deaths: u32) -> Terminal {
    let message =
        format!("the worker that ran this job died {deaths} times; the job is kept in the dead letters");
    Terminal::failed(JobError::new("poison", message, false))
}
