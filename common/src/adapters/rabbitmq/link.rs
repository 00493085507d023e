//! A connection that is made again for as long as the broker lives.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};
use lapin::Connection;
use tokio::sync::watch;

use super::address::Address;
use super::reason;
use super::topology::{Topology, Version};
use crate::ports::BrokerError;

/// Ceiling of the first wait before connecting again; it doubles up to [`MAX_WAIT`].
const FIRST_WAIT: Duration = Duration::from_millis(200);
const MAX_WAIT: Duration = Duration::from_secs(5);
/// What lived this long was a good one: the next wait is a short one again.
pub(super) const GOOD: Duration = Duration::from_secs(5);
/// lapin tells of most ends, but not of a polite one.
const LOOK_EVERY: Duration = Duration::from_millis(200);
const DECLARE_TIMEOUT: Duration = Duration::from_secs(10);

/// A live connection to a server that has every queue.
#[derive(Clone)]
pub(super) struct Line {
    pub(super) conn: Arc<Connection>,
    pub(super) version: Version,
}

/// How a connection is made, and the one there is now.
pub(super) struct Link {
    role: &'static str,
    address: Arc<Address>,
    topology: Arc<Topology>,
    /// The line, or why there is none.
    line: watch::Sender<Result<Line, String>>,
}

impl Link {
    /// Makes the first connection. A server that is away, or a queue that does not fit, is an error now. Cancel-safe.
    pub(super) async fn open(
        role: &'static str,
        address: Arc<Address>,
        topology: Arc<Topology>,
    ) -> Result<Arc<Self>, BrokerError> {
        let first = connect(role, &address, &topology).await?;
        Ok(Arc::new(Self { role, address, topology, line: watch::Sender::new(Ok(first)) }))
    }

    /// The line that is up, or the next one. Cancel-safe.
    pub(super) async fn line(&self) -> Line {
        let mut lines = self.line.subscribe();
        loop {
            // Cancel-safe, and no error while `self` lives.
            let up = lines.wait_for(|line| line.as_ref().is_ok_and(is_up)).await.ok();
            if let Some(Ok(line)) = up.as_deref() {
                return line.clone();
            }
        }
    }

    /// The line that is up now; the reason when there is none.
    pub(super) fn now(&self) -> Result<Line, BrokerError> {
        match &*self.line.borrow() {
            Ok(line) if is_up(line) => Ok(line.clone()),
            Ok(_) => Err(BrokerError::Unreachable("the connection to RabbitMQ is lost".to_owned())),
            Err(reason) => Err(BrokerError::Unreachable(reason.clone())),
        }
    }

    fn now_is(&self, line: Result<Line, String>) {
        let _earlier = self.line.send_replace(line);
    }

    /// Declares the queues again: one was found missing.
    pub(super) async fn declare(&self, line: &Line) -> Result<(), BrokerError> {
        self.topology.declare(&line.conn, line.version).await
    }

    /// Connects again whenever the connection is lost, without end.
    pub(super) async fn keep(self: Arc<Self>) {
        let mut attempt = 0;
        loop {
            let since = Instant::now();
            let lost = self.lost().await;
            tracing::warn!(role = self.role, reason = %lost, "RabbitMQ is away");
            self.now_is(Err(lost.clone()));
            if since.elapsed() >= GOOD {
                attempt = 0;
            }
            let line = self.again(lost, &mut attempt).await;
            self.now_is(Ok(line));
            tracing::info!(role = self.role, "RabbitMQ is back");
        }
    }

    /// Waits until the connection ends; why it did, as far as it is known.
    async fn lost(&self) -> String {
        let Ok(line) = self.now() else { return "the connection ended".to_owned() };
        let mut events = line.conn.events_listener();
        let mut why = "the connection ended".to_owned();
        while is_up(&line) {
            let event = tokio::time::timeout(LOOK_EVERY, next(&mut events)).await;
            // The end of a channel is an error too.
            if let (Ok(Some(lapin::Event::Error(err))), false) = (event, is_up(&line)) {
                why = reason(&err);
            }
        }
        why
    }

    async fn again(&self, mut known: String, attempt: &mut u32) -> Line {
        loop {
            tokio::time::sleep(wait_before(*attempt, fastrand::f64())).await;
            *attempt = attempt.saturating_add(1);
            let reason = match connect(self.role, &self.address, &self.topology).await {
                Ok(line) => return line,
                Err(BrokerError::Refused(reason)) => {
                    if reason != known {
                        tracing::error!(role = self.role, %reason, "RabbitMQ is back, but not as it was: tried again");
                    }
                    reason
                }
                Err(err) => {
                    tracing::debug!(role = self.role, error = %err, "RabbitMQ is still away");
                    said(err)
                }
            };
            if reason != known {
                self.now_is(Err(reason.clone()));
                known = reason;
            }
        }
    }
}

/// A new connection on which the queues are declared.
async fn connect(role: &str, address: &Address, topology: &Topology) -> Result<Line, BrokerError> {
    let version = address.version().await?;
    let conn = address.connect(role).await?;
    let declared = tokio::time::timeout(DECLARE_TIMEOUT, topology.declare(&conn, version)).await;
    declared
        .map_err(|_| BrokerError::Unreachable("RabbitMQ does not declare queues in time".to_owned()))??;
    Ok(Line { conn: Arc::new(conn), version })
}

/// The reason alone: whoever hands it on adds what it is a reason for.
fn said(err: BrokerError) -> String {
    match err {
        BrokerError::Unreachable(reason) | BrokerError::Refused(reason) => reason,
        BrokerError::NotConfirmed | BrokerError::Closed => err.to_string(),
    }
}

fn is_up(line: &Line) -> bool {
    line.conn.status().connected()
}

async fn next(events: &mut (impl Stream<Item = lapin::Event> + Unpin)) -> Option<lapin::Event> {
    let event = events.next().await;
    if event.is_none() {
        // The stream ended before the connection: the caller's time-out paces it.
        std::future::pending::<()>().await;
    }
    event
}

/// Full jitter: many processes that lost one server do not come back in step. `dice` is in 0..1.
pub(super) fn wait_before(attempt: u32, dice: f64) -> Duration {
    FIRST_WAIT.saturating_mul(1 << attempt.min(10)).min(MAX_WAIT).mul_f64(dice)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_a_ceiling_and_are_spread_below_it() {
        let ceilings: Vec<_> = (0..7).map(|attempt| wait_before(attempt, 1.0).as_millis()).collect();
        assert_eq!(ceilings, [200, 400, 800, 1600, 3200, 5000, 5000]);
        assert_eq!(wait_before(u32::MAX, 0.5), MAX_WAIT / 2);
        assert_eq!(wait_before(3, 0.0), Duration::ZERO);
    }
}
