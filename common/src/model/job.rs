//! Jobs: what was asked, how far it is, and how it ended.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{
    AgentName, Citation, CollectionName, ConversationId, DocumentId, Filter, JobId, OneOrMany, Scalar,
    TenantId, Timestamp, UploadId, WaitReason,
};

/// Where a job is. The last five are terminal: never changed afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Status {
    Queued,
    InProgress,
    /// Answered; an honest "not in these documents" too.
    Completed,
    /// Text was cut, by `max_output_tokens` or by the deadline.
    Incomplete,
    /// The deadline came before any text.
    Expired,
    Failed,
    Cancelled,
}

impl Status {
    pub const ALL: [Self; 7] = [
        Self::Queued,
        Self::InProgress,
        Self::Completed,
        Self::Incomplete,
        Self::Expired,
        Self::Failed,
        Self::Cancelled,
    ];

    #[must_use]
    pub fn is_terminal(self) -> bool {
        !matches!(self, Self::Queued | Self::InProgress)
    }

    /// Whether the job's messages become history of its conversation.
    #[must_use]
    pub fn enters_history(self) -> bool {
        matches!(self, Self::Completed | Self::Incomplete)
    }

    /// As on the wire.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Queued => "queued",
            Self::InProgress => "in_progress",
            Self::Completed => "completed",
            Self::Incomplete => "incomplete",
            Self::Expired => "expired",
            Self::Failed => "failed",
            Self::Cancelled => "cancelled",
        }
    }

    /// Back from [`Self::as_str`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// What a job does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum JobKind {
    Chat,
    Ingest,
}

/// Priority class of the queue.
#[derive(
    Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema,
)]
#[serde(rename_all = "snake_case")]
pub enum Lane {
    #[default]
    Interactive,
    Batch,
}

impl Lane {
    /// Most urgent first.
    pub const ALL: [Self; 2] = [Self::Interactive, Self::Batch];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Interactive => "interactive",
            Self::Batch => "batch",
        }
    }
}

/// Who speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Role {
    User,
    Assistant,
}

/// One message of a conversation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Message {
    pub role: Role,
    pub content: String,
}

/// What a job works on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum JobInput {
    /// The messages as submitted; the last one is the user's question.
    Chat {
        messages: Vec<Message>,
    },
    Ingest {
        collection: CollectionName,
        documents: Vec<IngestItem>,
    },
}

/// One document to ingest; its bytes lie in `Documents` until the job ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct IngestItem {
    pub upload: UploadId,
    /// Chosen at accept, so that every attempt writes the same version.
    pub document_id: DocumentId,
    pub name: String,
    /// As declared by the caller; otherwise guessed from name and bytes.
    #[serde(default)]
    pub content_type: Option<String>,
    #[serde(default)]
    pub source: Option<String>,
    #[serde(default)]
    pub metadata: BTreeMap<String, Scalar>,
    pub bytes: u64,
}

/// What was asked: never changes after accept.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct JobSpec {
    pub id: JobId,
    pub tenant: TenantId,
    pub input: JobInput,
    pub agent: AgentName,
    pub lane: Lane,
    /// `None` for ingest jobs only.
    #[serde(default)]
    pub conversation_id: Option<ConversationId>,
    /// As submitted; omitted means all of the tenant's.
    #[serde(default)]
    pub collection: Option<OneOrMany<CollectionName>>,
    #[serde(default)]
    pub filter: Option<Filter>,
    /// From accept or `not_before`.
    #[serde(with = "humantime_serde")]
    pub deadline: Duration,
    #[serde(default)]
    pub not_before: Option<Timestamp>,
    #[serde(default)]
    pub max_output_tokens: Option<u32>,
    #[serde(default)]
    pub metadata: Option<serde_json::Map<String, serde_json::Value>>,
    /// The dead letter this job replays.
    #[serde(default)]
    pub replay_of: Option<JobId>,
    /// W3C trace context of the request that submitted the job.
    #[serde(default)]
    pub traceparent: Option<String>,
}

impl JobSpec {
    /// Whether the conversation began with this job, so that nothing was said before: it then bears the
    /// job's own number.
    #[must_use]
    pub fn opens_conversation(&self) -> bool {
        self.conversation_id.is_some_and(|conversation| conversation.uuid() == self.id.uuid())
    }

