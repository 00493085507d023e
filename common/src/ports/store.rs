//! The truth about jobs. Every operation is atomic, runs on the store's clock, and may be repeated:
//! a repetition returns the first answer.

use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::model::{
    Event, EventBody, Job, JobId, JobSpec, Lane, OnBusy, Status, TenantId, Terminal, Timestamp, WaitReason,
    WorkerId,
};

use super::{LaneDepth, TenantLoad};

/// The operations of DESIGN.md 3. Unless a method says otherwise its future may be dropped: the
/// operation then happened whole or not at all.
#[async_trait]
pub trait JobStore: Send + Sync {
    /// Writes the record, `seq` 1 `job.queued` and the job's place in its conversation. When it
    /// returns `Created` the job survives any single process.
    async fn accept(&self, accept: Accept) -> Result<Accepted, StoreError>;

    /// The broker confirmed these hints: they leave the due index unless something else made them due.
    async fn hinted(&self, jobs: &[(TenantId, JobId)]) -> Result<(), StoreError>;

    /// Nobody acts on these hints: jobs that wait for theirs only become due now.
    async fn unhinted(&self, jobs: &[(TenantId, JobId)]) -> Result<(), StoreError>;

    /// Takes a job for an owner: epoch+1, attempt+1, lease, `attempt.started`.
    async fn claim(&self, tenant: &TenantId, job: JobId, claim: Claim) -> Result<Claimed, StoreError>;

    /// Takes the due job of the least-served tenant, oldest accept first; `None` when none is due.
    async fn claim_due(&self, lane: Lane, claim: Claim) -> Result<Option<Run>, StoreError>;

    /// Returns when a `claim_due` may find a job; also now and then without reason. Cancel-safe.
    async fn due(&self);

    /// Marks the live lease of a job that may have lost its owner, and every other lease of that owner: a
    /// hint tells of one job, and the others may have come without. Wakes the owner; it keeps a job when it
    /// renews within 400 ms, else the job becomes due.
    async fn challenge(&self, tenant: &TenantId, job: JobId) -> Result<(), StoreError>;

    /// Extends the lease to 10 s from now and answers a challenge.
    async fn renew(&self, lease: &Lease) -> Result<Renewed, StoreError>;

    /// Extends the log; `first_seq` is the `seq` of the first event. Durable and published when it
    /// returns `Ok`.
    async fn append(
        &self,
        lease: &Lease,
        first_seq: u64,
        events: Vec<EventBody>,
    ) -> Result<Appended, StoreError>;

    /// Gives the job back: `queued`, `job.waiting`, due at `not_before`.
    async fn release(
        &self,
        lease: &Lease,
        not_before: Option<Timestamp>,
        reason: WaitReason,
    ) -> Result<Released, StoreError>;

    /// Ends the job: `tail` events, the last event, status, conversation history, next job of the
    /// conversation due, wake-up, all in one.
    async fn close(
        &self,
        tenant: &TenantId,
        job: JobId,
        by: By,
        terminal: Terminal,
    ) -> Result<Closed, StoreError>;

    /// Asks for the end of a job: a waiting one is closed now, a running one through its owner, who
    /// is told at once and closed over its head when it does not obey.
    async fn cancel(&self, tenant: &TenantId, job: JobId) -> Result<Cancelled, StoreError>;

    /// Says that this worker lives and what it does; repeated each second. A worker that stops saying
    /// so for 3 s has its jobs challenged.
    /// Answers what operators want of it.
    async fn present(&self, worker: &WorkerInfo) -> Result<WorkerOrders, StoreError>;

    /// Asks a worker to drain, which it hears when it next says that it lives; false when no such worker
    /// lives.
    async fn drain_worker(&self, worker: WorkerId) -> Result<bool, StoreError>;

    /// Stops or resumes claims of a lane, by hint or from the due index, whatever process asks. Accepts go on,
    /// and so do jobs that run, deadlines and cancels. May be repeated; outlives processes.
    async fn pause_lane(&self, lane: Lane, paused: bool) -> Result<(), StoreError>;

