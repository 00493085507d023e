//! What readers of jobs need: records, logs, and a wake-up when a log grows.

use std::sync::Arc;

use async_trait::async_trait;
use tokio::sync::broadcast;

use crate::model::{ConversationId, DocumentId, Event, Job, JobId, Status, TenantId};

use super::StoreError;

/// Reads jobs. Every future may be dropped.
#[async_trait]
pub trait JobReader: Send + Sync {
    async fn get(&self, tenant: &TenantId, job: JobId) -> Result<Lookup<Box<Job>>, StoreError>;

    /// Newest first.
    async fn list(&self, tenant: &TenantId, filter: &JobFilter) -> Result<Page<Job>, StoreError>;

    /// Events after `after`, at most `limit`.
    async fn log(
        &self,
        tenant: &TenantId,
        job: JobId,
        after: u64,
        limit: usize,
    ) -> Result<Lookup<LogPage>, StoreError>;

    /// Everything written to the job's log after this returns is sent, or `Lagged` is: then read the
    /// log again. The events after `after` come with it where they are at hand; else read the log.
    /// Tenant checks are the caller's: the log of another tenant never comes with it.
    async fn subscribe(&self, tenant: &TenantId, job: JobId, after: u64) -> Result<Subscription, StoreError>;

    /// Whether a kept job cites this document.
    async fn is_cited(&self, document: DocumentId) -> Result<bool, StoreError>;

    /// Tokens and money of all calls that are over, by the day on which they began; all tenants when
    /// `tenant` is `None`. It outlives the jobs.
    async fn usage(&self, tenant: Option<&TenantId>, by: UsageBy) -> Result<Vec<UsageRow>, StoreError>;
}

/// What became of something one asks for.
#[derive(Clone, Debug, PartialEq)]
pub enum Lookup<T> {
    Found(T),
    /// It existed and is no longer kept.
    Gone,
    Unknown,
}

#[derive(Clone, Debug, Default)]
pub struct JobFilter {
    pub status: Option<Status>,
    pub conversation: Option<ConversationId>,
    /// 1-100.
    pub limit: usize,
    /// Only jobs older than this one.
    pub before: Option<JobId>,
}

/// A part of a list; `next` is where the next part starts.
#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    pub data: Vec<T>,
    pub next: Option<String>,
}

impl<T> Page<T> {
    /// The first `limit` of `found`, which has one more when there is a next part; `place` names where it
    /// starts by the last item of this one.
    #[must_use]
    pub fn of(mut found: Vec<T>, limit: usize, place: impl FnOnce(&T) -> String) -> Self {
        let more = limit < found.len();
        found.truncate(limit);
        let next = found.last().filter(|_| more).map(place);
        Self { data: found, next }
    }
}

/// A part of a log.
#[derive(Clone, Debug)]
pub struct LogPage {
    pub events: Vec<Arc<Event>>,
    /// Where the whole log ends now.
    pub last_seq: u64,
    /// The job is terminal: nothing will follow.
    pub sealed: bool,
    /// Events up to this `seq` are no longer held (0: all are).
    pub trimmed_to: u64,
}

/// News of one job's log.
pub struct Subscription {
    receiver: broadcast::Receiver<Arc<Event>>,
    log: Option<LogPage>,
    /// Ends the adapter's interest in this job when the reader goes away.
    _guard: Box<dyn Send + Sync>,
}

impl Subscription {
    #[must_use]
    pub fn new(receiver: broadcast::Receiver<Arc<Event>>, guard: Box<dyn Send + Sync>) -> Self {
        Self { receiver, log: None, _guard: guard }
    }

    /// The same, with the log as of the moment it began.
    #[must_use]
    pub fn with_log(self, log: Option<LogPage>) -> Self {
        Self { log, ..self }
    }

    /// The log as of the moment this began, if it came with it; once.
    pub fn take_log(&mut self) -> Option<LogPage> {
        self.log.take()
    }

    /// The next news. Cancel-safe.
    pub async fn next(&mut self) -> Signal {
        match self.receiver.recv().await {
            Ok(event) => Signal::Event(event),
            Err(broadcast::error::RecvError::Lagged(_)) => Signal::Lagged,
            Err(broadcast::error::RecvError::Closed) => Signal::Closed,
        }
    }
}

#[derive(Clone, Debug)]
pub enum Signal {
    Event(Arc<Event>),
    /// Something was dropped: read the log.
    Lagged,
    /// Nothing more will come: read the log, subscribe again.
    Closed,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UsageBy {
    Day,
    Tenant,
    Model,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UsageRow {
    /// The day, tenant or model.
    pub key: String,
    pub calls: u64,
    pub input_tokens: u64,
    pub output_tokens: u64,
    /// Billionths of a dollar.
    pub nano_usd: u64,
}
