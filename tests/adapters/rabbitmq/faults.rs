//! What becomes of hints while the server is killed, frozen, out of memory, or ends connections.

use std::collections::HashSet;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use millhand_tests::wait_for;
use rustix::process::Signal;

use super::*;

/// A publish ends within this, whatever the server does.
const PUBLISH_ENDS: Duration = Duration::from_secs(6);
/// Nothing more comes when nothing came for so long.
const QUIET: Duration = Duration::from_secs(2);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_loses_no_confirmed_hint_and_both_sides_go_on() {
    let mut node = RabbitMq::start().await;
    let broker = connect(&alone(node.url(), 4)).await;
    let (confirmed, got) = (Mutex::new(Vec::new()), Mutex::new(HashSet::new()));
    let (sent_all, failed) = (AtomicBool::new(false), Mutex::new(0_u32));
    let publish = async {
        while !sent_all.load(Ordering::SeqCst) {
            let sent = hints(8);
            match broker.publish(&sent).await {
                Ok(()) => confirmed.lock().unwrap().extend(sent.iter().map(|hint| hint.job)),
                Err(_) => *failed.lock().unwrap() += 1,
            }
        }
    };
    let consume = async {
        loop {
            // Nothing comes while the server is away, which takes long on a slow machine.
            let delivery = broker.receive(Lane::Interactive).await.unwrap();
            let job = delivery.hint.job;
            // One that is not acked comes again.
            if delivery.ack().await.is_ok() {
                got.lock().unwrap().insert(job);
            }
        }
    };
    let faults = async {
        // Both sides come back on their own.
        let both_go_on = async || {
            let now = || (confirmed.lock().unwrap().len(), got.lock().unwrap().len());
            let before = now();
            let enough = async || (now().0 >= before.0 + 400 && now().1 >= before.1 + 100).then_some(());
            wait_for("hints to be confirmed, and to come", enough).await;
        };
        for _ in 0..3 {
            both_go_on().await;
            node.kill9();
            assert!(broker.ready().await.is_err());
            node.restart().await;
        }
        both_go_on().await;
        sent_all.store(true, Ordering::SeqCst);
    };
    let all_come = async {
        futures::future::join(publish, faults).await;
        let all = confirmed.lock().unwrap().clone();
        let come = async || all.iter().all(|job| got.lock().unwrap().contains(job)).then_some(());
        wait_for("every confirmed hint to come", come).await;
        wait_for("the rest to be taken", async || {
            (broker.depth(Lane::Interactive).await.ok()? == 0).then_some(())
        })
        .await;
    };
    tokio::select! {
        () = all_come => {}
        () = consume => {}
    }
    let (confirmed, failed) = (confirmed.lock().unwrap().len(), *failed.lock().unwrap());
    println!("{confirmed} hints confirmed, {failed} publishes failed, none lost");
    assert!(1600 <= confirmed);
    broker.ready().await.unwrap();
    slots_hold(&broker, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_short_of_memory_or_frozen_fails_a_publish_in_time() {
    let node = RabbitMq::start().await;
    let broker = connect(&alone(node.url(), 4)).await;
    broker.publish(&hints(3)).await.unwrap();
    let held = receive(&broker, Lane::Interactive).await;
    let fails_in_time = async || {
        let asked = Instant::now();
        let failed = broker.publish(&hints(1)).await.unwrap_err();
        assert!(asked.elapsed() < PUBLISH_ENDS, "{:?}", asked.elapsed());
        failed
    };

    node.ctl(&["set_vm_memory_high_watermark", "0.00001"]).await;
    fails_in_time().await;
    // By now the server has said so.
    let failed = fails_in_time().await;
    assert!(failed.to_string().contains("memory"), "{failed}");
    // Everything else goes on.
    held.ack().await.unwrap();
    receive(&broker, Lane::Interactive).await.ack().await.unwrap();
    let last = receive(&broker, Lane::Interactive).await;
    broker.ready().await.unwrap();
    // The queue counts a moment later than it delivers.
    wait_for("acks to be heard", async || {
        let unacked = node.ctl(&["list_queues", "messages_unacknowledged", "--no-table-headers"]).await;
        let unacked: u32 = unacked.lines().filter_map(|line| line.trim().parse::<u32>().ok()).sum();
        (unacked == 1).then_some(())
    })
    .await;
    node.ctl(&["set_vm_memory_high_watermark", "0.6"]).await;
    wait_for("publishing to work", async || broker.publish(&hints(1)).await.ok()).await;
    last.ack().await.unwrap();

    let watchful = connect(&alone(format!("{}?heartbeat=2", node.url()), 4)).await;
    node.process().signal(Signal::STOP);
    fails_in_time().await;
    wait_for("the silence to be noticed", async || {
        let away = watchful.ready().await.unwrap_err().to_string();
        away.contains("heartbeat").then_some(())
    })
    .await;
    node.process().signal(Signal::CONT);
    wait_for("publishing to work", async || broker.publish(&hints(1)).await.ok()).await;
    wait_for("another connection", async || watchful.publish(&hints(1)).await.ok()).await;
    receive(&watchful, Lane::Interactive).await.ack().await.unwrap();
    // What was given up may have been published all the same.
    while let Ok(rest) = tokio::time::timeout(QUIET, broker.receive(Lane::Interactive)).await {
        rest.unwrap().ack().await.unwrap();
    }
    slots_hold(&broker, 4).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_are_closed_by_force_come_back_with_their_limits() {
    let node = shared().await;
    let vhost = virtual_host(node).await;
    let broker = connect(&alone(format!("{}/{vhost}", node.url()), 3)).await;
    let sent = hints(1);
    broker.publish(&sent).await.unwrap();
    let lent = receive(&broker, Lane::Interactive).await;
    for _ in 0..3 {
        // Nothing is closed when a connection is not listed yet.
        node.ctl(&["close_all_connections", "--vhost", &vhost, "an operator says so"]).await;
        wait_for("publishing to work", async || {
            let one = hints(1);
            broker.publish(&one).await.ok()
        })
        .await;
    }
    assert!(lent.ack().await.is_err(), "its channel is gone");
    let mut redelivered = Vec::new();
    for _ in 0..4 {
        let delivery = receive(&broker, Lane::Interactive).await;
        if delivery.redelivered {
            redelivered.push(delivery.hint.job);
        }
        delivery.ack().await.unwrap();
    }
    assert!(redelivered.contains(&sent[0].job), "it was lent before");
    slots_hold(&broker, 3).await;
}

/// A job may run for longer than the server lets a message be in hand: the hint comes again, challenges
/// its owner and is dropped; the channel is made anew.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_channel_that_the_server_closes_is_made_anew() {
    let node = RabbitMq::start().await;
    let set = "application:set_env(rabbit, consumer_timeout, 1000), \
               application:set_env(rabbit, channel_tick_interval, 200).";
    node.ctl(&["eval", set]).await;
    let broker = connect(&alone(node.url(), 2)).await;
    let sent = hints(1);
    broker.publish(&sent).await.unwrap();
    let long = receive(&broker, Lane::Interactive).await;
    let again = receive(&broker, Lane::Interactive).await;
    assert_eq!((&again.hint, again.redelivered), (&sent[0], true));
    again.ack().await.unwrap();
    assert!(long.ack().await.is_err());
    assert!(nothing_comes(&broker, Lane::Interactive).await);
    broker.publish(&hints(1)).await.unwrap();
    receive(&broker, Lane::Interactive).await.ack().await.unwrap();
}