    /// The next thing the store wants from this worker's jobs. Cancel-safe.
    async fn signal(&self, worker: WorkerId) -> WorkerSignal;

    /// One round of: expired leases, absent workers, deadlines, disobeyed cancels, retention.
    async fn sweep(&self) -> Result<SweepReport, StoreError>;

    /// A version for a document write or delete outside a job; rises with every call and every accept.
    async fn stamp(&self) -> Result<u64, StoreError>;

    /// Removes input, output and log of a terminal job; a running one answers `Err(Open)`.
    async fn delete(&self, tenant: &TenantId, job: JobId) -> Result<bool, StoreError>;

    /// The work of each lane, most urgent first, as the store counts it, also when no worker lives; what comes
    /// due within `soon` is told apart.
    async fn depth(&self, soon: Duration) -> Result<Vec<LaneDepth>, StoreError>;

    /// How many jobs each tenant has in the due index, those with a hint included: what waits for a worker. Of
    /// very many tenants the ones with the most.
    async fn lines(&self) -> Result<Vec<Line>, StoreError>;

    /// What each tenant has waiting and running, for operators. Of very many tenants those with the longest
    /// lines, those that run jobs, and those whose turn comes last.
    async fn tenants(&self) -> Result<Vec<TenantLoad>, StoreError>;

    /// The workers that said they live.
    async fn workers(&self) -> Result<Vec<WorkerInfo>, StoreError>;

    /// Jobs that failed for good and are kept for study, newest first.
    async fn dead_letters(&self, limit: usize, before: Option<JobId>) -> Result<Vec<DeadLetter>, StoreError>;

    /// Makes a new job of a dead letter, once: a second call answers the same job.
    async fn replay(&self, job: JobId) -> Result<Replayed, StoreError>;

    /// Forgets a dead letter (its job stays, failed); false when there is none.
    async fn drop_dead_letter(&self, job: JobId) -> Result<bool, StoreError>;

    /// Whether the store can be written now; the reason when it cannot.
    async fn ready(&self) -> Result<(), StoreError>;
}

/// A job to accept.
#[derive(Clone, Debug)]
pub struct Accept {
    pub spec: JobSpec,
    /// The conversation must exist already; else it is made with the job.
    pub known_conversation: bool,
    pub on_busy: OnBusy,
    /// Nothing new is taken in: only what was accepted before is answered, else [`Accepted::Refused`].
    pub replays_only: bool,
    /// The caller's key and a digest of the request it was sent with.
    pub idempotency: Option<(String, [u8; 32])>,
    pub expected: Expected,
}

/// When a job that may start at once is expected to, by whoever accepts it: `job.queued` says it, and its record
/// until it starts. Nothing is decided by it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expected {
    /// Jobs that will start before it.
    pub position: Option<u64>,
    pub start_at: Option<Timestamp>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Accepted {
    Created(Box<Job>),
    /// The same key and body were accepted before.
    Existing(Box<Job>),
    /// The key was used with another body.
    KeyReused,
    /// `on_busy: reject`, and this job is open in the conversation.
    ConversationBusy(JobId),
    /// `known_conversation`, and there is none of that id.
    NoConversation,
    /// `replays_only`, and it is new.
    Refused,
}

/// Who claims.
#[derive(Clone, Copy, Debug)]
pub struct Claim {
    pub owner: WorkerId,
    /// New for each claim; a repeated one returns the first answer.
    pub op: Uuid,
}

impl Claim {
    #[must_use]
    pub fn new(owner: WorkerId) -> Self {
        Self { owner, op: Uuid::now_v7() }
    }
}

#[derive(Clone, Debug)]
pub enum Claimed {
    Run(Box<Run>),
    /// Terminal, deleted or unknown: the hint is of no use.
    Done,
    /// Another owner's lease is live.
    Busy,
    /// Not its turn yet; it will become due by itself.
    Waiting,
}

/// A claimed job.
#[derive(Clone, Debug)]
pub struct Run {
    pub job: Job,
    pub lease: Lease,
    /// The log so far, this attempt's `attempt.started` included. It is the journal.
    pub log: Vec<Event>,
}