    #[must_use]
    pub fn kind(&self) -> JobKind {
        match self.input {
            JobInput::Chat { .. } => JobKind::Chat,
            JobInput::Ingest { .. } => JobKind::Ingest,
        }
    }

    /// The user's question; empty for an ingest job.
    #[must_use]
    pub fn question(&self) -> &str {
        match &self.input {
            JobInput::Chat { messages } => messages.last().map_or("", |message| &message.content),
            JobInput::Ingest { .. } => "",
        }
    }
}

/// The job's record: what was asked and how far it is. The truth about the job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Job {
    #[serde(flatten)]
    pub spec: JobSpec,
    pub status: Status,
    /// Claims so far; 0 before the first, never goes back.
    pub attempt: u32,
    /// Attempts that ended by takeover.
    pub deaths: u32,
    /// The fence: grows with every claim; a write that carries an old epoch is refused.
    pub epoch: u64,
    /// Order of accept within the store, rising; also the version of documents this job writes.
    pub version: u64,
    pub created_at: Timestamp,
    #[serde(default)]
    pub started_at: Option<Timestamp>,
    #[serde(default)]
    pub finished_at: Option<Timestamp>,
    /// The deadline as a moment.
    pub expires_at: Timestamp,
    /// `seq` of the last event of the log.
    pub last_seq: u64,
    #[serde(default)]
    pub wait: Option<Wait>,
    #[serde(default)]
    pub output: Option<Output>,
    #[serde(default)]
    pub usage: Option<Usage>,
    #[serde(default)]
    pub error: Option<JobError>,
    /// A reader asked for the end of this job and its owner has not ended it yet.
    #[serde(default)]
    pub cancel_requested: bool,
}

/// Why a queued job does not start yet.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Wait {
    pub reason: WaitReason,
    #[schema(value_type = Option<String>)]
    pub expected_start_at: Option<Timestamp>,
}

/// What a job made.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(untagged)]
pub enum Output {
    Answer {
        text: String,
        /// False when the documents do not support an answer; the text says so.
        answered: bool,
        citations: Vec<Citation>,
        /// What it went without for the load, in the words of [`super::degraded`]; absent when nothing.
        /// Words and no enum: a reader passes on those of a newer version.
        #[serde(default, skip_serializing_if = "Vec::is_empty")]
        degraded: Vec<String>,
    },
    Ingest {
        documents: Vec<DocumentOutcome>,
    },
}

impl Output {
    /// An answer that went without nothing.
    #[must_use]
    pub fn answer(text: impl Into<String>, answered: bool, citations: Vec<Citation>) -> Self {
        Self::Answer { text: text.into(), answered, citations, degraded: Vec::new() }
    }
}

/// What became of one document of an ingest job.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct DocumentOutcome {
    #[schema(value_type = String)]
    pub id: DocumentId,
    pub name: String,
    pub passages: u32,
    /// Why it was not ingested.
    pub error: Option<String>,
}

/// Tokens and money spent on a job.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Usage {
    pub input_tokens: u64,
    pub output_tokens: u64,
    /// Billionths of a dollar; dollars on the wire.
    #[serde(rename = "cost_usd", with = "super::usd::dollars")]
    #[schema(value_type = f64)]
    pub nano_usd: u64,
}

/// Why a job failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct JobError {
    /// One word for programs, e.g. `poison`, `model_error`.
    pub code: String,
    /// A sentence for people.
    pub message: String,
    /// Whether the same job may succeed when submitted again.
    pub retryable: bool,
}

impl JobError {
    pub fn new(code: &str, message: impl Into<String>, retryable: bool) -> Self {
        Self { code: code.to_owned(), message: message.into(), retryable }
    }
}

/// How a job ends.
#[derive(Clone, Debug, PartialEq)]
pub struct Terminal {
    /// A terminal one.
    pub status: Status,
    pub output: Option<Output>,
    /// As its owner adds it up; the record says what the log does.
    pub usage: Option<Usage>,
    pub error: Option<JobError>,
    /// Why text was cut or work stopped, e.g. `max_output_tokens`, `deadline`.
    pub reason: Option<String>,
}

impl Terminal {
    /// An end with nothing but its status.
    #[must_use]
    pub fn bare(status: Status) -> Self {
        Self { status, output: None, usage: None, error: None, reason: None }
    }

    /// A failure.
    #[must_use]
    pub fn failed(error: JobError) -> Self {
        Self { error: Some(error), ..Self::bare(Status::Failed) }
    }
}
