//! What every adapter of [`Broker`] must do.
//!
//! An adapter's test calls [`broker_conformance!`](crate::broker_conformance) with a function that
//! returns a connection to an empty queue of its own.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use crate::model::{Hint, JobId, Lane, TenantId};
use crate::ports::{Broker, Delivery};

/// How long a hint may take to come on a slow machine.
const PATIENCE: Duration = Duration::from_secs(30);
/// How long we look before we say that nothing comes.
const QUIET: Duration = Duration::from_millis(300);

/// A published hint arrives whole, with its tenant and its trace.
pub async fn a_published_hint_arrives_whole(broker: Arc<dyn Broker>) {
    let mut hint = hint(Lane::Interactive);
    hint.traceparent = Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned());
    broker.publish(std::slice::from_ref(&hint)).await.expect("publish");
    let delivery = receive(&broker, Lane::Interactive).await;
    assert_eq!((&delivery.hint, delivery.redelivered), (&hint, false));
    delivery.ack().await.expect("ack");
}

/// An acked hint does not come back.
pub async fn an_acked_hint_is_gone(broker: Arc<dyn Broker>) {
    broker.publish(&[hint(Lane::Interactive)]).await.expect("publish");
    receive(&broker, Lane::Interactive).await.ack().await.expect("ack");
    assert_eq!(depth_becomes(&broker, Lane::Interactive, 0).await, 0);
    assert!(nothing_comes(&broker, Lane::Interactive).await);
}

/// A hint dropped unsettled comes back and says so.
pub async fn a_dropped_hint_comes_back(broker: Arc<dyn Broker>) {
    let hint = hint(Lane::Interactive);
    broker.publish(std::slice::from_ref(&hint)).await.expect("publish");
    drop(receive(&broker, Lane::Interactive).await);
    let again = receive(&broker, Lane::Interactive).await;
    assert_eq!((&again.hint, again.redelivered), (&hint, true));
    again.ack().await.expect("ack");
    assert!(nothing_comes(&broker, Lane::Interactive).await);
}

/// A waiting `receive` that is dropped takes no hint with it.
pub async fn a_dropped_receive_loses_no_hint(broker: Arc<dyn Broker>) {
    let sent: Vec<_> = (0..50).map(|_| hint(Lane::Interactive)).collect();
    let mut got = HashSet::new();
    for hint in &sent {
        // Polled once, so that it waits, then dropped while the hint is on its way.
        let waiting = tokio::time::timeout(Duration::ZERO, broker.receive(Lane::Interactive));
        let (published, early) =
            futures::future::join(broker.publish(std::slice::from_ref(hint)), waiting).await;
        published.expect("publish");
        if let Ok(delivery) = early {
            take(delivery.expect("receive"), &mut got).await;
        }
    }
    while got.len() < sent.len() {
        take(receive(&broker, Lane::Interactive).await, &mut got).await;
    }
    assert_eq!(got, sent.iter().map(|hint| hint.job).collect());
}

/// A hint goes to one of many receivers at a time.
pub async fn each_hint_goes_to_one_receiver(broker: Arc<dyn Broker>) {
    let sent: Vec<_> = (0..100).map(|_| hint(Lane::Interactive)).collect();
    broker.publish(&sent).await.expect("publish");
    let receivers = (0..10).map(|_| async {
        let mut got = Vec::new();
        for _ in 0..10 {
            let delivery = receive(&broker, Lane::Interactive).await;
            got.push(delivery.hint.job);
            delivery.ack().await.expect("ack");
        }
        got
    });
    let got: Vec<JobId> = futures::future::join_all(receivers).await.into_iter().flatten().collect();
    let distinct: HashSet<_> = got.iter().copied().collect();
    assert_eq!(distinct.len(), 100);
    assert_eq!(distinct, sent.iter().map(|hint| hint.job).collect());
}

/// What waits in one lane does not come in the other.
pub async fn lanes_are_apart(broker: Arc<dyn Broker>) {
    let (urgent, batch) = (hint(Lane::Interactive), hint(Lane::Batch));
    broker.publish(&[batch.clone(), urgent.clone()]).await.expect("publish");
    let first = receive(&broker, Lane::Interactive).await;
    assert_eq!(first.hint, urgent);
    first.ack().await.expect("ack");
    assert!(nothing_comes(&broker, Lane::Interactive).await);
    let second = receive(&broker, Lane::Batch).await;
    assert_eq!(second.hint, batch);
    second.ack().await.expect("ack");
}

