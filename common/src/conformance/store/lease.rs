//! Leases: kept by renewing, lost by silence, and no write after they are lost.

use std::time::Duration;

use crate::model::{Status, Terminal, WaitReason, WorkerId};
use crate::ports::{Appended, By, Claimed, Closed, Lease, Released, Renewed, WorkerInfo, WorkerSignal};

use super::{PATIENCE, Subject, chat, completed, new_tenant};

/// A little more than the time named.
const SLACK: Duration = Duration::from_millis(200);

pub async fn a_renewed_lease_outlives_its_length_tenfold(subject: &Subject) {
    let worker = WorkerId::new();
    let mut spec = chat(&new_tenant(), "q");
    spec.deadline = Duration::from_secs(600);
    let job = subject.accept(spec).await;
    let run = subject.claim(&job, worker).await;
    for _ in 0..34 {
        present(subject, worker).await;
        subject.wait_and_sweep(Lease::RENEW_EVERY).await;
        assert_eq!(subject.jobs.renew(&run.lease).await.expect("renew"), Renewed::Ok);
        assert!(matches!(subject.try_claim(&job, WorkerId::new()).await, Claimed::Busy));
    }
    assert_eq!(subject.append(&run.lease, run.job.last_seq + 1, &["still mine"]).await, Appended::Ok);
    let now = subject.job(&job).await;
    assert_eq!((now.attempt, now.deaths), (1, 0));
}

pub async fn a_lease_that_ended_is_taken_over_and_counts_as_a_death(subject: &Subject) {
    let job = subject.accept(chat(&new_tenant(), "q")).await;
    let first = subject.claim(&job, WorkerId::new()).await;
    subject.wait_and_sweep(Lease::TTL + SLACK).await;
    let second = subject.claim_when_due(job.spec.id, WorkerId::new()).await;
    assert_eq!((second.job.attempt, second.job.deaths), (2, 1));
    assert!(second.lease.epoch > first.lease.epoch);
    assert_eq!(subject.kinds(&job).await, ["job.queued", "attempt.started", "attempt.started"]);
    // Once: whoever sweeps next finds a live lease.
    subject.jobs.sweep().await.expect("sweep");
    assert!(matches!(subject.try_claim(&job, WorkerId::new()).await, Claimed::Busy));
}

pub async fn a_challenged_owner_that_renews_keeps_its_job(subject: &Subject) {
    let worker = WorkerId::new();
    let job = subject.accept(chat(&new_tenant(), "q")).await;
    let run = subject.claim(&job, worker).await;
    present(subject, worker).await;
    subject.jobs.challenge(&job.spec.tenant, job.spec.id).await.expect("challenge");
    assert_eq!(next_signal(subject, worker).await, WorkerSignal::Challenge(run.lease.clone()));
    assert_eq!(subject.jobs.renew(&run.lease).await.expect("renew"), Renewed::Ok);
    subject.wait_and_sweep(Lease::CHALLENGE + SLACK).await;
    assert!(matches!(subject.try_claim(&job, WorkerId::new()).await, Claimed::Busy));
    assert_eq!(subject.append(&run.lease, run.job.last_seq + 1, &["mine"]).await, Appended::Ok);
}

pub async fn a_challenged_owner_that_is_silent_loses_its_job(subject: &Subject) {
    let job = subject.accept(chat(&new_tenant(), "q")).await;
    let run = subject.claim(&job, WorkerId::new()).await;
    subject.jobs.challenge(&job.spec.tenant, job.spec.id).await.expect("challenge");
    assert!(matches!(subject.try_claim(&job, WorkerId::new()).await, Claimed::Busy), "it has 400 ms");
    subject.wait_and_sweep(Lease::CHALLENGE + SLACK).await;
    let taken = subject.claim_when_due(job.spec.id, WorkerId::new()).await;
    assert_eq!(taken.job.deaths, 1);
    assert_eq!(subject.jobs.renew(&run.lease).await.expect("renew"), Renewed::Fenced);
}

pub async fn a_challenge_of_one_job_is_one_of_all_its_owner_has(subject: &Subject) {
    let (silent, other) = (WorkerId::new(), WorkerId::new());
    let mut held = Vec::new();
    // Enough tenants that some of them lie in other shards.
    for _ in 0..4 {
        let job = subject.accept(chat(&new_tenant(), "q")).await;
        held.push((subject.claim(&job, silent).await, job));
    }
    let safe = subject.accept(chat(&new_tenant(), "q")).await;
    let safe = (subject.claim(&safe, other).await, safe);
    let (_, first) = &held[0];
    subject.jobs.challenge(&first.spec.tenant, first.spec.id).await.expect("challenge");
    subject.wait_and_sweep(Lease::CHALLENGE + SLACK).await;
    for (run, job) in &held {
        let taken = subject.claim(job, other).await;
        assert_eq!(taken.job.deaths, 1);
        assert_eq!(subject.jobs.renew(&run.lease).await.expect("renew"), Renewed::Fenced);
    }
    assert_eq!(
        subject.jobs.renew(&safe.0.lease).await.expect("renew"),
        Renewed::Ok,
        "another's is untouched"
    );
}

