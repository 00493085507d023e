//! What the broker makes of queues and messages, and how it is let in.

use lapin::options::{BasicPublishOptions, QueueDeclareOptions, QueueDeleteOptions};
use lapin::types::FieldTable;
use lapin::{BasicProperties, Channel, Connection, ConnectionProperties};
use millhand_common::conformance::broker::depth_becomes;
use millhand_tests::wait_for;
use tokio::task::JoinSet;

use super::*;

/// A connection besides the broker's.
struct Other {
    _conn: Connection,
    channel: Channel,
}

impl Other {
    async fn connect(url: &str) -> Self {
        let conn = Connection::connect(url, ConnectionProperties::default()).await.unwrap();
        let channel = conn.create_channel().await.unwrap();
        Self { _conn: conn, channel }
    }

    async fn delete(&self, queue: &str) {
        self.channel.queue_delete(queue.into(), QueueDeleteOptions::default()).await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_more_hints_are_in_hand_than_slots() {
    let broker = connect(&alone(shared().await.url(), 4)).await;
    slots_hold(&broker, 4).await;
}

/// A process whose slots went to other work hands over what it was sent, in order, and is sent no more.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hints_that_nobody_asks_for_are_surplus() {
    let config = alone(shared().await.url(), 16);
    let (full, free) = (connect(&config).await, connect(&config).await);
    let sent = hints(12);
    full.publish(&sent).await.unwrap();
    let held = receive(&full, Lane::Interactive).await;
    let surplus = full.surplus().await;
    let jobs: Vec<JobId> = surplus.iter().map(|delivery| delivery.hint.job).collect();
    assert_eq!(jobs, sent[1..].iter().map(|hint| hint.job).collect::<Vec<_>>());
    free.publish(&hints(3)).await.unwrap();
    let others = receive_many(&free, 3).await;
    // Not settled, it goes to who asks.
    drop(surplus);
    for delivery in receive_many(&free, 11).await.into_iter().chain(others).chain([held]) {
        delivery.ack().await.unwrap();
    }
    // Asked again, it is sent hints again.
    drop(free);
    slots_hold(&full, 16).await;
}

/// Each costs the server memory, and time when a worker starts.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_publishes_nothing_has_one_connection() {
    let node = shared().await;
    let vhost = virtual_host(node).await;
    let becomes = async |count: usize| {
        wait_for(&format!("{count} connections"), async || {
            let listed = node.ctl(&["list_connections", "vhost", "--no-table-headers"]).await;
            (listed.lines().filter(|line| line.trim() == vhost).count() == count).then_some(())
        })
        .await;
    };
    let broker = connect(&alone(format!("{}/{vhost}", node.url()), 3)).await;
    assert!(nothing_comes(&broker, Lane::Interactive).await);
    becomes(1).await;
    broker.publish(&hints(1)).await.unwrap();
    becomes(2).await;
    receive(&broker, Lane::Interactive).await.ack().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_queue_with_other_arguments_is_refused_and_named() {
    let config = alone(shared().await.url(), 1);
    let queue = format!("{}.batch", config.name);
    let other = Other::connect(&config.url).await;
    let options = QueueDeclareOptions { durable: true, ..QueueDeclareOptions::default() };
    other.channel.queue_declare(queue.as_str().into(), options, FieldTable::default()).await.unwrap();
    let refused = RabbitBroker::connect(config.clone()).await.err().unwrap();
    let BrokerError::Refused(reason) = &refused else { panic!("{refused:?}") };
    for part in [queue.as_str(), "x-queue-type", "delete that queue", "`broker.name`"] {
        assert!(reason.contains(part), "{reason}");
    }
    other.delete(&queue).await;
    connect(&config).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hint_that_reaches_no_queue_is_not_published() {
    let config = alone(shared().await.url(), 1);
    let broker = connect(&config).await;
    broker.publish(&hints(1)).await.unwrap();
    Other::connect(&config.url).await.delete(&format!("{}.interactive", config.name)).await;
    let missing = broker.publish(&hints(3)).await.unwrap_err();
    assert!(missing.to_string().contains("missing"), "{missing}");
    // It was declared again, and what was not published is not there.
    broker.publish(&hints(1)).await.unwrap();
    assert_eq!(depth_becomes(&broker, Lane::Interactive, 1).await, 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_deleted_queue_is_made_and_consumed_again() {
    let config = alone(shared().await.url(), 2);
    let (broker, another) = (connect(&config).await, connect(&config).await);
    // One of them may be sent both hints.
    let mut given_back = JoinSet::new();
    for broker in [broker.clone(), another.clone()] {
        given_back.spawn(async move {
            loop {
                drop(broker.surplus().await);
            }
        });
    }
    broker.publish(&hints(2)).await.unwrap();
    let lost = [receive(&broker, Lane::Interactive).await, receive(&another, Lane::Interactive).await];
    let other = Other::connect(&config.url).await;
    let again = async {
        other.delete(&format!("{}.interactive", config.name)).await;
        let sent = hints(2);
        wait_for("publishing to work", async || broker.publish(&sent).await.ok()).await;
        sent
    };
    // Waiting while it goes, as free slots do; kept, so that each gets one.
    let next = [receive(&broker, Lane::Interactive), receive(&another, Lane::Interactive)];
    let (next, sent) = futures::future::join(futures::future::join_all(next), again).await;
    let jobs = |mut jobs: Vec<JobId>| {
        jobs.sort();
        jobs
    };
    let came = jobs(next.iter().map(|delivery| delivery.hint.job).collect());
    assert_eq!(came, jobs(sent.iter().map(|hint| hint.job).collect()));
    for delivery in next {
        delivery.ack().await.unwrap();
    }
    drop((lost, another, given_back));
    slots_hold(&broker, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_consumer_that_the_server_forgot_is_made_again() {
    let node = shared().await;
    let config = alone(node.url(), 2);
    let broker = connect(&config).await;
    let forget = async {
        let queue = format!("{}.interactive", config.name);
        let forget = format!(
            "{{ok, Q}} = rabbit_amqqueue:lookup(rabbit_misc:r(<<\"/\">>, queue, <<\"{queue}\">>)), \
             [ra:process_command(amqqueue:get_pid(Q), \
              rabbit_fifo:make_checkout({{element(2, C), element(1, C)}}, cancel, #{{}})) \
              || C <- rabbit_amqqueue:consumers(Q)]."
        );
        wait_for("it to be forgotten", async || {
            node.ctl(&["eval", &forget]).await.contains("ok").then_some(())
        })
        .await;
        let sent = hints(1);
        broker.publish(&sent).await.unwrap();
        sent
    };
    let (next, sent) = futures::future::join(receive(&broker, Lane::Interactive), forget).await;
    assert_eq!(next.hint, sent[0]);
    next.ack().await.unwrap();
    slots_hold(&broker, 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_that_is_no_hint_is_taken_out_and_skipped() {
    let config = alone(shared().await.url(), 1);
    let broker = connect(&config).await;
    let other = Other::connect(&config.url).await;
    let queue = format!("{}.interactive", config.name);
    for junk in ["junk", "{}", ""] {
        let (options, properties) = (BasicPublishOptions::default(), BasicProperties::default());
        let sent = other
            .channel
            .basic_publish("".into(), queue.as_str().into(), options, junk.as_bytes(), properties)
            .await;
        sent.unwrap();
    }
    assert_eq!(depth_becomes(&broker, Lane::Interactive, 3).await, 3);
    let sent = hints(1);
    broker.publish(&sent).await.unwrap();
    let delivery = receive(&broker, Lane::Interactive).await;
    assert_eq!(delivery.hint, sent[0]);
    delivery.ack().await.unwrap();
    drop(broker);
    // Had one stayed unsettled, it would be back now.
    let next = connect(&config).await;
    wait_for("the first broker to be gone", async || {
        (shared().await.ctl(&["list_queues", "name", "messages", "consumers"]).await.lines())
            .any(|line| line == format!("{queue}\t0\t0"))
            .then_some(())
    })
    .await;
    assert!(nothing_comes(&next, Lane::Interactive).await);
}

/// A process that ends gives its hints to others, and they are told so.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn hints_of_a_process_that_ends_come_to_another_as_redelivered() {
    let config = alone(shared().await.url(), 4);
    let (ends, stays) = (connect(&config).await, connect(&config).await);
    let sent = hints(1);
    ends.publish(&sent).await.unwrap();
    let lent = receive(&ends, Lane::Interactive).await;
    assert!(!lent.redelivered);
    drop(ends);
    let again = receive(&stays, Lane::Interactive).await;
    assert_eq!((&again.hint, again.redelivered), (&sent[0], true));
    assert!(lent.ack().await.is_err(), "it is not ours any more");
    again.ack().await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tls_needs_a_certificate_that_is_trusted() {
    let node = shared().await;
    let refused = RabbitBroker::connect(alone(node.tls_url(), 1)).await.err().unwrap().to_string();
    assert!(refused.contains("certificate"), "{refused}");
    let trusting = format!("{}?cacertfile={}", node.tls_url(), node.authority());
    slots_hold(&connect(&alone(trusting, 1)).await, 1).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_password_opens_and_is_never_told() {
    let node = shared().await;
    node.ctl(&["add_user", "miller", "p@ss/canary"]).await;
    node.ctl(&["set_permissions", "miller", ".*", ".*", ".*"]).await;
    let config = alone(node.url_of("miller:p%40ss%2Fcanary"), 1);
    assert!(!format!("{config:?}").contains("canary"));
    slots_hold(&connect(&config).await, 1).await;
    let wrong = alone(node.url_of("miller:wrong-canary"), 1);
    let refused = RabbitBroker::connect(wrong).await.err().unwrap().to_string();
    assert!(refused.contains("ACCESS_REFUSED") && !refused.contains("canary"), "{refused}");
}
