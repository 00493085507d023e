//! Publishing, counting and the set-up of topics.

use std::collections::{BTreeMap, HashSet};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use futures::future::try_join_all;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::ClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::consumer::{BaseConsumer, Consumer};
use rdkafka::error::{KafkaError, RDKafkaErrorCode};
use rdkafka::metadata::Metadata;
use rdkafka::producer::{FutureProducer, FutureRecord, Producer};
use rdkafka::{Offset, TopicPartitionList};

use super::consumer::LaneConsumer;
use super::fault::unreachable;
use crate::model::{Hint, Lane};
use crate::ports::{AckAfter, Broker, BrokerError, Delivery, Destination};

const PUBLISH_TIMEOUT: Duration = Duration::from_secs(5);
const ASK_TIMEOUT: Duration = Duration::from_secs(5);
const CREATE_TIMEOUT: Duration = Duration::from_secs(15);

/// Where Kafka is and how hints are spread over it.
#[derive(Clone, Debug)]
pub struct KafkaConfig {
    /// `host:port,host:port`.
    pub servers: String,
    /// Topics are `<prefix>.<lane>`.
    pub prefix: String,
    /// The group all workers share.
    pub group: String,
    /// Of a topic that is created; one that exists is taken as it is.
    pub partitions: i32,
    /// Replicas of a topic that is created; absent: three, or one per node where there are fewer.
    pub replication: Option<i32>,
    /// Handed to librdkafka as they are: `security.protocol`, `sasl.mechanism`, ...
    pub options: BTreeMap<String, String>,
}

/// [`Broker`] on Kafka. It joins the group of a lane with the first `receive` of that lane.
pub struct KafkaBroker {
    config: KafkaConfig,
    producer: FutureProducer<Told>,
    told: Told,
    /// Asks only, and is no member of the group.
    observer: Arc<BaseConsumer>,
    lanes: [OnceLock<LaneConsumer>; Lane::ALL.len()],
}

impl KafkaBroker {
    /// Connects, and creates the topics that are missing.
    ///
    /// # Errors
    ///
    /// Kafka cannot be reached, or refuses an option or a topic.
    pub async fn connect(config: KafkaConfig) -> Result<Self, BrokerError> {
        let base = base(&config);
        let mut producer = base.clone();
        producer
            .set("acks", "all")
            .set("enable.idempotence", "true")
            .set("linger.ms", "2")
            .set("delivery.timeout.ms", PUBLISH_TIMEOUT.as_millis().to_string());
        let told = Told::default();
        let producer: FutureProducer<Told> =
            producer.create_with_context(told.clone()).map_err(unreachable)?;
        let mut observer = base.clone();
        observer.set("group.id", &config.group).set("enable.auto.commit", "false");
        let observer: BaseConsumer = observer.create().map_err(unreachable)?;
        let broker = Self {
            config,
            producer,
            told,
            observer: Arc::new(observer),
            lanes: std::array::from_fn(|_| OnceLock::new()),
        };
        broker.create_topics(&base).await?;
        Ok(broker)
    }

    async fn create_topics(&self, base: &ClientConfig) -> Result<(), BrokerError> {
        let Known { nodes, topics } = self.look().await?;
        let nodes = i32::try_from(nodes).unwrap_or(i32::MAX);
        if nodes == 1 {
            tracing::warn!("Kafka has one node: what it holds is lost with that node");
        }
        let replication = self.config.replication.unwrap_or_else(|| nodes.clamp(1, 3));
        let names = Lane::ALL.map(|lane| self.topic(lane));
        let missing = names.iter().filter(|name| !topics.contains(*name));
        let topics: Vec<_> = missing
            .map(|name| NewTopic::new(name, self.config.partitions, TopicReplication::Fixed(replication)))
            .collect();
        // Another client that finds its way to the cluster takes longer than all the rest of a start.
        if topics.is_empty() {
            return Ok(());
        }
        let admin: AdminClient<_> = base.create().map_err(unreachable)?;
        let options =
            AdminOptions::new().operation_timeout(Some(CREATE_TIMEOUT)).request_timeout(Some(CREATE_TIMEOUT));
        for created in admin.create_topics(&topics, &options).await.map_err(unreachable)? {
            match created {
                Ok(_) | Err((_, RDKafkaErrorCode::TopicAlreadyExists)) => {}
                Err((topic, code)) => {
                    return Err(BrokerError::Unreachable(format!("topic {topic} cannot be created: {code}")));
                }
            }
        }
        Ok(())
    }

    /// The first question of all, so it tells why none answers.
    async fn look(&self) -> Result<Known, BrokerError> {
        let producer = self.producer.clone();
        // The producer: its thread hears what goes wrong, as the consumer's does only when polled.
        let asked = move || producer.client().fetch_metadata(None, ASK_TIMEOUT).map(|all| Known::of(&all));
        let answer = tokio::task::spawn_blocking(asked).await;
        answer.map_err(|err| BrokerError::Unreachable(err.to_string()))?.map_err(|err| {
            let told = self.told.last();
            told.map_or_else(|| unreachable(err), |why| BrokerError::Unreachable(format!("Kafka: {why}")))
        })
    }

    fn topic(&self, lane: Lane) -> String {
        let lane = match lane {
            Lane::Interactive => "interactive",
            Lane::Batch => "batch",
        };
        format!("{}.{lane}", self.config.prefix)
    }

    fn consumer(&self, lane: Lane) -> &OnceLock<LaneConsumer> {
        match lane {
            Lane::Interactive => &self.lanes[0],
            Lane::Batch => &self.lanes[1],
        }
    }

