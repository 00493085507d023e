//! One subscription connection of a process: live events for its readers, signals for its workers, and
//! news of due work.
//!
//! A reader is told `Closed` whenever something may have been missed: it subscribes again, which waits
//! for the server's word, and reads the log. That is so after a lost connection, after a moved slot, and
//! when a ping through this very connection is late.

mod workers;

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};

use futures::future::join_all;
use redis::{PushInfo, PushKind, RedisResult, cmd};
use tokio::sync::{Notify, broadcast, mpsc};

use crate::model::{Event, JobId, WorkerId};
use crate::ports::{Lease, StoreError, Subscription, WorkerSignal};

use super::due::Heads;
use super::link::{Conn, Link};
use super::reply;
use workers::Workers;

/// Events a slow reader may be behind before it reads the log again.
const BEHIND: usize = 64;
const PING_EVERY: Duration = Duration::from_millis(300);
/// A ping that takes longer means that the connection is dead.
const PING_DEAD: Duration = Duration::from_secs(2);
const TRY_AGAIN: Duration = Duration::from_millis(50);
/// Channels to leave that may wait; what is more is left when it next has news.
const LEAVING: usize = 1024;
/// Channels that are left at a time.
const LEFT_AT_ONCE: usize = 64;
/// Locks over which channels are spread.
const GATES: usize = 64;

struct Reader {
    job: JobId,
    news: broadcast::Sender<Arc<Event>>,
}

/// The connection and its number.
struct Line {
    number: u64,
    conn: Conn,
}

pub(super) struct Feed {
    link: Arc<Link>,
    heads: Arc<Heads>,
    due_channel: String,
    signals_channel: String,
    /// What the channels of workers begin with. Nothing is said there: they have a subscriber as long as
    /// their worker's process has a connection.
    lives_channels: String,
    line: tokio::sync::Mutex<Option<Line>>,
    /// Held while a channel is joined or left, so that the two do not cross. One lock for all would let a
    /// process begin no more streams in a second than there are round trips in it.
    gates: [tokio::sync::Mutex<()>; GATES],
    /// Number of the connection that is believed in; 0 for none.
    trusted: AtomicU64,
    made: AtomicU64,
    readers: Mutex<HashMap<String, Reader>>,
    workers: Workers,
    /// Told when there is a worker to listen for, or no connection.
    look_again: Notify,
    leave: mpsc::Sender<String>,
}

impl Feed {
    /// A feed that is not connected yet, and the task that keeps it so.
    pub(super) fn new(
        link: Arc<Link>,
        heads: Arc<Heads>,
        prefix: &str,
    ) -> (Arc<Self>, impl Future<Output = ()> + Send + 'static) {
        let (leave, leaving) = mpsc::channel(LEAVING);
        let feed = Arc::new(Self {
            link,
            heads,
            due_channel: format!("{prefix}:due"),
            signals_channel: format!("{prefix}:signals"),
            lives_channels: format!("{prefix}:{{workers}}:lives:"),
            line: tokio::sync::Mutex::default(),
            gates: std::array::from_fn(|_| tokio::sync::Mutex::default()),
            trusted: AtomicU64::new(0),
            made: AtomicU64::new(0),
            readers: Mutex::default(),
            workers: Workers::default(),
            look_again: Notify::new(),
            leave,
        });
        let kept = Arc::clone(&feed);
        (feed, async move { kept.keep(leaving).await })
    }

    /// Makes the first connection.
    pub(super) async fn connect(self: &Arc<Self>) -> RedisResult<()> {
        let mut line = self.line.lock().await;
        self.connected(&mut line).await.map(|_| ())
    }

    async fn keep(self: Arc<Self>, mut leaving: mpsc::Receiver<String>) {
        let mut ticks = tokio::time::interval(PING_EVERY);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut left = Vec::with_capacity(LEFT_AT_ONCE);
        loop {
            // Cancel-safe: `recv_many`, `tick` and `notified` by their own docs.
            tokio::select! {
                1.. = leaving.recv_many(&mut left, LEFT_AT_ONCE) => {
                    join_all(left.drain(..).map(|channel| self.leave(channel))).await;
                }
                _ = ticks.tick() => self.ping().await,
                () = self.look_again.notified() => self.ping().await,
            }
        }
    }