/// With one receiver hints come in the order they were published.
pub async fn one_receiver_gets_hints_in_order(broker: Arc<dyn Broker>) {
    let sent: Vec<_> = (0..20).map(|_| hint(Lane::Interactive)).collect();
    broker.publish(&sent).await.expect("publish");
    for expected in &sent {
        let delivery = receive(&broker, Lane::Interactive).await;
        assert_eq!(delivery.hint.job, expected.job);
        delivery.ack().await.expect("ack");
    }
}

/// A receiver that holds a hint for long does not keep the next one from another.
pub async fn a_slow_job_does_not_delay_others(broker: Arc<dyn Broker>) {
    broker.publish(&[hint(Lane::Interactive), hint(Lane::Interactive)]).await.expect("publish");
    let slow = receive(&broker, Lane::Interactive).await;
    let other = receive(&broker, Lane::Interactive).await;
    assert_ne!(slow.hint.job, other.hint.job);
    other.ack().await.expect("ack");
    slow.ack().await.expect("ack");
}

/// A receiver that waits is woken by the next hint.
pub async fn a_waiting_receiver_is_woken(broker: Arc<dyn Broker>) {
    let hint = hint(Lane::Interactive);
    let publish = async {
        tokio::task::yield_now().await;
        broker.publish(std::slice::from_ref(&hint)).await.expect("publish");
    };
    let (delivery, ()) = futures::future::join(receive(&broker, Lane::Interactive), publish).await;
    assert_eq!(delivery.hint, hint);
    delivery.ack().await.expect("ack");
}

/// The depth is the number of hints that wait.
pub async fn depth_counts_what_waits(broker: Arc<dyn Broker>) {
    let sent: Vec<_> = (0..5).map(|_| hint(Lane::Batch)).collect();
    broker.publish(&sent).await.expect("publish");
    assert_eq!(depth_becomes(&broker, Lane::Batch, 5).await, 5);
    assert_eq!(broker.depth(Lane::Interactive).await.expect("depth"), 0);
    let mut held = Vec::new();
    for _ in 0..5 {
        held.push(receive(&broker, Lane::Batch).await);
    }
    assert_eq!(depth_becomes(&broker, Lane::Batch, 0).await, 0);
    for delivery in held {
        delivery.ack().await.expect("ack");
    }
    broker.ready().await.expect("ready");
}

/// The next hint, which must come.
pub async fn receive(broker: &Arc<dyn Broker>, lane: Lane) -> Delivery {
    let received = tokio::time::timeout(PATIENCE, broker.receive(lane)).await;
    received.expect("a hint comes").expect("receive")
}

async fn take(delivery: Delivery, got: &mut HashSet<JobId>) {
    got.insert(delivery.hint.job);
    delivery.ack().await.expect("ack");
}

/// Whether nothing comes for as long as we look.
pub async fn nothing_comes(broker: &Arc<dyn Broker>, lane: Lane) -> bool {
    tokio::time::timeout(QUIET, broker.receive(lane)).await.is_err()
}

/// The depth once it is `expected`, or the last one seen: brokers count with some delay.
pub async fn depth_becomes(broker: &Arc<dyn Broker>, lane: Lane, expected: u64) -> u64 {
    let mut seen = broker.depth(lane).await.expect("depth");
    let until = tokio::time::Instant::now() + PATIENCE;
    while seen != expected && tokio::time::Instant::now() < until {
        tokio::time::sleep(Duration::from_millis(20)).await;
        seen = broker.depth(lane).await.expect("depth");
    }
    seen
}

/// A hint of a job that no store knows.
#[must_use]
pub fn hint(lane: Lane) -> Hint {
    Hint { v: 1, job: JobId::new(), tenant: TenantId::default(), lane, traceparent: None }
}

/// Makes one test of each clause: `broker_conformance!(open)`, where `open` is an async function that
/// returns an `Arc<dyn Broker>` on an empty queue.
#[macro_export]
macro_rules! broker_conformance {
    ($open:path) => {
        $crate::broker_conformance! { @ $open,
            a_published_hint_arrives_whole,
            an_acked_hint_is_gone,
            a_dropped_hint_comes_back,
            a_dropped_receive_loses_no_hint,
            each_hint_goes_to_one_receiver,
            lanes_are_apart,
            one_receiver_gets_hints_in_order,
            a_slow_job_does_not_delay_others,
            a_waiting_receiver_is_woken,
            depth_counts_what_waits,
        }
    };
    (@ $open:path, $($clause:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $clause() {
                $crate::conformance::broker::$clause($open().await).await;
            }
        )*
    };
}
