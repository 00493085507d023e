//! What goes wrong, and how much of it.

use std::time::{Duration, SystemTime};

use rustix::process::Signal;

use super::check::Report;
use super::proxy::Mode;
use super::system::{Node, System};
use crate::servers::{Kind, Queue};
use crate::wait_for;

/// Longer than a presence key lives, so that a silent worker's jobs are taken from it.
const LONG_SILENCE: Duration = Duration::from_secs(6);
/// Longer than a lease.
const LONGER_THAN_A_LEASE: Duration = Duration::from_secs(12);
const A_MOMENT: Duration = Duration::from_millis(500);

/// One thing that goes wrong while the load runs. Numbers are those of the notes on reliability.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// F1: a worker is killed, and started again.
    WorkerKilled,
    /// F2: a worker is frozen until its jobs are elsewhere, then goes on.
    WorkerFrozen,
    /// F3: each ingress is killed in turn while streams are open.
    IngressKilled,
    /// F5: the broker is killed and comes back.
    BrokerKilled,
    /// F6: the broker is frozen.
    BrokerFrozen,
    /// F6: its memory alarm blocks publishers.
    BrokerAlarm,
    /// F6: its queues are emptied by hand: every hint is lost.
    QueuePurged,
    /// F6: its queues are deleted by hand.
    QueueDeleted,
    /// F7: confirms of publishes are lost with their connection.
    ConfirmLost,
    /// F7 for the store: replies are lost after the write has happened.
    ReplyLost,
    /// F8: the store is killed and comes back.
    StoreKilled,
    /// F8: the store is frozen.
    StoreFrozen,
    /// F8: the store is full: accepts are refused, accepted work ends.
    StoreFull,
    /// F8: the store forgets the scripts it was taught.
    ScriptsForgotten,
    /// F9: one worker's links to broker and store are half open.
    HalfOpen,
    /// F10: one worker cannot reach the store, but the broker.
    WithoutStore,
    /// F10: one worker cannot reach the broker, but the store.
    WithoutBroker,
    /// F18: every process is stopped and started again, one after the other.
    RollingRestart,
}

