//! What clients see of jobs, conversations and documents.

use std::collections::BTreeMap;

use millhand_common::model::{
    AgentName, CollectionName, ConversationId, Document, DocumentId, Job, JobError, JobId, JobKind, Lane,
    OneOrMany, Output, Role, Scalar, Status, Timestamp, Usage, Wait,
};
use millhand_common::ports::{Conversation, StoredMessage};
use serde::Serialize;
use utoipa::ToSchema;

/// A job as its owner sees it.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Job)]
pub(crate) struct JobView {
    #[schema(value_type = String, example = "job_01936f5e-3c8a-7b60-a1b2-0123456789ab")]
    id: JobId,
    /// Always `job`.
    object: &'static str,
    kind: JobKind,
    status: Status,
    /// Null for an ingest job.
    #[schema(value_type = Option<String>)]
    agent: Option<AgentName>,
    lane: Lane,
    #[schema(value_type = Option<String>)]
    conversation_id: Option<ConversationId>,
    /// As submitted: a name or a list of names.
    #[schema(value_type = Option<OneOrMany<String>>)]
    collection: Option<OneOrMany<CollectionName>>,
    /// Claims so far.
    attempt: u32,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    #[schema(value_type = Option<String>, format = DateTime)]
    started_at: Option<Timestamp>,
    #[schema(value_type = Option<String>, format = DateTime)]
    finished_at: Option<Timestamp>,
    /// The job ends by then.
    #[schema(value_type = String, format = DateTime)]
    expires_at: Timestamp,
    wait: Option<Wait>,
    output: Option<Output>,
    usage: Option<Usage>,
    error: Option<JobError>,
    #[schema(value_type = Option<String>)]
    replay_of: Option<JobId>,
    #[schema(value_type = Option<Object>)]
    metadata: Option<serde_json::Map<String, serde_json::Value>>,
    links: Links,
}

#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Links {
    #[serde(rename = "self")]
    this: String,
    events: String,
    cancel: String,
}

pub(crate) fn job_path(id: JobId) -> String {
    format!("/v1/jobs/{id}")
}

impl From<Job> for JobView {
    fn from(job: Job) -> Self {
        let path = job_path(job.spec.id);
        let kind = job.spec.kind();
        Self {
            id: job.spec.id,
            object: "job",
            kind,
            status: job.status,
            agent: (kind == JobKind::Chat).then_some(job.spec.agent),
            lane: job.spec.lane,
            conversation_id: job.spec.conversation_id,
            collection: job.spec.collection,
            attempt: job.attempt,
            created_at: job.created_at,
            started_at: job.started_at,
            finished_at: job.finished_at,
            expires_at: job.expires_at,
            wait: job.wait,
            output: job.output,
            usage: job.usage,
            error: job.error,
            replay_of: job.spec.replay_of,
            metadata: job.spec.metadata,
            links: Links { events: format!("{path}/events"), cancel: format!("{path}/cancel"), this: path },
        }
    }
}

/// A part of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ListView<T: ToSchema> {
    data: Vec<T>,
    /// Give it as `?cursor=` for the next part; null at the end.
    next_cursor: Option<String>,
}

impl<T: ToSchema> ListView<T> {
    /// `next` is the place as the store names it.
    pub(crate) fn new(data: Vec<T>, next: Option<String>) -> Self {
        Self { data, next_cursor: next.map(|place| crate::params::cursor::encode(&place)) }
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Conversation)]
pub(crate) struct ConversationView {
    #[schema(value_type = String)]
    id: ConversationId,
    /// Always `conversation`.
    object: &'static str,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
    /// Jobs of it that are kept.
    jobs: u64,
}

impl From<Conversation> for ConversationView {
    fn from(conversation: Conversation) -> Self {
        let Conversation { id, created_at, jobs } = conversation;
        Self { id, object: "conversation", created_at, jobs }
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = StoredMessage)]
pub(crate) struct MessageView {
    role: Role,
    content: String,
    #[schema(value_type = String)]
    job_id: JobId,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl From<StoredMessage> for MessageView {
    fn from(stored: StoredMessage) -> Self {
        let StoredMessage { message, job_id, created_at } = stored;
        Self { role: message.role, content: message.content, job_id, created_at }
    }
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Collection)]
pub(crate) struct CollectionView {
    pub(crate) name: String,
    /// Documents in it.
    pub(crate) documents: u64,
}

#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Document)]
pub(crate) struct DocumentView {
    #[schema(value_type = String)]
    id: DocumentId,
    name: String,
    content_type: String,
    /// Size of the original.
    bytes: u64,
    passages: u32,
    source: Option<String>,
    #[schema(value_type = Object)]
    metadata: BTreeMap<String, Scalar>,
    #[schema(value_type = String, format = DateTime)]
    created_at: Timestamp,
}

impl From<Document> for DocumentView {
    fn from(document: Document) -> Self {
        Self {
            id: document.id,
            name: document.name,
            content_type: document.content_type,
            bytes: document.bytes,
            passages: document.passages,
            source: document.source,
            metadata: document.metadata,
            created_at: document.created_at,
        }
    }
}