pub async fn a_worker_that_is_gone_loses_its_jobs(subject: &Subject) {
    let worker = WorkerId::new();
    let job = subject.accept(chat(&new_tenant(), "q")).await;
    present(subject, worker).await;
    subject.claim(&job, worker).await;
    subject.wait_and_sweep(Lease::PRESENCE_TTL + SLACK).await;
    subject.wait_and_sweep(Lease::CHALLENGE + SLACK).await;
    // Well before its lease would have ended.
    let taken = subject.claim_when_due(job.spec.id, WorkerId::new()).await;
    assert_eq!((taken.job.attempt, taken.job.deaths), (2, 1));
}

pub async fn a_release_gives_the_job_back_without_a_death(subject: &Subject) {
    let job = subject.accept(chat(&new_tenant(), "q")).await;
    let run = subject.claim(&job, WorkerId::new()).await;
    let released = subject.jobs.release(&run.lease, None, WaitReason::Drain).await.expect("release");
    assert_eq!(released, Released::Ok);
    let given = subject.job(&job).await;
    assert_eq!((given.status, given.attempt, given.deaths), (Status::Queued, 1, 0));
    assert_eq!(given.wait.map(|wait| wait.reason), Some(WaitReason::Drain));
    assert_eq!(subject.kinds(&job).await, ["job.queued", "attempt.started", "job.waiting"]);
    assert_eq!(subject.append(&run.lease, 4, &["late"]).await, Appended::Fenced);
    // A repetition, whatever it answers, writes nothing.
    subject.jobs.release(&run.lease, None, WaitReason::Drain).await.expect("release");
    assert_eq!(subject.kinds(&job).await.len(), 3);
    let next = subject.claim_when_due(job.spec.id, WorkerId::new()).await;
    assert_eq!((next.job.attempt, next.job.deaths, next.job.wait), (2, 0, None));
}

pub async fn a_released_job_waits_for_its_time(subject: &Subject) {
    let worker = WorkerId::new();
    let job = subject.accept(chat(&new_tenant(), "q")).await;
    let run = subject.claim(&job, worker).await;
    let at = subject.now().await + Duration::from_secs(2);
    subject.jobs.release(&run.lease, Some(at), WaitReason::Retry).await.expect("release");
    assert!(matches!(subject.try_claim(&job, worker).await, Claimed::Waiting));
    assert!(!subject.is_due(job.spec.id, worker).await);
    subject.wait(Duration::from_secs(2) + SLACK).await;
    subject.claim_when_due(job.spec.id, worker).await;
}

pub async fn the_old_owner_cannot_write_a_byte(subject: &Subject) {
    let job = subject.accept(chat(&new_tenant(), "q")).await;
    let old = subject.claim(&job, WorkerId::new()).await;
    assert_eq!(subject.append(&old.lease, 3, &["old"]).await, Appended::Ok);
    subject.wait_and_sweep(Lease::TTL + SLACK).await;
    let new = subject.claim_when_due(job.spec.id, WorkerId::new()).await;
    let before = subject.log(&job).await;

    let next = new.job.last_seq + 1;
    assert_eq!(subject.append(&old.lease, next, &["zombie"]).await, Appended::Fenced);
    assert_eq!(subject.jobs.renew(&old.lease).await.expect("renew"), Renewed::Fenced);
    let released = subject.jobs.release(&old.lease, None, WaitReason::Retry).await.expect("release");
    assert_eq!(released, Released::Fenced);
    for end in [completed("zombie"), Terminal::bare(Status::Failed), Terminal::bare(Status::Cancelled)] {
        let by = By::Owner { epoch: old.lease.epoch, first_seq: next, tail: vec![super::delta("zombie")] };
        let closed = subject.jobs.close(&job.spec.tenant, job.spec.id, by, end).await.expect("close");
        assert_eq!(closed, Closed::Fenced);
    }
    assert_eq!(subject.log(&job).await, before);
    assert_eq!(subject.append(&new.lease, next, &["new"]).await, Appended::Ok);
}

async fn present(subject: &Subject, worker: WorkerId) {
    let info = WorkerInfo {
        id: worker,
        slots: 4,
        running: 1,
        draining: false,
        own_index: false,
        host: String::new(),
    };
    subject.jobs.present(&info).await.expect("present");
}

async fn next_signal(subject: &Subject, worker: WorkerId) -> WorkerSignal {
    tokio::time::timeout(PATIENCE, subject.jobs.signal(worker)).await.expect("a signal comes")
}
