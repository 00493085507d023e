//! One lane's consumer: a thread of its own polls without end, so that membership of the group never
//! depends on how long a job takes.

use std::collections::{HashMap, VecDeque};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, CommitMode, Consumer, ConsumerContext, Rebalance};
use rdkafka::error::KafkaResult;
use rdkafka::message::{BorrowedMessage, Message};
use rdkafka::{Offset, TopicPartitionList};
use tokio::sync::Notify;

use super::tracker::Tracker;
use crate::model::Hint;
use crate::ports::{BrokerError, Delivery, Settle};
use crate::telemetry;

/// Hints held beyond those asked for.
const PREFETCH: usize = 8;
/// How long a full lane just polls no more. Pausing drops what librdkafka has fetched, and the next fetch
/// that has a resumed partition in it starts when the one under way ends (`fetch.wait.max.ms`): workers
/// with short jobs would get a few hints in each such time. It delays rebalances and commits, so it must be short.
const HOLD: Duration = Duration::from_millis(100);
/// How often pausing, committing and stopping are looked at while no message comes.
const POLL: Duration = Duration::from_millis(20);
const COMMIT_EVERY: Duration = Duration::from_millis(100);
/// Dropping a consumer of librdkafka can hang; whoever stops it waits this long at most.
const STOP_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct LaneConsumer {
    lane: Arc<Shared>,
    ended: Mutex<mpsc::Receiver<()>>,
}

pub(super) struct Shared {
    topic: String,
    state: Mutex<State>,
    arrived: Notify,
    /// Told when a hint is taken, or asked for.
    room: Condvar,
    stop: AtomicBool,
}

#[derive(Default)]
struct State {
    /// Receivers that wait.
    asked: usize,
    ready: VecDeque<Record>,
    /// One per assigned partition that has given a hint, with the number of its assignment.
    partitions: HashMap<i32, (u64, Tracker)>,
    assignments: u64,
    /// Whether all partitions are paused, or none; unknown after a rebalance, which leaves those that stay as
    /// they were and brings new ones that are not.
    paused: Option<bool>,
}

struct Record {
    hint: Hint,
    partition: i32,
    assignment: u64,
    offset: i64,
    redelivered: bool,
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn tracker(&mut self, record: &Record) -> Option<&mut Tracker> {
        let (assignment, tracker) = self.partitions.get_mut(&record.partition)?;
        (*assignment == record.assignment).then_some(tracker)
    }

    fn to_commit(&self, topic: &str, only: impl Fn(i32) -> bool) -> TopicPartitionList {
        let mut offsets = TopicPartitionList::new();
        for (&partition, (_, tracker)) in &self.partitions {
            if let Some(offset) = tracker.to_commit().filter(|_| only(partition)) {
                // Fails for a negative offset only.
                let _valid = offsets.add_partition_offset(topic, partition, Offset::Offset(offset));
            }
        }
        offsets
    }

    fn is_full(&self) -> bool {
        self.ready.len() >= self.asked + PREFETCH
    }

    fn forget(&mut self, partition: i32) {
        self.partitions.remove(&partition);
        self.ready.retain(|record| record.partition != partition);
    }
}

struct Group(Arc<Shared>);

impl ClientContext for Group {}

impl ConsumerContext for Group {
    fn pre_rebalance(&self, consumer: &BaseConsumer<Self>, rebalance: &Rebalance<'_>) {
        let mut state = self.0.state();
        let Rebalance::Revoke(revoked) = rebalance else { return };
        let revoked: Vec<i32> = revoked.elements().iter().map(|part| part.partition()).collect();
        let offsets = state.to_commit(&self.0.topic, |partition| revoked.contains(&partition));
        for &partition in &revoked {
            state.forget(partition);
        }
        drop(state);
        // What is lost belongs to another by now, whose commits must not be set back.
        if consumer.assignment_lost() || offsets.count() == 0 {
            return;
        }
        if let Err(err) = consumer.commit(&offsets, CommitMode::Sync) {
            tracing::warn!(error = %err, "offsets of revoked partitions are not committed");
        }
    }

    fn post_rebalance(&self, _: &BaseConsumer<Self>, _: &Rebalance<'_>) {
        self.0.state().paused = None;
    }

    fn commit_callback(&self, result: KafkaResult<()>, offsets: &TopicPartitionList) {
        if let Err(err) = result {
            tracing::debug!(error = %err, "offsets not committed, they are tried again");
            return;
        }
        let mut state = self.0.state();
        for part in offsets.elements() {
            if let (Offset::Offset(offset), Some((_, tracker))) =
                (part.offset(), state.partitions.get_mut(&part.partition()))
            {
                tracker.committed(offset);
            }
        }
    }
}

/// A receiver that waits, counted for as long as it does.
struct Asked<'a>(&'a Shared);

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.0.state().asked -= 1;
        // A wake-up that this one may have had is passed on.
        self.0.arrived.notify_one();
    }
}

impl LaneConsumer {
    pub(super) fn start(config: &ClientConfig, topic: String) -> KafkaResult<Self> {
        let lane = Arc::new(Shared {
            topic,
            state: Mutex::default(),
            arrived: Notify::new(),
            room: Condvar::new(),
            stop: AtomicBool::new(false),
        });
        let consumer: BaseConsumer<Group> = config.create_with_context(Group(Arc::clone(&lane)))?;
        consumer.subscribe(&[&lane.topic])?;
        let (end, ended) = mpsc::sync_channel(1);
        let polled = Arc::clone(&lane);
        thread::spawn(move || {
            poll(&polled, &consumer);
            drop(consumer);
            // Nobody waits any more.
            let _late = end.send(());
        });
        Ok(Self { lane, ended: Mutex::new(ended) })
    }

