//! Cancels: at once, through the owner, or over its head.

use std::time::Duration;

use crate::model::{JobId, Status, Terminal, WorkerId};
use crate::ports::{Appended, Cancelled, Claimed, Closed, Lease, Renewed, WorkerSignal};

use super::{PATIENCE, Subject, chat, completed, new_tenant};

pub async fn a_waiting_job_is_cancelled_at_once(subject: &Subject) {
    let worker = WorkerId::new();
    let job = subject.accept(chat(&new_tenant(), "q")).await;
    let answer = subject.jobs.cancel(&job.spec.tenant, job.spec.id).await.expect("cancel");
    let Cancelled::Job(now) = answer else { panic!("{answer:?}") };
    assert_eq!(now.status, Status::Cancelled);
    assert_eq!(subject.kinds(&job).await, ["job.queued", "job.cancelled"]);
    assert!(matches!(subject.try_claim(&job, worker).await, Claimed::Done), "it never runs");
    subject.wait_and_sweep(Lease::HINT_GRACE * 2).await;
    assert!(!subject.is_due(job.spec.id, worker).await);
}

pub async fn a_running_job_is_cancelled_by_its_owner(subject: &Subject) {
    let worker = WorkerId::new();
    let job = subject.accept(chat(&new_tenant(), "q")).await;
    let run = subject.claim(&job, worker).await;
    let answer = subject.jobs.cancel(&job.spec.tenant, job.spec.id).await.expect("cancel");
    let Cancelled::Job(now) = answer else { panic!("{answer:?}") };
    assert_eq!((now.status, now.cancel_requested), (Status::InProgress, true));
    let signal = tokio::time::timeout(PATIENCE, subject.jobs.signal(worker)).await.expect("it is told");
    assert_eq!(signal, WorkerSignal::Cancel(run.lease.clone()));
    assert_eq!(subject.jobs.renew(&run.lease).await.expect("renew"), Renewed::CancelRequested);
    assert_eq!(subject.finish(&run, Terminal::bare(Status::Cancelled)).await, Closed::Ok);
    assert_eq!(subject.job(&job).await.status, Status::Cancelled);
    assert_eq!(subject.kinds(&job).await.last().map(String::as_str), Some("job.cancelled"));
}

pub async fn a_cancel_that_is_not_obeyed_is_carried_out(subject: &Subject) {
    let job = subject.accept(chat(&new_tenant(), "q")).await;
    let run = subject.claim(&job, WorkerId::new()).await;
    subject.jobs.cancel(&job.spec.tenant, job.spec.id).await.expect("cancel");
    subject.wait_and_sweep(Lease::CANCEL_GRACE + Duration::from_millis(200)).await;
    assert_eq!(subject.job(&job).await.status, Status::Cancelled);
    assert_eq!(subject.append(&run.lease, 3, &["late"]).await, Appended::Fenced);
    assert_eq!(subject.jobs.renew(&run.lease).await.expect("renew"), Renewed::Fenced);
    assert_ne!(subject.finish(&run, completed("late")).await, Closed::Ok);
    assert_eq!(subject.kinds(&job).await, ["job.queued", "attempt.started", "job.cancelled"]);
}

pub async fn a_cancelled_turn_lets_the_next_one_start(subject: &Subject) {
    let worker = WorkerId::new();
    let turns = subject.accept_turns(&new_tenant(), 3).await;
    // The one in the middle goes; the order of the others stays.
    subject.jobs.cancel(&turns[1].spec.tenant, turns[1].spec.id).await.expect("cancel");
    assert!(matches!(subject.try_claim(&turns[2], worker).await, Claimed::Waiting));
    subject.jobs.cancel(&turns[0].spec.tenant, turns[0].spec.id).await.expect("cancel");
    subject.claim_when_due(turns[2].spec.id, worker).await;
}

pub async fn cancelling_what_is_over_or_unknown_changes_nothing(subject: &Subject) {
    let tenant = new_tenant();
    let job = subject.accept(chat(&tenant, "q")).await;
    let run = subject.claim(&job, WorkerId::new()).await;
    subject.finish(&run, completed("a")).await;
    let before = subject.job(&job).await;
    let answer = subject.jobs.cancel(&tenant, job.spec.id).await.expect("cancel");
    assert_eq!(answer, Cancelled::Job(Box::new(before)));
    assert_eq!(subject.jobs.cancel(&tenant, JobId::new()).await.expect("cancel"), Cancelled::Unknown);
    assert!(subject.jobs.delete(&tenant, job.spec.id).await.expect("delete"));
    assert_eq!(subject.jobs.cancel(&tenant, job.spec.id).await.expect("cancel"), Cancelled::Gone);
}