impl Fault {
    /// Those that `kind` can have.
    #[must_use]
    pub fn of(kind: Kind) -> &'static [Self] {
        match kind {
            Kind::RabbitMq => &[
                Self::WorkerKilled,
                Self::WorkerFrozen,
                Self::IngressKilled,
                Self::BrokerKilled,
                Self::BrokerFrozen,
                Self::BrokerAlarm,
                Self::QueuePurged,
                Self::QueueDeleted,
                Self::ConfirmLost,
                Self::ReplyLost,
                Self::StoreKilled,
                Self::StoreFrozen,
                Self::StoreFull,
                Self::ScriptsForgotten,
                Self::HalfOpen,
                Self::WithoutStore,
                Self::WithoutBroker,
                Self::RollingRestart,
            ],
            // F22, a rebalance under long jobs, is what each of the first two brings.
            Kind::Kafka => {
                &[Self::WorkerKilled, Self::WorkerFrozen, Self::BrokerKilled, Self::RollingRestart]
            }
        }
    }

    /// Whether it is over in a moment, so that it may strike often.
    #[must_use]
    pub fn is_quick(self) -> bool {
        matches!(
            self,
            Self::WorkerKilled
                | Self::IngressKilled
                | Self::ConfirmLost
                | Self::ReplyLost
                | Self::StoreKilled
                | Self::ScriptsForgotten
                | Self::RollingRestart
        )
    }

    /// Whether a worker's jobs have to go on elsewhere.
    fn takes_jobs_away(self) -> bool {
        matches!(self, Self::WorkerKilled | Self::WorkerFrozen | Self::HalfOpen | Self::WithoutStore)
    }

    /// Whether it met what it was meant to: a run that it did not touch proves nothing.
    pub(super) fn met(self, seen: &Report) -> bool {
        match self {
            Self::WorkerKilled | Self::WorkerFrozen | Self::HalfOpen | Self::WithoutStore => {
                0 < seen.taken_over
            }
            Self::IngressKilled | Self::RollingRestart => 0 < seen.resumed,
            Self::StoreFull => 0 < seen.refused,
            // They wait for their victims.
            Self::ConfirmLost | Self::ReplyLost => true,
            Self::StoreKilled
            | Self::StoreFrozen
            | Self::QueuePurged
            | Self::QueueDeleted
            | Self::ScriptsForgotten => seen.under_way,
            Self::BrokerKilled | Self::BrokerFrozen | Self::BrokerAlarm | Self::WithoutBroker => {
                0 < seen.accepted_meanwhile
            }
        }
    }

    /// Strikes once, the `turn`-th time, and mends it. Answers from when to when.
    pub(super) async fn strike(self, system: &mut System, turn: usize) -> (SystemTime, SystemTime) {
        let worker = turn % system.workers.len();
        if self.takes_jobs_away() {
            system.workers[worker].has_its_hands_full().await;
        }
        let at = SystemTime::now();
        match self {
            Self::WorkerKilled => {
                system.workers[worker].kill9().await;
                system.workers[worker].restart().await;
            }
            Self::WorkerFrozen => {
                system.workers[worker].signal(Signal::STOP);
                tokio::time::sleep(LONG_SILENCE).await;
                system.workers[worker].signal(Signal::CONT);
            }
            Self::IngressKilled => {
                let api = turn % system.apis.len();
                system.apis[api].kill9().await;
                system.apis[api].restart().await;
            }
            Self::BrokerKilled => match &mut system.queue {
                Queue::RabbitMq(node) => node.restart().await,
                Queue::Kafka(kafka) => kafka.restart().await,
            },
            Self::BrokerFrozen => freeze(rabbit(system).process(), LONG_SILENCE).await,
            Self::BrokerAlarm => {
                let node = rabbit(system);
                node.ctl(&["set_vm_memory_high_watermark", "absolute", "1MB"]).await;
                tokio::time::sleep(LONG_SILENCE).await;
                node.ctl(&["set_vm_memory_high_watermark", "0.4"]).await;
            }
            Self::QueuePurged => for_each_queue(system, "purge_queue").await,
            Self::QueueDeleted => for_each_queue(system, "delete_queue").await,
            Self::ConfirmLost => {
                lose(system.apis.iter().filter_map(|node| node.broker.as_ref()), 20).await;
            }
            Self::ReplyLost => {
                lose(system.apis.iter().chain(&system.workers).map(|node| &node.store), 50).await;
            }
            Self::StoreKilled => {
                system.redis.kill9();
                tokio::time::sleep(A_MOMENT).await;
                system.redis.restart().await;
            }
            Self::StoreFrozen => freeze(system.redis.process(), Duration::from_secs(5)).await,
            Self::StoreFull => {
                says(system, "CONFIG SET maxmemory 1");
                tokio::time::sleep(Duration::from_secs(3)).await;
                says(system, "CONFIG SET maxmemory 0");
            }
            Self::ScriptsForgotten => says(system, "SCRIPT FLUSH"),
            Self::HalfOpen => {
                let node = &system.workers[worker];
                through(node, Mode::Deaf, true, true, LONGER_THAN_A_LEASE).await;
            }
            Self::WithoutStore => {
                through(&system.workers[worker], Mode::Silent, true, false, LONGER_THAN_A_LEASE).await;
            }
            Self::WithoutBroker => {
                through(&system.workers[worker], Mode::Cut, false, true, LONG_SILENCE).await;
            }
            Self::RollingRestart => {
                for at in 0..system.apis.len() {
                    system.apis[at].sigterm().await;
                    system.apis[at].restart().await;
                }
                for at in 0..system.workers.len() {
                    system.workers[at].sigterm().await;
                    system.workers[at].restart().await;
                }
            }
        }
        (at, SystemTime::now())
    }
}

fn rabbit(system: &System) -> &crate::servers::RabbitMq {
    match &system.queue {
        Queue::RabbitMq(node) => node,
        Queue::Kafka(_) => panic!("Kafka has no such fault"),
    }
}

async fn freeze(process: &crate::servers::Process, time: Duration) {
    process.signal(Signal::STOP);
    tokio::time::sleep(time).await;
    process.signal(Signal::CONT);
}

async fn for_each_queue(system: &System, command: &str) {
    let node = rabbit(system);
    let list = ["list_queues", "name", "messages_ready", "--no-table-headers", "--silent"];
    let queues = wait_for("hints to be queued", || async {
        let queues = node.ctl(&list).await;
        queues.lines().any(|queue| !queue.trim_end().ends_with("\t0")).then_some(queues)
    })
    .await;
    for queue in queues.lines().filter_map(|queue| queue.split_whitespace().next()) {
        node.ctl(&[command, queue]).await;
    }
}

/// Loses answers until some are lost.
async fn lose(proxies: impl Iterator<Item = &super::Proxy> + Clone, one_in: u32) {
    let lost = || proxies.clone().map(super::Proxy::lost).sum::<u64>();
    let before = lost();
    proxies.clone().for_each(|proxy| proxy.lose_one_in(one_in));
    wait_for("answers to be lost", || async { (lost() > before).then_some(()) }).await;
    proxies.clone().for_each(|proxy| proxy.lose_one_in(0));
}

fn says(system: &System, command: &str) {
    let said = system.redis.says(command).expect("Redis answers");
    assert!(said.starts_with("+OK"), "{command}: {said}");
}

async fn through(node: &Node, mode: Mode, store: bool, broker: bool, time: Duration) {
    let links = || store.then_some(&node.store).into_iter().chain(node.broker.as_ref().filter(|_| broker));
    links().for_each(|link| link.set(mode));
    tokio::time::sleep(time).await;
    links().for_each(|link| link.set(Mode::Pass));
}
