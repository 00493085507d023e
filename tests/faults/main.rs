//! Every fault once, small: each breaks something under load on real servers, and nothing anybody saw may
//! contradict the promises. `just chaos` is the same at length.

use millhand_tests::faults::{Fault, Kind, System, run};

/// Enough that each worker has its hands full when the fault strikes.
const JOBS: usize = 60;

macro_rules! faults {
    ($kind:ident: $($name:ident = $fault:ident x $strikes:literal,)*) => {$(
        #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
        async fn $name() {
            let mut system = System::start(Kind::$kind).await;
            let report = run(&mut system, Fault::$fault, JOBS, $strikes, stringify!($name)).await;
            println!("{report:?}");
        }
    )*};
}

mod on_rabbitmq {
    use super::*;

    faults! { RabbitMq:
        a_killed_worker_loses_no_job = WorkerKilled x 3,
        a_frozen_worker_loses_its_jobs_and_writes_nothing_more = WorkerFrozen x 1,
        readers_of_a_killed_ingress_come_back = IngressKilled x 2,
        the_broker_is_killed_and_comes_back = BrokerKilled x 1,
        the_broker_freezes = BrokerFrozen x 1,
        the_broker_blocks_publishers = BrokerAlarm x 1,
        every_hint_is_lost = QueuePurged x 2,
        the_queues_are_deleted = QueueDeleted x 1,
        confirms_are_lost = ConfirmLost x 1,
        replies_of_the_store_are_lost = ReplyLost x 3,
        the_store_is_killed_and_comes_back = StoreKilled x 2,
        the_store_freezes = StoreFrozen x 1,
        the_store_is_full = StoreFull x 1,
        the_store_forgets_its_scripts = ScriptsForgotten x 2,
        a_worker_s_links_are_half_open = HalfOpen x 1,
        a_worker_cannot_reach_the_store = WithoutStore x 1,
        a_worker_cannot_reach_the_broker = WithoutBroker x 1,
        every_process_is_replaced_in_turn = RollingRestart x 1,
    }
}

mod on_kafka {
    use super::*;

    faults! { Kafka:
        a_killed_worker_loses_no_job = WorkerKilled x 3,
        a_frozen_worker_loses_its_jobs_and_writes_nothing_more = WorkerFrozen x 1,
        the_broker_is_killed_and_comes_back = BrokerKilled x 1,
        every_process_is_replaced_in_turn = RollingRestart x 1,
    }
}
