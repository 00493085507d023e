//! What operators do: pausing a lane, draining a worker.

use std::time::Duration;

use crate::model::{JobSpec, Lane, Status, TenantId, WorkerId};
use crate::ports::{Claim, Claimed, WorkerInfo};

use super::{Subject, chat, completed, new_tenant};

const DEADLINE: Duration = Duration::from_secs(2);

fn batch(tenant: &TenantId) -> JobSpec {
    JobSpec { lane: Lane::Batch, ..chat(tenant, "q") }
}

async fn pause(subject: &Subject, paused: bool) {
    subject.jobs.pause_lane(Lane::Batch, paused).await.expect("pause");
    let lanes = subject.jobs.depth(Duration::ZERO).await.expect("depth");
    let shown: Vec<_> = lanes.iter().map(|lane| (lane.lane, lane.paused)).collect();
    assert_eq!(shown, [(Lane::Interactive, false), (Lane::Batch, paused)]);
}

async fn claim_due(subject: &Subject) -> Option<crate::ports::Run> {
    subject.jobs.claim_due(Lane::Batch, Claim::new(WorkerId::new())).await.expect("claim_due")
}

pub async fn a_paused_lane_takes_in_and_gives_nothing_until_it_is_resumed(subject: &Subject) {
    let tenant = new_tenant();
    let running = subject.accept(batch(&tenant)).await;
    let run = subject.claim(&running, WorkerId::new()).await;
    pause(subject, true).await;
    pause(subject, true).await;
    let job = subject.accept(batch(&tenant)).await;
    assert!(matches!(subject.try_claim(&job, WorkerId::new()).await, Claimed::Waiting));
    assert!(claim_due(subject).await.is_none());
    // The other lane goes on, and so does what runs.
    let other = subject.accept(chat(&tenant, "q")).await;
    let other = subject.claim(&other, WorkerId::new()).await;
    subject.finish(&other, completed("a")).await;
    subject.finish(&run, completed("a")).await;

    pause(subject, false).await;
    tokio::time::timeout(Duration::from_secs(5), subject.jobs.due()).await.expect("there is due work");
    let mut taken = Vec::new();
    while let Some(run) = claim_due(subject).await {
        taken.push(run.job.spec.id);
        subject.finish(&run, completed("a")).await;
    }
    assert!(taken.contains(&job.spec.id), "its hint was used up: it is due");
}

pub async fn a_paused_lane_loses_no_deadline_and_no_cancel(subject: &Subject) {
    let tenant = new_tenant();
    pause(subject, true).await;
    let short = subject.accept(JobSpec { deadline: DEADLINE, ..batch(&tenant) }).await;
    let unwanted = subject.accept(batch(&tenant)).await;
    subject.jobs.cancel(&tenant, unwanted.spec.id).await.expect("cancel");
    assert_eq!(subject.job(&unwanted).await.status, Status::Cancelled);
    subject.wait_and_sweep(DEADLINE + Duration::from_secs(1)).await;
    assert_eq!(subject.job(&short).await.status, Status::Expired);
    pause(subject, false).await;
}

pub async fn a_worker_is_told_to_drain_and_of_paused_lanes(subject: &Subject) {
    let info =
        |id| WorkerInfo { id, slots: 1, running: 0, draining: false, own_index: false, host: String::new() };
    let (worker, other) = (WorkerId::new(), WorkerId::new());
    assert!(!subject.jobs.drain_worker(worker).await.expect("drain"), "it does not live");
    for id in [worker, other] {
        subject.jobs.present(&info(id)).await.expect("present");
    }
    assert!(subject.jobs.drain_worker(worker).await.expect("drain"));
    pause(subject, true).await;
    for (id, drain) in [(worker, true), (other, false), (worker, true)] {
        let orders = subject.jobs.present(&info(id)).await.expect("present");
        assert_eq!((orders.drain, orders.paused), (drain, vec![Lane::Batch]));
    }
    pause(subject, false).await;
    let orders = subject.jobs.present(&info(other)).await.expect("present");
    assert_eq!((orders.drain, orders.paused), (false, Vec::new()));
}