    fn joined(&self, lane: Lane) -> Result<&LaneConsumer, BrokerError> {
        let cell = self.consumer(lane);
        if let Some(consumer) = cell.get() {
            return Ok(consumer);
        }
        let mut config = base(&self.config);
        config
            .set("group.id", &self.config.group)
            .set("enable.auto.commit", "false")
            .set("enable.auto.offset.store", "false")
            .set("auto.offset.reset", "earliest")
            .set("partition.assignment.strategy", "cooperative-sticky")
            // Until then nobody gets what waits in the partitions of a consumer that has died. The least
            // that brokers allow by default; whoever leaves in order says so.
            .set("session.timeout.ms", "6000")
            .set("heartbeat.interval.ms", "1500")
            .set("fetch.wait.max.ms", "100")
            .set("queued.min.messages", "64")
            .set("queued.max.messages.kbytes", "4096");
        for (key, value) in &self.config.options {
            config.set(key, value);
        }
        let started = LaneConsumer::start(&config, self.topic(lane)).map_err(unreachable)?;
        // Two first receivers at once: one consumer stays, the other leaves the group again.
        Ok(cell.get_or_init(|| started))
    }

    /// Asks Kafka on a thread that may block.
    async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&BaseConsumer) -> Result<T, KafkaError> + Send + 'static,
    ) -> Result<T, BrokerError> {
        let observer = Arc::clone(&self.observer);
        let answer = tokio::task::spawn_blocking(move || question(&observer)).await;
        answer.map_err(|err| BrokerError::Unreachable(err.to_string()))?.map_err(unreachable)
    }
}

fn base(config: &KafkaConfig) -> ClientConfig {
    let mut base = ClientConfig::new();
    base.set("bootstrap.servers", &config.servers).set("client.id", "millhand");
    for (key, value) in config.options.iter().filter(|(key, _)| is_shared(key)) {
        base.set(key, value);
    }
    base
}

/// Whether an option is meant for every client, not for members of the group only.
fn is_shared(key: &str) -> bool {
    ["security.", "sasl.", "ssl.", "socket.", "broker.", "client."].iter().any(|part| key.starts_with(part))
}

/// Keeps the last thing that went wrong with a connection: answers say only that there was none.
#[derive(Clone, Default)]
struct Told(Arc<Mutex<Option<String>>>);

impl Told {
    fn last(&self) -> Option<String> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl ClientContext for Told {
    fn error(&self, error: KafkaError, reason: &str) {
        tracing::debug!(error = %error, reason, "Kafka");
        let mut last = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // After the reason it also says that now all nodes are down.
        let is_sum = error.rdkafka_error_code() == Some(RDKafkaErrorCode::AllBrokersDown);
        if !is_sum || last.is_none() {
            *last = Some(reason.to_owned());
        }
    }
}

/// What there is before anything is made.
struct Known {
    nodes: usize,
    topics: HashSet<String>,
}

impl Known {
    fn of(all: &Metadata) -> Self {
        // One that is being deleted has an error.
        let topics = all.topics().iter().filter(|topic| topic.error().is_none());
        Self { nodes: all.brokers().len(), topics: topics.map(|topic| topic.name().to_owned()).collect() }
    }
}

#[async_trait]
impl Broker for KafkaBroker {
    async fn publish(&self, hints: &[Hint]) -> Result<(), BrokerError> {
        let sends = hints.iter().map(|hint| async move {
            let (topic, key) = (self.topic(hint.lane), hint.job.to_string());
            let payload =
                serde_json::to_vec(hint).map_err(|err| BrokerError::Unreachable(err.to_string()))?;
            let record = FutureRecord::to(&topic).key(&key).payload(&payload);
            let sent =
                tokio::time::timeout(PUBLISH_TIMEOUT, self.producer.send(record, PUBLISH_TIMEOUT)).await;
            match sent {
                Ok(Ok(_)) => Ok(()),
                Ok(Err((err, _))) => Err(unreachable(err)),
                Err(_) => Err(BrokerError::NotConfirmed),
            }
        });
        try_join_all(sends).await.map(|_| ())
    }

    async fn receive(&self, lane: Lane) -> Result<Delivery, BrokerError> {
        Ok(self.joined(lane)?.receive().await)
    }

    fn ack_after(&self) -> AckAfter {
        AckAfter::Claim
    }

    fn destination(&self, lane: Lane) -> Destination {
        Destination { system: "kafka", name: self.topic(lane) }
    }

    async fn depth(&self, lane: Lane) -> Result<u64, BrokerError> {
        let topic = self.topic(lane);
        let (taken, ready) = self.consumer(lane).get().map(LaneConsumer::taken).unwrap_or_default();
        let waiting = self
            .ask(move |observer| {
                let metadata = observer.fetch_metadata(Some(&topic), ASK_TIMEOUT)?;
                let mut asked = TopicPartitionList::new();
                for part in metadata.topics().iter().flat_map(|topic| topic.partitions()) {
                    asked.add_partition(&topic, part.id());
                }
                let mut waiting = 0;
                for part in observer.committed_offsets(asked, ASK_TIMEOUT)?.elements() {
                    let (low, high) = observer.fetch_watermarks(&topic, part.partition(), ASK_TIMEOUT)?;
                    let committed = match part.offset() {
                        Offset::Offset(offset) => offset,
                        _ => low,
                    };
                    let from = taken.get(&part.partition()).copied().unwrap_or(committed);
                    waiting += u64::try_from(high - from).unwrap_or(0);
                }
                Ok(waiting)
            })
            .await?;
        Ok(waiting + ready as u64)
    }

    async fn ready(&self) -> Result<(), BrokerError> {
        self.ask(|observer| observer.fetch_metadata(None, ASK_TIMEOUT).map(|_| ())).await
    }
}
