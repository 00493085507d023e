//! A queue of hints in memory.
//!
//! It needs no disk: a hint may be lost at any time, and a restarted store makes every queued job due
//! at once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use tokio::sync::Notify;

use crate::model::{Hint, Lane};
use crate::ports::{Broker, BrokerError, Delivery, Settle};

/// The embedded broker; clones share their queues.
#[derive(Clone, Default)]
pub struct EmbeddedBroker {
    lanes: Arc<[Queue; Lane::ALL.len()]>,
}

#[derive(Default)]
struct Queue {
    /// Hints, and whether each was lent before.
    hints: Mutex<VecDeque<(Hint, bool)>>,
    arrived: Notify,
}

impl Queue {
    fn hints(&self) -> MutexGuard<'_, VecDeque<(Hint, bool)>> {
        self.hints.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl EmbeddedBroker {
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    fn queue(&self, lane: Lane) -> &Queue {
        match lane {
            Lane::Interactive => &self.lanes[0],
            Lane::Batch => &self.lanes[1],
        }
    }
}

struct Lent {
    broker: EmbeddedBroker,
    hint: Hint,
}

#[async_trait]
impl Settle for Lent {
    async fn ack(self: Box<Self>) -> Result<(), BrokerError> {
        Ok(())
    }

    fn give_back(self: Box<Self>) {
        let queue = self.broker.queue(self.hint.lane);
        queue.hints().push_front((self.hint, true));
        queue.arrived.notify_one();
    }
}

#[async_trait]
impl Broker for EmbeddedBroker {
    async fn publish(&self, hints: &[Hint]) -> Result<(), BrokerError> {
        for hint in hints {
            let queue = self.queue(hint.lane);
            queue.hints().push_back((hint.clone(), false));
            queue.arrived.notify_one();
        }
        Ok(())
    }

    async fn receive(&self, lane: Lane) -> Result<Delivery, BrokerError> {
        let queue = self.queue(lane);
        loop {
            let arrived = queue.arrived.notified();
            let lent = queue.hints().pop_front();
            if let Some((hint, redelivered)) = lent {
                let settle = Lent { broker: self.clone(), hint: hint.clone() };
                return Ok(Delivery::new(hint, redelivered, Box::new(settle)));
            }
            arrived.await;
        }
    }

    async fn depth(&self, lane: Lane) -> Result<u64, BrokerError> {
        Ok(self.queue(lane).hints().len() as u64)
    }

    async fn ready(&self) -> Result<(), BrokerError> {
        Ok(())
    }
}
