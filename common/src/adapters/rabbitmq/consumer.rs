//! One lane's consumer: its channel, and the hints that were sent to this process.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::{FutureExt, StreamExt};
use lapin::message::Delivery as Message;
use lapin::options::{
    BasicAckOptions, BasicCancelOptions, BasicConsumeOptions, BasicNackOptions, BasicQosOptions,
    QueueDeclareOptions,
};
use lapin::types::{FieldTable, ShortString};
use lapin::{Acker, Channel, Consumer};
use tokio::sync::Notify;
use tokio::time::Instant;

use super::link::{GOOD, Line, Link, wait_before};
use super::reason;
use super::topology::MISSING;
use crate::model::Hint;
use crate::ports::{BrokerError, Delivery, Settle};
use crate::telemetry;

/// How long hints come that nobody asks for: due work has taken the slots that they were for.
const HOLD: Duration = Duration::from_millis(100);
/// A consumer that a server has forgotten is not told so: it is found when it was sent nothing between two
/// looks at a queue that holds something.
const LOOK_EVERY: Duration = Duration::from_secs(5);
/// Longest wait for an answer of the server, and for an ack to be sent.
const TIMEOUT: Duration = Duration::from_secs(5);

pub(super) struct LaneConsumer {
    queue: ShortString,
    /// How many unsettled hints a consumer is sent at most.
    prefetch: u16,
    state: Mutex<State>,
    /// A hint is ready.
    arrived: Notify,
    /// The first receiver waits, or the last one stopped waiting; or the flow of hints was stopped.
    changed: Notify,
}

#[derive(Default)]
struct State {
    /// Receivers that wait.
    asked: usize,
    ready: VecDeque<Ready>,
    /// Since when hints are ready that nobody asks for.
    surplus_since: Option<Instant>,
    /// No more are sent before somebody asks.
    paused: bool,
}

impl State {
    /// One of a channel that has died is on its way to somebody else.
    fn next(&mut self) -> Option<Ready> {
        std::iter::from_fn(|| self.ready.pop_front()).find(|ready| ready.acker.usable())
    }

    /// What others wait for.
    fn in_short(&self) -> (bool, bool, bool) {
        (self.asked > 0, self.surplus_since.is_some(), self.paused)
    }
}

struct Ready {
    hint: Hint,
    redelivered: bool,
    acker: Acker,
}

impl Ready {
    fn lend(self) -> Delivery {
        Delivery::new(self.hint, self.redelivered, Box::new(Lent(self.acker)))
    }
}

/// A receiver that waits, counted for as long as it does.
struct Asked<'a>(&'a LaneConsumer);

impl<'a> Asked<'a> {
    fn count(lane: &'a LaneConsumer) -> Self {
        lane.change(|state| state.asked += 1);
        Self(lane)
    }
}

impl Drop for Asked<'_> {
    fn drop(&mut self) {
        self.0.change(|state| state.asked -= 1);
        // A wake-up that this one may have had is passed on.
        self.0.arrived.notify_one();
    }
}

impl LaneConsumer {
    pub(super) fn new(queue: ShortString, slots: u16) -> Self {
        Self {
            queue,
            // 0 would mean no limit.
            prefetch: slots.max(1),
            state: Mutex::default(),
            arrived: Notify::new(),
            changed: Notify::new(),
        }
    }

    /// Cancel-safe: a hint is taken in the last poll only.
    pub(super) async fn receive(&self) -> Delivery {
        let _asked = Asked::count(self);
        loop {
            let arrived = self.arrived.notified();
            if let Some(ready) = self.change(State::next) {
                return ready.lend();
            }
            arrived.await;
        }
    }

    /// What is here and not asked for, once no more of it comes. RabbitMQ would put what it is given back to the
    /// end of a quorum queue without a delivery limit.
    ///
    /// Cancel-safe: hints are taken in the last poll only.
    pub(super) async fn surplus(&self) -> Vec<Delivery> {
        loop {
            let changed = self.changed.notified();
            let hints: Vec<_> = self.change(|state| {
                let ready = if state.paused { std::mem::take(&mut state.ready) } else { VecDeque::new() };
                ready.into_iter().filter(|ready| ready.acker.usable()).map(Ready::lend).collect()
            });
            if !hints.is_empty() {
                return hints;
            }
            changed.await;
        }
    }

    /// Hints that were sent here and that nobody has taken yet.
    pub(super) fn held(&self) -> usize {
        self.state().ready.len()
    }

    /// Consumes without end, from the first receiver on, over one channel after the other.
    pub(super) async fn run(self: Arc<Self>, link: Arc<Link>) {
        let mut attempt = 0;
        loop {
            self.until_asked().await;
            let line = link.line().await;
            let started = Instant::now();
            let ended = self.consume(&link, &line).await;
            // The server has them again.
            self.change(|state| state.ready.clear());
            let reason = match ended {
                Ok(()) => "the server cancelled it".to_owned(),
                Err(reason) => reason,
            };
            if line.conn.status().connected() {
                tracing::warn!(queue = %self.queue, %reason, "a consumer ended and is made anew");
                tokio::time::sleep(MISSING).await;
            }
            if started.elapsed() >= GOOD {
                attempt = 0;
            }
            tokio::time::sleep(wait_before(attempt, fastrand::f64())).await;
            attempt = attempt.saturating_add(1);
        }
    }

