//! The floor of accepting: the same bytes published to the same broker by the client that the product
//! uses, each writer waiting for its own confirm.

use std::sync::Arc;
use std::time::Duration;

use anyhow::ensure;
use hdrhistogram::Histogram;
use lapin::options::{BasicPublishOptions, ConfirmSelectOptions, QueueDeclareOptions, QueuePurgeOptions};
use lapin::types::{AMQPValue, FieldTable};
use lapin::{BasicProperties, Confirmation, Connection, ConnectionProperties};
use millhand_tests::servers::Queue;
use rdkafka::admin::{AdminClient, AdminOptions, NewTopic, TopicReplication};
use rdkafka::client::DefaultClientContext;
use rdkafka::config::ClientConfig;
use rdkafka::producer::{FutureProducer, FutureRecord};

use crate::accepts::{accept, writers};

const NAME: &str = "bench.raw";
/// As many as the product's topics have.
const PARTITIONS: i32 = 32;

/// Publishes a second, and their times in microseconds.
pub(super) async fn publish(queue: &Queue) -> anyhow::Result<(f64, Histogram<u64>)> {
    match queue {
        Queue::RabbitMq(node) => rabbitmq(&node.url()).await,
        Queue::Kafka(node) => kafka(&node.servers()).await,
    }
}

fn payload() -> anyhow::Result<Vec<u8>> {
    Ok(serde_json::to_vec(&accept().spec)?)
}

async fn rabbitmq(url: &str) -> anyhow::Result<(f64, Histogram<u64>)> {
    let connection = Connection::connect(url, ConnectionProperties::default()).await?;
    let channel = connection.create_channel().await?;
    channel.confirm_select(ConfirmSelectOptions::default()).await?;
    let mut quorum = FieldTable::default();
    quorum.insert("x-queue-type".into(), AMQPValue::LongString("quorum".into()));
    let durable = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    channel.queue_declare(NAME.into(), durable, quorum).await?;
    let writing = channel.clone();
    let measured = writers(move || {
        let channel = writing.clone();
        async move {
            let properties = BasicProperties::default().with_delivery_mode(2);
            let options = BasicPublishOptions { mandatory: true, ..BasicPublishOptions::default() };
            let sent =
                channel.basic_publish("".into(), NAME.into(), options, &payload()?, properties).await?;
            ensure!(matches!(sent.await?, Confirmation::Ack(None)), "not confirmed");
            Ok(())
        }
    })
    .await?;
    // What it holds is nobody's; it must not cost the next measurement memory.
    channel.queue_purge(NAME.into(), QueuePurgeOptions::default()).await?;
    connection.close(200, "done".into()).await?;
    Ok(measured)
}

async fn kafka(servers: &str) -> anyhow::Result<(f64, Histogram<u64>)> {
    let mut config = ClientConfig::new();
    config.set("bootstrap.servers", servers);
    let admin: AdminClient<DefaultClientContext> = config.create()?;
    let topic = NewTopic::new(NAME, PARTITIONS, TopicReplication::Fixed(1));
    let patience = AdminOptions::new().operation_timeout(Some(Duration::from_secs(15)));
    // A topic that exists already is an answer of its own, not an error.
    admin.create_topics([&topic], &patience).await?;
    // As the product has it.
    config.set("acks", "all").set("enable.idempotence", "true").set("linger.ms", "2");
    let producer: Arc<FutureProducer> = Arc::new(config.create()?);
    writers(move || {
        let producer = producer.clone();
        async move {
            let (accept, payload) = (accept(), payload()?);
            let key = accept.spec.id.to_string();
            let record = FutureRecord::to(NAME).key(&key).payload(&payload);
            producer.send(record, Duration::from_secs(5)).await.map_err(|(err, _)| err)?;
            Ok(())
        }
    })
    .await
}
