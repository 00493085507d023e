//! The entries of a job's log.

use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::{CallStarted, CallUsed, Citation, JobError, JobId, PassageRef, Timestamp, Usage, WorkerId};

/// One entry of a job's log. `seq` is dense from 1 over the whole life of the job.
///
/// `data` is kept as it was written, so that a reader passes on fields of a newer version.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Event {
    #[serde(default = "first_version")]
    pub v: u8,
    pub seq: u64,
    #[serde(rename = "type")]
    pub kind: String,
    pub job_id: JobId,
    pub attempt: u32,
    pub at: Timestamp,
    pub data: Box<RawValue>,
}

fn first_version() -> u8 {
    Event::VERSION
}

impl Event {
    /// Format of events written by this version.
    pub const VERSION: u8 = 1;

    /// An entry with this body.
    #[must_use]
    pub fn new(job: JobId, seq: u64, attempt: u32, at: Timestamp, body: &EventBody) -> Self {
        let (kind, data) = body.parts();
        Self { v: Self::VERSION, seq, kind, job_id: job, attempt, at, data }
    }

    /// The typed body; `None` for a type this version does not know.
    #[must_use]
    pub fn body(&self) -> Option<EventBody> {
        // Through the adjacently tagged form: `{"type": …, "data": …}`.
        let text = format!(r#"{{"type":{},"data":{}}}"#, Value::from(self.kind.as_str()), self.data);
        serde_json::from_str(&text).ok()
    }

    /// Whether this is the last event of its log.
    #[must_use]
    pub fn is_terminal(&self) -> bool {
        matches!(
            self.kind.as_str(),
            "job.completed" | "job.incomplete" | "job.failed" | "job.cancelled" | "job.expired"
        )
    }

    /// The whole event as one line of JSON.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("an event is plain data with string keys")
    }
}

impl PartialEq for Event {
    fn eq(&self, other: &Self) -> bool {
        (self.v, self.seq, &self.kind, self.job_id, self.attempt, self.at, self.data.get())
            == (other.v, other.seq, &other.kind, other.job_id, other.attempt, other.at, other.data.get())
    }
}

/// What an event says, by its type.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "data")]
pub enum EventBody {
    #[serde(rename = "job.queued")]
    JobQueued {
        #[serde(default, skip_serializing_if = "Option::is_none")]
        position: Option<u64>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        expected_start_at: Option<Timestamp>,
    },
    /// At every claim; all earlier text and citations are void after it.
    #[serde(rename = "attempt.started")]
    AttemptStarted { attempt: u32, worker: WorkerId },
    #[serde(rename = "job.waiting")]
    JobWaiting { reason: WaitReason, not_before: Option<Timestamp> },
    /// Written before the work is done. `in_doubt`: an earlier attempt may have done it already.
    #[serde(rename = "step.started")]
    StepStarted {
        key: String,
        kind: StepKind,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        in_doubt: bool,
    },
    /// `result` is all that a later attempt needs to go on without doing the work again.
    #[serde(rename = "step.completed")]
    StepCompleted { key: String, kind: StepKind, result: Value, replayed: bool },
    #[serde(rename = "retrieval.completed")]
    RetrievalCompleted { passages: Vec<PassageRef> },
    #[serde(rename = "output_text.delta")]
    OutputTextDelta { text: String },
    /// Drop the text of this attempt after `length` bytes, and its citations.
    #[serde(rename = "output_text.reset")]
    OutputTextReset { length: usize },
    #[serde(rename = "citation.added")]
    CitationAdded(Citation),
    #[serde(rename = "tool.called")]
    ToolCalled { name: String, arguments: Value },
    #[serde(rename = "tool.returned")]
    ToolReturned { name: String, result: Value },
    /// Written before the call is sent. A job has one call at a time.
    #[serde(rename = "model.called")]
    ModelCalled(CallStarted),
    /// The call that was open is over: what it has used.
    #[serde(rename = "usage.updated")]
    UsageUpdated(CallUsed),
    /// Progress of an ingest job: one document reached a stage (`parsed`, `indexed`, `failed`).
    #[serde(rename = "ingest.progress")]
    IngestProgress { document: String, stage: String, done: u32, total: u32 },
    #[serde(rename = "job.completed")]
    JobCompleted(TerminalData),
    #[serde(rename = "job.incomplete")]
    JobIncomplete(TerminalData),
    #[serde(rename = "job.failed")]
    JobFailed(TerminalData),
    #[serde(rename = "job.cancelled")]
    JobCancelled(TerminalData),
    #[serde(rename = "job.expired")]
    JobExpired(TerminalData),
}

impl EventBody {
    /// Type and data as an [`Event`] holds them.
    #[must_use]
    pub fn parts(&self) -> (String, Box<RawValue>) {
        #[derive(Deserialize)]
        struct Parts {
            #[serde(rename = "type")]
            kind: String,
            data: Box<RawValue>,
        }
        let text = serde_json::to_string(self).expect("event bodies are plain data");
        let parts: Parts = serde_json::from_str(&text).expect("the adjacently tagged form");
        (parts.kind, parts.data)
    }
}

/// What the last event of a log carries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TerminalData {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answered: Option<bool>,
    /// As in the job's output.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub degraded: Vec<String>,
    /// Why text was cut or work stopped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Of all attempts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub usage: Option<Usage>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<JobError>,
}

/// What kind of work a step is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StepKind {
    Retrieval,
    ModelCall,
    ToolCall,
}

/// Why a job waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum WaitReason {
    /// `not_before` is not reached.
    Scheduled,
    Quota,
    Retry,
    Drain,
    /// The job before it in its conversation is open.
    Conversation,
    Tenant,
    /// No model that may answer it can be asked now.
    Model,
    /// Nothing but a free worker. No event says so: every job waits for that at first.
    Worker,
}