    /// Consumes over one channel until it ends, and pauses while nobody asks.
    async fn consume(&self, link: &Link, line: &Line) -> Result<(), String> {
        // The queue may be what was lost.
        in_time(link.declare(line).map(|declared| declared.map_err(|err| err.to_string()))).await?;
        let channel = asked(line.conn.create_channel()).await?;
        asked(channel.basic_qos(self.prefetch, BasicQosOptions::default())).await?;
        loop {
            let options = BasicConsumeOptions::default();
            let consuming = channel.basic_consume(
                self.queue.clone(),
                ShortString::default(),
                options,
                FieldTable::default(),
            );
            let mut consumer = asked(consuming).await?;
            if !self.take_until_surplus(&channel, &mut consumer).await? {
                return Ok(());
            }
            self.stop_flow(&channel, &mut consumer).await?;
            self.change(|state| state.paused = true);
            self.until_asked().await;
            self.change(|state| state.paused = false);
        }
    }

    /// Takes what is sent: true when nobody asks for it, false when the server has cancelled the consumer.
    async fn take_until_surplus(&self, channel: &Channel, consumer: &mut Consumer) -> Result<bool, String> {
        let (mut look_at, mut waited) = (Instant::now() + LOOK_EVERY, false);
        loop {
            // Cancel-safe: a stream's `next` hands out or keeps; the others only wait.
            tokio::select! {
                sent = consumer.next() => match sent {
                    Some(Ok(message)) => {
                        self.take(message);
                        waited = false;
                    }
                    Some(Err(err)) => return Err(reason(&err)),
                    None => return Ok(false),
                },
                () = self.until_surplus() => return Ok(true),
                () = tokio::time::sleep_until(look_at) => {
                    let waits = self.is_missing_out(channel).await?;
                    if waits && waited {
                        return Err("hints wait, a slot is free, and none is sent".to_owned());
                    }
                    (look_at, waited) = (Instant::now() + LOOK_EVERY, waits);
                }
            }
        }
    }

    /// Whether hints wait in the queue and a receiver waits here. A queue that is gone is an error.
    async fn is_missing_out(&self, channel: &Channel) -> Result<bool, String> {
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let queue = asked(channel.queue_declare(self.queue.clone(), options, FieldTable::default())).await?;
        Ok(queue.message_count() > 0 && self.state().asked > 0)
    }

    /// Hints that are here stay here.
    async fn stop_flow(&self, channel: &Channel, consumer: &mut Consumer) -> Result<(), String> {
        asked(channel.basic_cancel(consumer.tag(), BasicCancelOptions::default())).await?;
        let rest = async {
            while let Some(sent) = consumer.next().await {
                self.take(sent.map_err(|err| reason(&err))?);
            }
            Ok(())
        };
        in_time(rest).await
    }

    fn take(&self, message: Message) {
        let Message { data, redelivered, acker, .. } = message;
        match serde_json::from_slice::<Hint>(&data) {
            Ok(hint) => {
                self.change(|state| state.ready.push_back(Ready { hint, redelivered, acker }));
                self.arrived.notify_one();
            }
            Err(err) => {
                metrics::counter!(telemetry::HINTS_SKIPPED).increment(1);
                tracing::warn!(queue = %self.queue, error = %err, "a message that is no hint is skipped");
                // Sent when polled once; where it is lost, the message comes again and is skipped again.
                let _sent = acker.ack(BasicAckOptions::default()).now_or_never();
            }
        }
    }

    /// Cancel-safe: it only waits.
    async fn until_asked(&self) {
        loop {
            let changed = self.changed.notified();
            if self.state().asked > 0 {
                return;
            }
            changed.await;
        }
    }

    /// Until hints have been ready for [`HOLD`] with nobody asking. Cancel-safe: it only waits.
    async fn until_surplus(&self) {
        loop {
            let changed = self.changed.notified();
            let since = self.state().surplus_since;
            match since {
                Some(since) if since.elapsed() >= HOLD => return,
                Some(since) => tokio::time::sleep_until(since + HOLD).await,
                None => changed.await,
            }
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state();
        let before = state.in_short();
        let changed = change(&mut state);
        if state.ready.is_empty() || state.asked > 0 {
            state.surplus_since = None;
        } else {
            state.surplus_since.get_or_insert_with(Instant::now);
        }
        if before != state.in_short() {
            self.changed.notify_waiters();
        }
        changed
    }
}

/// A hint in hand.
struct Lent(Acker);

#[async_trait]
impl Settle for Lent {
    async fn ack(self: Box<Self>) -> Result<(), BrokerError> {
        match tokio::time::timeout(TIMEOUT, self.0.ack(BasicAckOptions::default())).await {
            Ok(Ok(true)) => Ok(()),
            // Its channel has died: the hint is with another worker by now, or on its way.
            Ok(Ok(false) | Err(_)) | Err(_) => Err(BrokerError::NotConfirmed),
        }
    }

    /// The first poll hands it to lapin; the rest would only wait until it is written. A channel that has died
    /// has given the hint back already.
    fn give_back(self: Box<Self>) {
        let options = BasicNackOptions { requeue: true, ..BasicNackOptions::default() };
        let _sent = self.0.nack(options).now_or_never();
    }
}

async fn asked<T>(answer: impl Future<Output = lapin::Result<T>>) -> Result<T, String> {
    in_time(answer.map(|answer| answer.map_err(|err| reason(&err)))).await
}

async fn in_time<T>(answer: impl Future<Output = Result<T, String>>) -> Result<T, String> {
    let answer = tokio::time::timeout(TIMEOUT, answer).await;
    answer.unwrap_or_else(|_| Err("no answer in time".to_owned()))
}