/// The right to write to a job's log, until its epoch is passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lease {
    pub tenant: TenantId,
    pub job: JobId,
    pub epoch: u64,
}

impl Lease {
    /// How long a claim or renewal lasts.
    pub const TTL: Duration = Duration::from_secs(10);
    /// How often an owner renews.
    pub const RENEW_EVERY: Duration = Duration::from_secs(3);
    /// How long a challenged owner has to renew.
    pub const CHALLENGE: Duration = Duration::from_millis(400);
    /// How long a worker's word that it lives lasts.
    pub const PRESENCE_TTL: Duration = Duration::from_secs(3);
    /// How long an owner has to obey a cancel before its job is closed over its head.
    pub const CANCEL_GRACE: Duration = Duration::from_secs(2);
    /// How long after accept a job whose hint was never confirmed becomes due.
    pub const HINT_GRACE: Duration = Duration::from_secs(5);
    /// A job that died this often is poison.
    pub const MAX_DEATHS: u32 = 3;
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Renewed {
    Ok,
    /// Somebody else owns the job, or it is terminal: stop all output.
    Fenced,
    /// Go on holding the job only to close it as cancelled.
    CancelRequested,
    /// The deadline has passed: close the job now.
    Expired,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Appended {
    Ok,
    /// These events are in the log already.
    Duplicate,
    /// The log ends at this `seq`: send again from there.
    Behind(u64),
    Fenced,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Released {
    Ok,
    Fenced,
}

/// Who ends a job.
#[derive(Clone, Debug, PartialEq)]
pub enum By {
    /// Its owner; `tail` are its last events, from `first_seq`.
    Owner { epoch: u64, first_seq: u64, tail: Vec<EventBody> },
    /// Anybody, whatever its lease: a disobeyed cancel, a deadline, poison.
    Anyone,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Closed {
    Ok,
    Fenced,
    Already(Status),
}

#[derive(Clone, Debug, PartialEq)]
pub enum Cancelled {
    /// The record as it is now: cancelled, or running with the request noted, or terminal before.
    Job(Box<Job>),
    Unknown,
    Gone,
}

/// A worker as operators see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkerInfo {
    pub id: WorkerId,
    pub slots: u32,
    pub running: u32,
    pub draining: bool,
    /// It answers from documents that no other worker has.
    #[serde(default)]
    pub own_index: bool,
    /// The name of its machine, which is its pod's on Kubernetes; empty when it did not say.
    #[serde(default)]
    pub host: String,
}

/// What operators want of a worker.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WorkerOrders {
    /// Finish what runs, pull no more.
    pub drain: bool,
    /// Lanes of which nothing is claimed.
    pub paused: Vec<Lane>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum WorkerSignal {
    /// Renew this lease now.
    Challenge(Lease),
    /// Stop this job and close it as cancelled.
    Cancel(Lease),
}

/// What one sweep did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SweepReport {
    pub taken_over: u64,
    pub challenged: u64,
    pub expired: u64,
    pub cancelled: u64,
    pub poisoned: u64,
    pub logs_removed: u64,
    pub jobs_removed: u64,
    /// Workers that say that they live, where processes share a store: they sweep too.
    pub workers: u64,
}

/// Jobs of one tenant that wait for a worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    pub lane: Lane,
    pub tenant: TenantId,
    pub waiting: u64,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeadLetter {
    pub job: Job,
    pub buried_at: Timestamp,
    pub replayed_as: Option<JobId>,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Replayed {
    /// The new job; `true` when this call made it.
    Job(Box<Job>, bool),
    Unknown,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum StoreError {
    /// Accepts stop, accepted work goes on.
    #[error("storage is full")]
    Full,
    /// The operation may or may not have happened.
    #[error("store is unreachable: {0}")]
    Unreachable(String),
    /// The job is not terminal.
    #[error("job is still open")]
    Open,
    /// Stored bytes do not make sense.
    #[error("stored data is damaged: {0}")]
    Damaged(String),
}
