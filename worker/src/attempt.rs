//! One attempt at a job: its journal and its way to the log.
//!
//! A pipeline writes events with [`Attempt::emit`]; an appender sends them to the store as they come.
//! While one append is in flight the next events gather, so a quiet system adds no delay and a busy
//! one batches by itself. In a brownout text gathers for a while longer (`attempt/pace.rs`).

mod append;
mod pace;

use std::collections::{BTreeSet, HashMap, HashSet};
use std::future::Future;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::sync::watch;

use millhand_common::brownout::{Brownout, Step};
use millhand_common::crash;
use millhand_common::model::{EventBody, Job, JobError, OutputFold, Spent, StepKind, Usage};
use millhand_common::ports::{Lease, Run};

/// Events that may wait for the appender before `emit` waits too.
const MAX_PENDING: usize = 1024;

/// The attempt has to end: its lease, its deadline or its process does. Nothing it writes counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the attempt was stopped")]
pub struct Stopped;

/// Why a pipeline did not reach a terminal state by itself.
#[derive(Debug, thiserror::Error)]
pub enum Failure {
    #[error(transparent)]
    Stopped(#[from] Stopped),
    /// Nothing went wrong: there is no quota for its next model call before `after` from now.
    #[error("there is no model quota for {after:?}")]
    NoQuota { after: Duration },
    /// No pool can serve its next model call before `after` from now. It counts as no retry.
    #[error("no model can be asked for {after:?}")]
    NoModel { after: Duration },
    /// Worth another attempt, not before `after` from now.
    #[error("{error:?}")]
    Retry { error: JobError, after: Option<Duration> },
    /// No attempt would do better.
    #[error("{0:?}")]
    Fatal(JobError),
    /// There is no money for its next model call; what there is of an answer is kept.
    #[error("{0:?}")]
    OverBudget(JobError),
}

/// Whether a step's work is to be done.
pub enum Begun {
    /// An earlier attempt finished it: this is its result.
    Replay(Value),
    Run,
}

/// One worker's run of a job.
pub struct Attempt {
    job: Job,
    lease: Lease,
    deadline: Instant,
    /// Results of steps that earlier attempts finished.
    finished: HashMap<String, Value>,
    /// Steps that earlier attempts began and did not finish.
    in_doubt: HashSet<String>,
    brownout: Arc<Brownout>,
    /// The smaller model is asked: from the beginning to the end, whatever becomes of the load.
    asks_smaller: bool,
    out: Mutex<Out>,
    /// Counts emitted events; the appender waits for it to grow.
    emitted: watch::Sender<u64>,
    /// Counts events that are durable; [`Self::flush`] waits for it.
    durable: watch::Sender<Durable>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Durable {
    count: u64,
    stopped: bool,
}

struct Out {
    pending: Vec<EventBody>,
    emitted: u64,
    next_seq: u64,
    fold: OutputFold,
    /// By all attempts.
    spent: Spent,
    /// What is pending should not gather for longer.
    urgent: bool,
    /// What the answer goes without for the load.
    degraded: BTreeSet<String>,
}

impl Attempt {
    /// The attempt that a claim began.
    #[must_use]
    pub fn new(run: Run) -> Self {
        let mut finished = HashMap::new();
        let mut in_doubt = HashSet::new();
        let mut spent = Spent::default();
        for body in run.log.iter().filter_map(|event| event.body()) {
            match body {
                EventBody::StepStarted { key, .. } => {
                    in_doubt.insert(key);
                }
                EventBody::StepCompleted { key, result, .. } => {
                    in_doubt.remove(&key);
                    finished.insert(key, result);
                }
                EventBody::UsageUpdated(used) => spent.add(&used),
                _ => {}
            }
        }
        let left = run.job.expires_at.since(millhand_common::model::Timestamp::now());
        Self {
            deadline: Instant::now() + left,
            finished,
            in_doubt,
            brownout: Arc::default(),
            asks_smaller: false,
            out: Mutex::new(Out {
                pending: Vec::new(),
                emitted: 0,
                next_seq: run.job.last_seq + 1,
                fold: OutputFold::default(),
                spent,
                urgent: false,
                degraded: BTreeSet::new(),
            }),
            emitted: watch::Sender::new(0),
            durable: watch::Sender::new(Durable { count: 0, stopped: false }),
            job: run.job,
            lease: run.lease,
        }
    }

    /// The same, which goes without what `brownout` says; else it goes without nothing.
    #[must_use]
    pub fn under(mut self, brownout: Arc<Brownout>) -> Self {
        self.asks_smaller = brownout.takes(Step::SmallerModel);
        self.brownout = brownout;
        self
    }

    /// Whether this step of a brownout is taken now.
    pub(crate) fn goes_without(&self, step: Step) -> bool {
        if step == Step::SmallerModel { self.asks_smaller } else { self.brownout.takes(step) }
    }

    /// The longest answer to ask for: what the job says, else `bound`; in a brownout no longer than is
    /// configured for it.
    pub(crate) fn max_output_tokens(&self, bound: Option<u32>) -> Option<u32> {
        let usual = self.job.spec.max_output_tokens.or(bound);
        usual.into_iter().chain(self.shorter()).min()
    }

    /// Whether an answer of at most `tokens` could be longer without the brownout.
    pub(crate) fn is_shorter(&self, tokens: Option<u32>) -> bool {
        let own = self.job.spec.max_output_tokens;
        self.shorter().is_some_and(|most| tokens == Some(most) && own.is_none_or(|own| own > most))
    }

    fn shorter(&self) -> Option<u32> {
        self.brownout.config().max_output_tokens.filter(|_| self.asks_smaller)
    }

