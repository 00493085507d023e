//! The queue: spreads hints over workers. It is never the truth about a job.

use async_trait::async_trait;

use crate::model::{Hint, Lane};

/// A queue of hints per lane, shared by competing workers.
#[async_trait]
pub trait Broker: Send + Sync {
    /// When it returns `Ok`, the broker has confirmed every hint. May be dropped: each hint is then
    /// published or not.
    async fn publish(&self, hints: &[Hint]) -> Result<(), BrokerError>;

    /// The next hint of `lane`, unsettled. Called only when a slot is free, or to hand hints on that nobody
    /// else can read, so an adapter holds no more than it was asked for. Cancel-safe: dropping it loses no hint.
    async fn receive(&self, lane: Lane) -> Result<Delivery, BrokerError>;

    /// Hints that were sent to this process and that nobody here asks for: others may have room, and given
    /// back they could go to the end of the line. Their jobs are to be made due, and then they are acked. Never
    /// returns where none are sent unasked. Cancel-safe: dropping it loses no hint.
    async fn surplus(&self) -> Vec<Delivery> {
        std::future::pending().await
    }

    /// When hints of jobs that run are to be acked.
    fn ack_after(&self) -> AckAfter {
        AckAfter::Close
    }

    /// Where hints of `lane` go, as traces name it.
    fn destination(&self, lane: Lane) -> Destination {
        Destination { system: "millhand", name: lane.as_str().to_owned() }
    }

    /// Hints waiting in `lane`, as the broker counts them.
    async fn depth(&self, lane: Lane) -> Result<u64, BrokerError>;

    /// Whether the broker can be reached now; the reason when it cannot.
    async fn ready(&self) -> Result<(), BrokerError>;
}

/// A queue or topic.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Destination {
    /// What kind of broker has it, in OpenTelemetry's words.
    pub system: &'static str,
    /// Its name there.
    pub name: String,
}

/// When a worker settles a hint whose job it runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum AckAfter {
    /// As soon as the claim is durable: an open hint would hold back the ones behind it, which only this
    /// process can read. So a worker that takes nothing hands them on.
    Claim,
    /// When the job is closed or given back: an open hint tells the broker that its worker lives.
    Close,
}

/// A hint lent to this process. Settled at most once; dropped unsettled, it comes back to a worker.
pub struct Delivery {
    pub hint: Hint,
    /// The broker lent this hint before and never saw it settled.
    pub redelivered: bool,
    settle: Option<Box<dyn Settle>>,
}

/// How an adapter takes back a hint.
#[async_trait]
pub trait Settle: Send + Sync {
    /// Removes the hint for good.
    async fn ack(self: Box<Self>) -> Result<(), BrokerError>;
    /// Gives the hint back at once, perhaps to the end of the line. Called from `Drop`, so it must not block.
    fn give_back(self: Box<Self>);
}

impl Delivery {
    #[must_use]
    pub fn new(hint: Hint, redelivered: bool, settle: Box<dyn Settle>) -> Self {
        Self { hint, redelivered, settle: Some(settle) }
    }

    /// Removes the hint for good: the store owns the job from here on.
    pub async fn ack(mut self) -> Result<(), BrokerError> {
        match self.settle.take() {
            Some(settle) => settle.ack().await,
            None => Ok(()),
        }
    }
}

impl Drop for Delivery {
    fn drop(&mut self) {
        if let Some(settle) = self.settle.take() {
            settle.give_back();
        }
    }
}

#[derive(Debug, thiserror::Error)]
pub enum BrokerError {
    #[error("broker is unreachable: {0}")]
    Unreachable(String),
    /// What is configured, or what is on the server, does not fit: a person must decide, trying again
    /// does not help.
    #[error("{0}")]
    Refused(String),
    #[error("broker did not confirm in time")]
    NotConfirmed,
    #[error("broker is shut down")]
    Closed,
}
