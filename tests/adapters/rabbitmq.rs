//! The RabbitMQ broker on a real RabbitMQ.

mod faults;
mod queues;

use std::sync::Arc;

use millhand_common::adapters::rabbitmq::{RabbitBroker, RabbitConfig};
use millhand_common::conformance::broker::{hint, nothing_comes, receive};
use millhand_common::model::{Hint, JobId, Lane};
use millhand_common::ports::{Broker, BrokerError, Delivery};
use millhand_tests::servers::RabbitMq;
use tokio::sync::OnceCell;

/// One node for the whole program; each test has queues of its own.
async fn shared() -> &'static RabbitMq {
    static NODE: OnceCell<RabbitMq> = OnceCell::const_new();
    NODE.get_or_init(RabbitMq::start).await
}

/// Queues that nobody else has.
fn alone(url: String, slots: u16) -> RabbitConfig {
    RabbitConfig { url, name: format!("test.{}", JobId::new()), slots }
}

/// A new virtual host, whose connections are the test's own.
async fn virtual_host(node: &RabbitMq) -> String {
    let vhost = JobId::new().to_string();
    node.ctl(&["add_vhost", &vhost]).await;
    node.ctl(&["set_permissions", "--vhost", &vhost, "guest", ".*", ".*", ".*"]).await;
    vhost
}

async fn connect(config: &RabbitConfig) -> Arc<dyn Broker> {
    Arc::new(RabbitBroker::connect(config.clone()).await.unwrap())
}

async fn open() -> Arc<dyn Broker> {
    connect(&alone(shared().await.url(), 16)).await
}

millhand_common::broker_conformance!(open);

fn hints(count: usize) -> Vec<Hint> {
    (0..count).map(|_| hint(Lane::Interactive)).collect()
}

async fn receive_many(broker: &Arc<dyn Broker>, count: usize) -> Vec<Delivery> {
    let mut lent = Vec::new();
    for _ in 0..count {
        lent.push(receive(broker, Lane::Interactive).await);
    }
    lent
}

/// With `slots` hints in hand no other comes before one of them is settled. The queue is empty before and
/// after.
async fn slots_hold(broker: &Arc<dyn Broker>, slots: usize) {
    broker.publish(&hints(slots + 3)).await.unwrap();
    let mut lent = receive_many(broker, slots).await;
    assert!(nothing_comes(broker, Lane::Interactive).await, "{slots} are in hand");
    assert_eq!(broker.depth(Lane::Interactive).await.unwrap(), 3);
    for _ in 0..3 {
        lent.pop().unwrap().ack().await.unwrap();
        lent.push(receive(broker, Lane::Interactive).await);
    }
    for delivery in lent {
        delivery.ack().await.unwrap();
    }
}