    /// The answer goes without this, in words of [`millhand_common::model::degraded`]: as its journaled steps
    /// say, or as it is.
    pub(crate) fn go_without(&self, what: &[String]) {
        self.out().degraded.extend(what.iter().cloned());
    }

    /// What the answer goes without, as far as it is made.
    #[must_use]
    pub fn degraded(&self) -> Vec<String> {
        self.out().degraded.iter().cloned().collect()
    }

    #[must_use]
    pub fn job(&self) -> &Job {
        &self.job
    }

    #[must_use]
    pub fn lease(&self) -> &Lease {
        &self.lease
    }

    /// When the job ends, on this machine's monotonic clock.
    #[must_use]
    pub fn deadline(&self) -> Instant {
        self.deadline
    }

    /// What is left until the deadline.
    #[must_use]
    pub fn time_left(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    /// Text and citations emitted by this attempt so far.
    #[must_use]
    pub fn output(&self) -> OutputFold {
        self.out().fold.clone()
    }

    /// What the calls of all attempts have used so far; `None` where there were none.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        self.out().spent.usage()
    }

    /// Writes an event. It is durable and shown some time later, in order; [`Self::flush`] waits for
    /// that. Waits while too many events are pending. May be dropped: the event was taken or not.
    pub async fn emit(&self, event: EventBody) -> Result<(), Stopped> {
        loop {
            let seen = *self.durable.borrow();
            if seen.stopped {
                return Err(Stopped);
            }
            {
                let out = self.out();
                if out.pending.len() < MAX_PENDING {
                    self.push(out, event);
                    return Ok(());
                }
            }
            self.durable.subscribe().wait_for(|now| *now != seen).await.map_err(|_| Stopped)?;
        }
    }

    /// Writes an event without waiting, however many are pending: for the few that must not be lost when
    /// the pipeline is dropped. After [`Self::stop`] nothing happens.
    pub(crate) fn note(&self, event: EventBody) {
        if !self.is_stopped() {
            self.push(self.out(), event);
        }
    }

    fn push(&self, mut out: MutexGuard<'_, Out>, event: EventBody) {
        out.fold.push(&event);
        out.urgent |= !pace::may_gather(&event);
        if let EventBody::UsageUpdated(used) = &event {
            out.spent.add(used);
        }
        out.pending.push(event);
        out.emitted += 1;
        let count = out.emitted;
        drop(out);
        self.emitted.send_replace(count);
    }

    /// Waits until everything emitted so far is durable.
    pub async fn flush(&self) -> Result<(), Stopped> {
        let target = {
            let mut out = self.out();
            out.urgent = true;
            out.emitted
        };
        self.emitted.send_modify(|_| {});
        let mut durable = self.durable.subscribe();
        let state = *durable.wait_for(|now| now.stopped || now.count >= target).await.map_err(|_| Stopped)?;
        if state.count >= target { Ok(()) } else { Err(Stopped) }
    }

    /// Whether an earlier attempt finished this step.
    #[must_use]
    pub fn has_finished(&self, key: &str) -> bool {
        self.finished.contains_key(key)
    }

    /// Begins a step: replays the result of an earlier attempt, or says durably that the work is
    /// about to be done. After `Run` the caller works and then calls [`Self::complete`].
    pub async fn begin(&self, key: &str, kind: StepKind) -> Result<Begun, Stopped> {
        let begun = self.announce(key, kind).await?;
        if let Begun::Run = begun {
            self.flush().await?;
            crash::point("step.started");
        }
        Ok(begun)
    }

    /// The same, durable some time later: for work that flushes before it begins.
    pub(crate) async fn announce(&self, key: &str, kind: StepKind) -> Result<Begun, Stopped> {
        if let Some(result) = self.finished.get(key) {
            let completed = EventBody::StepCompleted {
                key: key.to_owned(),
                kind,
                result: result.clone(),
                replayed: true,
            };
            self.emit(completed).await?;
            return Ok(Begun::Replay(result.clone()));
        }
        let in_doubt = self.in_doubt.contains(key);
        self.emit(EventBody::StepStarted { key: key.to_owned(), kind, in_doubt }).await?;
        Ok(Begun::Run)
    }

    /// Journals the result of a step: a later attempt will not do it again.
    pub async fn complete(&self, key: &str, kind: StepKind, result: Value) -> Result<(), Stopped> {
        self.emit(EventBody::StepCompleted { key: key.to_owned(), kind, result, replayed: false }).await?;
        crash::point("step.completed");
        Ok(())
    }

    /// A whole step whose work is one future. A failed work is not journaled.
    pub async fn step<T, W>(&self, key: &str, kind: StepKind, work: W) -> Result<T, Failure>
    where
        T: Serialize + DeserializeOwned,
        W: Future<Output = Result<T, Failure>>,
    {
        if let Begun::Replay(result) = self.begin(key, kind).await? {
            return serde_json::from_value(result)
                .map_err(|err| Failure::Fatal(JobError::new("journal_unreadable", err.to_string(), false)));
        }
        let result = work.await?;
        let value = serde_json::to_value(&result).expect("step results are plain data");
        self.complete(key, kind, value).await?;
        Ok(result)
    }

    /// Ends the attempt: whatever is emitted from now on is refused.
    pub fn stop(&self) {
        self.durable.send_modify(|durable| durable.stopped = true);
    }

    /// Whether [`Self::stop`] was called.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.durable.borrow().stopped
    }

    /// Completes when the attempt is stopped. Cancel-safe.
    pub async fn stopped(&self) {
        // An error means the sender is gone, which needs `self` to be gone.
        let _ = self.durable.subscribe().wait_for(|now| now.stopped).await;
    }

    fn out(&self) -> MutexGuard<'_, Out> {
        self.out.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