    async fn ping(self: &Arc<Self>) {
        let connected = {
            let mut line = self.line.lock().await;
            self.connected(&mut line).await
        };
        let (number, mut conn) = match connected {
            Ok(connected) => connected,
            Err(err) => {
                tracing::debug!(%err, "no subscription connection");
                return tokio::time::sleep(TRY_AGAIN).await;
            }
        };
        let mut sound = self.answers_ping(&mut conn).await;
        for worker in self.workers.unheard() {
            let channel = format!("{}{worker}", self.lives_channels);
            sound = sound && conn.run(cmd("SSUBSCRIBE").arg(channel)).await.is_ok();
            if sound {
                self.workers.listens_to(worker);
            }
        }
        if !sound {
            self.lost(number);
            tokio::time::sleep(TRY_AGAIN).await;
        }
    }

    async fn answers_ping(&self, conn: &mut Conn) -> bool {
        let command = cmd("PING");
        let ping = conn.run_on_masters(&command);
        tokio::pin!(ping);
        let answer = match tokio::time::timeout(PING_EVERY, &mut ping).await {
            Ok(answer) => Some(answer),
            Err(_) => {
                locked(&self.readers).clear();
                tokio::time::timeout(PING_DEAD, ping).await.ok()
            }
        };
        matches!(answer, Some(Ok(_)))
    }

    /// The connection, made anew when the earlier one is lost.
    async fn connected(self: &Arc<Self>, line: &mut Option<Line>) -> RedisResult<(u64, Conn)> {
        if let Some(line) = line
            && line.number == self.trusted.load(Ordering::SeqCst)
        {
            return Ok((line.number, line.conn.clone()));
        }
        *line = None;
        self.workers.listens_to_none();
        let number = self.made.fetch_add(1, Ordering::SeqCst) + 1;
        let feed = Arc::downgrade(self);
        let pushes = move |push: PushInfo| {
            if let Some(feed) = Weak::upgrade(&feed) {
                feed.pushed(number, &push);
            }
            Ok::<(), ()>(())
        };
        let mut conn = self.link.connect(Some(pushes)).await?;
        self.trusted.store(number, Ordering::SeqCst);
        let mut subscribe = cmd("SUBSCRIBE");
        subscribe.arg(&self.due_channel).arg(&self.signals_channel);
        if let Err(err) = conn.run(&subscribe).await {
            self.lost(number);
            return Err(err);
        }
        *line = Some(Line { number, conn: conn.clone() });
        // Whatever was said meanwhile was not heard.
        self.heads.mark_all();
        self.workers.challenge_all();
        Ok((number, conn))
    }

    fn lost(&self, number: u64) {
        if self.trusted.compare_exchange(number, 0, Ordering::SeqCst, Ordering::SeqCst).is_ok() {
            locked(&self.readers).clear();
            // At once: others take workers for dead that are not listened for.
            self.look_again.notify_one();
        }
    }

    /// What the server says by itself. Never waits.
    fn pushed(&self, number: u64, push: &PushInfo) {
        if number != self.trusted.load(Ordering::SeqCst) {
            return;
        }
        let data = |place: usize| push.data.get(place).and_then(|value| reply::text(value).ok());
        match push.kind {
            PushKind::Message | PushKind::SMessage => {
                if let (Some(channel), Some(message)) = (data(0), data(1)) {
                    self.heard(channel, message);
                }
            }
            // Unasked: its slot has moved to another node.
            PushKind::SUnsubscribe => {
                if let Some(channel) = data(0)
                    && locked(&self.readers).remove(channel).is_none()
                    && channel.starts_with(&self.lives_channels)
                {
                    self.workers.listens_to_none();
                    self.look_again.notify_one();
                }
            }
            PushKind::Disconnection => self.lost(number),
            _ => {}
        }
    }

