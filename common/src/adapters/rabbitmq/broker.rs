//! The port on RabbitMQ.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use lapin::options::QueueDeclareOptions;
use lapin::types::FieldTable;
use tokio::task::JoinSet;

use super::address::Address;
use super::consumer::LaneConsumer;
use super::link::Link;
use super::publisher::Publisher;
use super::reason;
use super::topology::Topology;
use crate::model::{Hint, Lane};
use crate::ports::{Broker, BrokerError, Delivery, Destination};

const ASK_TIMEOUT: Duration = Duration::from_secs(5);

/// Where RabbitMQ is and how hints are spread over it.
#[derive(Clone)]
pub struct RabbitConfig {
    /// `amqp[s]://[user:password@]host[:port][/vhost][?cacertfile=FILE]`.
    pub url: String,
    /// Queues are `<name>.<lane>`.
    pub name: String,
    /// Hints of a lane that may be here at a time, in hand or about to be: the jobs that this process runs
    /// at a time.
    pub slots: u16,
}

impl fmt::Debug for RabbitConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { url: _, name, slots } = self;
        f.debug_struct("RabbitConfig").field("url", &"***").field("name", name).field("slots", slots).finish()
    }
}

/// [`Broker`] on RabbitMQ. It consumes a lane from the first `receive` of that lane on, and connects once more
/// for the first `publish`.
pub struct RabbitBroker {
    topology: Arc<Topology>,
    publisher: Publisher,
    consuming: Arc<Link>,
    lanes: [Arc<LaneConsumer>; Lane::ALL.len()],
    /// Connections and consumers; they end with the broker.
    _tasks: JoinSet<()>,
}

impl RabbitBroker {
    /// Connects, and declares the queues.
    ///
    /// # Errors
    ///
    /// `Refused` when the address cannot be used or a queue exists with other arguments; `Unreachable` when
    /// RabbitMQ is away, or does not let us in.
    pub async fn connect(config: RabbitConfig) -> Result<Self, BrokerError> {
        let address = Arc::new(Address::parse(&config.url)?);
        let topology = Arc::new(Topology::new(config.name));
        let consuming = Link::open("consuming", Arc::clone(&address), Arc::clone(&topology)).await?;
        let lanes = Lane::ALL.map(|lane| Arc::new(LaneConsumer::new(topology.queue(lane), config.slots)));
        let mut tasks = JoinSet::new();
        tasks.spawn(Arc::clone(&consuming).keep());
        for lane in &lanes {
            tasks.spawn(Arc::clone(lane).run(Arc::clone(&consuming)));
        }
        // RabbitMQ reads nothing more from a connection that publishes too fast, no acks either: it has its own.
        let publisher = Publisher::new(address, Arc::clone(&topology));
        Ok(Self { topology, publisher, consuming, lanes, _tasks: tasks })
    }

    fn consumer(&self, lane: Lane) -> &LaneConsumer {
        match lane {
            Lane::Interactive => &self.lanes[0],
            Lane::Batch => &self.lanes[1],
        }
    }

    /// Ready messages of the lane's queue, asked for on a channel that a missing queue may close.
    async fn waiting(&self, lane: Lane) -> Result<u64, BrokerError> {
        let line = self.consuming.now()?;
        let options = QueueDeclareOptions { passive: true, ..QueueDeclareOptions::default() };
        let asking = async {
            let channel = line.conn.create_channel().await?;
            channel.queue_declare(self.topology.queue(lane), options, FieldTable::default()).await
        };
        let answer = tokio::time::timeout(ASK_TIMEOUT, asking).await;
        let answer =
            answer.map_err(|_| BrokerError::Unreachable("RabbitMQ does not answer in time".to_owned()))?;
        Ok(answer.map_err(|err| BrokerError::Unreachable(reason(&err)))?.message_count().into())
    }
}

#[async_trait]
impl Broker for RabbitBroker {
    async fn publish(&self, hints: &[Hint]) -> Result<(), BrokerError> {
        self.publisher.publish(hints).await
    }

    async fn receive(&self, lane: Lane) -> Result<Delivery, BrokerError> {
        Ok(self.consumer(lane).receive().await)
    }

    async fn surplus(&self) -> Vec<Delivery> {
        let [interactive, batch] = &self.lanes;
        // Cancel-safe: each takes in its last poll only.
        tokio::select! {
            hints = interactive.surplus() => hints,
            hints = batch.surplus() => hints,
        }
    }

    fn destination(&self, lane: Lane) -> Destination {
        Destination { system: "rabbitmq", name: self.topology.queue(lane).to_string() }
    }

    async fn depth(&self, lane: Lane) -> Result<u64, BrokerError> {
        // What was sent here and nobody took yet waits as well.
        Ok(self.waiting(lane).await? + self.consumer(lane).held() as u64)
    }

    async fn ready(&self) -> Result<(), BrokerError> {
        self.publisher.now()?;
        self.waiting(Lane::Interactive).await.map(|_| ())
    }
}