    /// Cancel-safe: a hint is taken in the last poll only.
    pub(super) async fn receive(&self) -> Delivery {
        self.lane.state().asked += 1;
        self.lane.room.notify_one();
        let _asked = Asked(&self.lane);
        loop {
            let arrived = self.lane.arrived.notified();
            let record = self.lane.state().ready.pop_front();
            if let Some(record) = record {
                self.lane.room.notify_one();
                let (hint, redelivered) = (record.hint.clone(), record.redelivered);
                let lent = Lent { lane: Arc::clone(&self.lane), record };
                return Delivery::new(hint, redelivered, Box::new(lent));
            }
            arrived.await;
        }
    }

    /// Where this process stands in each partition it has, and how many hints it holds ready.
    pub(super) fn taken(&self) -> (HashMap<i32, i64>, usize) {
        let state = self.lane.state();
        let next = state.partitions.iter().map(|(&part, (_, tracker))| (part, tracker.next())).collect();
        (next, state.ready.len())
    }
}

impl Drop for LaneConsumer {
    fn drop(&mut self) {
        self.lane.stop.store(true, Ordering::Relaxed);
        let ended = self.ended.get_mut().unwrap_or_else(PoisonError::into_inner);
        if ended.recv_timeout(STOP_TIMEOUT).is_err() {
            tracing::warn!("a Kafka consumer does not end: its group will notice");
        }
    }
}

struct Lent {
    lane: Arc<Shared>,
    record: Record,
}

#[async_trait]
impl Settle for Lent {
    async fn ack(self: Box<Self>) -> Result<(), BrokerError> {
        let mut state = self.lane.state();
        // A partition that is revoked has a new owner, which finds the job taken.
        let tracker = state.tracker(&self.record).ok_or(BrokerError::NotConfirmed)?;
        tracker.complete(self.record.offset);
        Ok(())
    }

    fn give_back(self: Box<Self>) {
        let Self { lane, mut record } = *self;
        record.redelivered = true;
        let mut state = lane.state();
        if state.tracker(&record).is_some() {
            state.ready.push_front(record);
            lane.arrived.notify_one();
        }
    }
}

fn poll(lane: &Shared, consumer: &BaseConsumer<Group>) {
    let mut commit_at = Instant::now();
    while !lane.stop.load(Ordering::Relaxed) {
        match consumer.poll(POLL) {
            Some(Ok(message)) => take(lane, &message),
            Some(Err(err)) => tracing::debug!(error = %err, "Kafka consumer"),
            None => {}
        }
        hold_back(lane, consumer);
        if commit_at <= Instant::now() {
            commit_at = Instant::now() + COMMIT_EVERY;
            commit(lane, consumer, CommitMode::Async);
        }
    }
    commit(lane, consumer, CommitMode::Sync);
}

fn take(lane: &Shared, message: &BorrowedMessage<'_>) {
    let (partition, offset) = (message.partition(), message.offset());
    let mut state = lane.state();
    if !state.partitions.contains_key(&partition) {
        state.assignments += 1;
        let assignment = state.assignments;
        state.partitions.insert(partition, (assignment, Tracker::new(offset)));
    }
    let Some((assignment, tracker)) = state.partitions.get_mut(&partition) else { return };
    if !tracker.lend(offset) {
        return;
    }
    let assignment = *assignment;
    match serde_json::from_slice::<Hint>(message.payload().unwrap_or_default()) {
        Ok(hint) => {
            // Kafka does not know whether a record was lent before. A claim is durable before its
            // hint is committed, so a job whose owner died is found by its lease.
            state.ready.push_back(Record { hint, partition, assignment, offset, redelivered: false });
            lane.arrived.notify_one();
        }
        Err(err) => {
            tracker.complete(offset);
            metrics::counter!(telemetry::HINTS_SKIPPED).increment(1);
            tracing::warn!(%partition, %offset, error = %err, "a message that is no hint is skipped");
        }
    }
}

fn hold_back(lane: &Shared, consumer: &BaseConsumer<Group>) {
    let mut state = lane.state();
    if state.paused != Some(true) && state.is_full() {
        let waited = lane.room.wait_timeout_while(state, HOLD, |state| state.is_full());
        state = waited.unwrap_or_else(PoisonError::into_inner).0;
    }
    let full = state.is_full();
    if state.paused == Some(full) {
        return;
    }
    let done =
        consumer.assignment().and_then(|all| if full { consumer.pause(&all) } else { consumer.resume(&all) });
    match done {
        Ok(()) => state.paused = Some(full),
        Err(err) => tracing::debug!(error = %err, "cannot pause or resume, tried again"),
    }
}

fn commit(lane: &Shared, consumer: &BaseConsumer<Group>, mode: CommitMode) {
    let offsets = lane.state().to_commit(&lane.topic, |_| true);
    if offsets.count() == 0 || consumer.assignment_lost() {
        return;
    }
    if let Err(err) = consumer.commit(&offsets, mode) {
        tracing::debug!(error = %err, "offsets not committed, they are tried again");
    }
}