    fn heard(&self, channel: &str, message: &str) {
        if channel == self.due_channel {
            if let Ok(shard) = message.parse() {
                self.heads.mark(shard);
            }
        } else if channel == self.signals_channel {
            self.workers.heard(message);
        } else {
            let readers = locked(&self.readers);
            let Some(reader) = readers.get(channel) else {
                // Left, and not taken off yet. A full queue is tried again with the next news.
                let _ = self.leave.try_send(channel.to_owned());
                return;
            };
            for line in message.lines() {
                if let Ok(event) = reply::event(reader.job, line) {
                    // An error means the last reader is just leaving.
                    let _ = reader.news.send(Arc::new(event));
                }
            }
        }
    }

    /// All that is published to `channel` after this returns is sent, or the subscription closes.
    pub(super) async fn subscribe(
        self: &Arc<Self>,
        channel: String,
        job: JobId,
        patience: Duration,
    ) -> Result<Subscription, StoreError> {
        let until = Instant::now() + patience;
        loop {
            match self.try_subscribe(&channel, job).await {
                Ok(receiver) => {
                    let interest = Interest { feed: Arc::downgrade(self), channel };
                    return Ok(Subscription::new(receiver, Box::new(interest)));
                }
                Err(err) if Instant::now() + TRY_AGAIN >= until => {
                    return Err(StoreError::Unreachable(err.to_string()));
                }
                Err(_) => tokio::time::sleep(TRY_AGAIN).await,
            }
        }
    }

    async fn try_subscribe(
        self: &Arc<Self>,
        channel: &str,
        job: JobId,
    ) -> RedisResult<broadcast::Receiver<Arc<Event>>> {
        // Held to the end, so that nobody leaves the channel meanwhile.
        let _gate = self.gate(channel).lock().await;
        let (number, mut conn) = {
            let mut line = self.line.lock().await;
            self.connected(&mut line).await?
        };
        if let Some(reader) = locked(&self.readers).get(channel) {
            return Ok(reader.news.subscribe());
        }
        if let Err(err) = conn.run(cmd("SSUBSCRIBE").arg(channel)).await {
            self.lost(number);
            return Err(err);
        }
        let mut readers = locked(&self.readers);
        if self.trusted.load(Ordering::SeqCst) != number {
            return Err(std::io::Error::from(std::io::ErrorKind::ConnectionReset).into());
        }
        let (news, receiver) = broadcast::channel(BEHIND);
        readers.insert(channel.to_owned(), Reader { job, news });
        Ok(receiver)
    }

    fn gate(&self, channel: &str) -> &tokio::sync::Mutex<()> {
        &self.gates[crc32fast::hash(channel.as_bytes()) as usize % GATES]
    }

    async fn leave(&self, channel: String) {
        let _gate = self.gate(&channel).lock().await;
        if locked(&self.readers).contains_key(&channel) {
            return;
        }
        let conn = self.line.lock().await.as_ref().map(|line| line.conn.clone());
        if let Some(mut conn) = conn
            && let Err(err) = conn.run(cmd("SUNSUBSCRIBE").arg(channel)).await
        {
            tracing::debug!(%err, "a channel was not left");
        }
    }

    /// A worker of this process: from now on its signals are kept for it, and others see that it lives.
    pub(super) fn know(&self, worker: WorkerId) {
        if self.workers.know(worker) {
            self.look_again.notify_one();
        }
    }

    pub(super) fn holds(&self, worker: WorkerId, lease: &Lease) {
        self.workers.holds(worker, lease);
    }

    pub(super) fn lets_go(&self, job: JobId, epoch: u64) {
        self.workers.lets_go(job, epoch);
    }

    /// The next signal for `worker`. Cancel-safe: a signal is handed out or stays.
    pub(super) async fn signal(&self, worker: WorkerId) -> WorkerSignal {
        self.workers.signal(worker).await
    }
}

/// Leaves a channel with its last reader.
struct Interest {
    feed: Weak<Feed>,
    channel: String,
}

impl Drop for Interest {
    fn drop(&mut self) {
        if let Some(feed) = self.feed.upgrade() {
            let mut readers = locked(&feed.readers);
            // The receiver of this subscription was dropped before this guard.
            if readers.get(&self.channel).is_some_and(|reader| reader.news.receiver_count() == 0) {
                readers.remove(&self.channel);
                let _ = feed.leave.try_send(std::mem::take(&mut self.channel));
            }
        }
    }
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
