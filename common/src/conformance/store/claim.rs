//! Claiming: one owner at a time, in turn, not before its time.

use std::time::Duration;

use crate::model::{EventBody, Job, JobId, Lane, Status, Terminal, WaitReason, WorkerId};
use crate::ports::{By, Claim, Claimed, Lease};

use super::{Subject, chat, completed, new_tenant};

pub async fn a_claim_counts_an_attempt_and_shows_in_the_log(subject: &Subject) {
    let worker = WorkerId::new();
    let job = subject.accept(chat(&new_tenant(), "q")).await;
    let run = subject.claim(&job, worker).await;
    assert_eq!((run.job.status, run.job.attempt, run.job.deaths), (Status::InProgress, 1, 0));
    assert_eq!((run.lease.job, run.lease.epoch), (job.spec.id, run.job.epoch));
    assert!(run.job.started_at.is_some());
    let bodies: Vec<_> = run.log.iter().filter_map(|event| event.body()).collect();
    assert!(matches!(bodies[0], EventBody::JobQueued { .. }), "{bodies:?}");
    assert_eq!(bodies[1..], [EventBody::AttemptStarted { attempt: 1, worker }]);
    assert_eq!(run.job.last_seq, 2);
    assert_eq!(subject.job(&job).await, run.job);
    assert_eq!(subject.kinds(&job).await, ["job.queued", "attempt.started"]);
}

pub async fn a_repeated_claim_answers_the_first_one(subject: &Subject) {
    let job = subject.accept(chat(&new_tenant(), "q")).await;
    let claim = Claim::new(WorkerId::new());
    let mut leases = Vec::new();
    for _ in 0..3 {
        match subject.jobs.claim(&job.spec.tenant, job.spec.id, claim).await.expect("claim") {
            Claimed::Run(run) => leases.push(run.lease),
            other => panic!("{other:?}"),
        }
    }
    assert!(leases.iter().all(|lease| *lease == leases[0]));
    assert_eq!(subject.job(&job).await.attempt, 1);
}

pub async fn of_many_claims_at_once_one_runs(subject: &Subject) {
    let job = subject.accept(chat(&new_tenant(), "q")).await;
    let all = (0..20).map(|_| subject.try_claim(&job, WorkerId::new()));
    let answers = futures::future::join_all(all).await;
    let runs = answers.iter().filter(|answer| matches!(answer, Claimed::Run(_))).count();
    let busy = answers.iter().filter(|answer| matches!(answer, Claimed::Busy)).count();
    assert_eq!((runs, busy), (1, 19), "{answers:?}");
    assert_eq!(subject.job(&job).await.attempt, 1);
}

pub async fn a_live_lease_keeps_others_out(subject: &Subject) {
    let job = subject.accept(chat(&new_tenant(), "q")).await;
    subject.claim(&job, WorkerId::new()).await;
    assert!(matches!(subject.try_claim(&job, WorkerId::new()).await, Claimed::Busy));
    subject.wait_and_sweep(Lease::RENEW_EVERY).await;
    assert!(matches!(subject.try_claim(&job, WorkerId::new()).await, Claimed::Busy));
}

pub async fn a_finished_deleted_or_unknown_job_is_done(subject: &Subject) {
    let tenant = new_tenant();
    let job = subject.accept(chat(&tenant, "q")).await;
    let run = subject.claim(&job, WorkerId::new()).await;
    subject.finish(&run, completed("a")).await;
    assert!(matches!(subject.try_claim(&job, WorkerId::new()).await, Claimed::Done));
    assert!(subject.jobs.delete(&tenant, job.spec.id).await.expect("delete"));
    assert!(matches!(subject.try_claim(&job, WorkerId::new()).await, Claimed::Done));
    let unknown = subject.jobs.claim(&tenant, JobId::new(), Claim::new(WorkerId::new())).await;
    assert!(matches!(unknown.expect("claim"), Claimed::Done));
}

pub async fn a_conversation_runs_in_turn(subject: &Subject) {
    let worker = WorkerId::new();
    let turns = subject.accept_turns(&new_tenant(), 3).await;
    let ids: Vec<_> = turns.iter().map(|job| (job.spec.tenant.clone(), job.spec.id)).collect();
    subject.jobs.hinted(&ids).await.expect("hinted");
    assert_eq!(turns[1].wait.as_ref().map(|wait| wait.reason), Some(WaitReason::Conversation));
    let mut run = subject.claim(&turns[0], worker).await;
    for later in &turns[1..] {
        assert!(matches!(subject.try_claim(later, worker).await, Claimed::Waiting));
    }
    for next in &turns[1..] {
        subject.finish(&run, completed("a")).await;
        // Due by the same operation that ended the turn before it: no hint is needed.
        run = subject.claim_when_due(next.spec.id, worker).await;
        assert_eq!(run.job.wait, None);
    }
    subject.finish(&run, completed("a")).await;
}

pub async fn a_job_is_not_claimed_before_its_time(subject: &Subject) {
    let worker = WorkerId::new();
    let mut spec = chat(&new_tenant(), "q");
    let at = subject.now().await + Duration::from_secs(3);
    spec.not_before = Some(at);
    let job = subject.accept(spec).await;
    assert_eq!(job.wait.as_ref().map(|wait| wait.reason), Some(WaitReason::Scheduled));
    assert!(matches!(subject.try_claim(&job, worker).await, Claimed::Waiting));
    assert!(!subject.is_due(job.spec.id, worker).await);
    subject.wait(Duration::from_millis(3100)).await;
    let run = subject.claim_when_due(job.spec.id, worker).await;
    assert!(run.job.started_at.expect("claimed") >= at);
}

pub async fn an_unconfirmed_hint_makes_the_job_due(subject: &Subject) {
    let worker = WorkerId::new();
    let job = subject.accept(chat(&new_tenant(), "q")).await;
    assert!(!subject.is_due(job.spec.id, worker).await, "the hint has its time first");
    subject.wait(Lease::HINT_GRACE + Duration::from_millis(100)).await;
    subject.claim_when_due(job.spec.id, worker).await;
}

pub async fn a_confirmed_hint_leaves_the_due_index(subject: &Subject) {
    let worker = WorkerId::new();
    let job = subject.accept(chat(&new_tenant(), "q")).await;
    subject.jobs.hinted(&[(job.spec.tenant.clone(), job.spec.id)]).await.expect("hinted");
    subject.wait(Lease::HINT_GRACE + Duration::from_millis(100)).await;
    assert!(!subject.is_due(job.spec.id, worker).await);
    subject.claim(&job, worker).await;
}

pub async fn a_hint_that_nobody_acts_on_makes_the_job_due(subject: &Subject) {
    let worker = WorkerId::new();
    let tenant = new_tenant();
    let named = |job: &Job| (job.spec.tenant.clone(), job.spec.id);
    let confirmed = subject.accept(chat(&tenant, "q")).await;
    let unconfirmed = subject.accept(chat(&tenant, "q")).await;
    subject.jobs.hinted(&[named(&confirmed)]).await.expect("hinted");
    let both = [named(&confirmed), named(&unconfirmed)];
    subject.jobs.unhinted(&both).await.expect("unhinted");
    // A confirm that comes late takes nothing back, and neither does saying it again.
    subject.jobs.hinted(&both).await.expect("hinted");
    subject.jobs.unhinted(&both).await.expect("unhinted");
    let run = subject.claim_when_due(confirmed.spec.id, worker).await;
    assert_eq!(run.job.attempt, 1);
    subject.claim_when_due(unconfirmed.spec.id, worker).await;

    // Jobs that wait for something else, or for nothing any more, are left as they are.
    let mut later = chat(&tenant, "q");
    later.not_before = Some(subject.now().await + Duration::from_secs(3));
    let later = subject.accept(later).await;
    let ended = subject.accept(chat(&tenant, "q")).await;
    let ending = subject.claim(&ended, worker).await;
    subject.finish(&ending, completed("a")).await;
    let all = [named(&confirmed), named(&later), named(&ended)];
    subject.jobs.unhinted(&all).await.expect("unhinted");
    for job in [&confirmed, &later, &ended] {
        assert!(!subject.is_due(job.spec.id, worker).await);
    }
}

pub async fn lanes_are_apart(subject: &Subject) {
    let worker = WorkerId::new();
    let mut spec = chat(&new_tenant(), "q");
    spec.lane = Lane::Batch;
    let job = subject.accept(spec).await;
    subject.wait(Lease::HINT_GRACE + Duration::from_millis(100)).await;
    assert!(!subject.is_due(job.spec.id, worker).await, "not in the interactive lane");
    loop {
        let run = subject.jobs.claim_due(Lane::Batch, Claim::new(worker)).await.expect("claim_due");
        let run = run.expect("due in its own lane");
        if run.job.spec.id == job.spec.id {
            break;
        }
        let other = &run.job.spec;
        let end = Terminal::bare(Status::Cancelled);
        subject.jobs.close(&other.tenant, other.id, By::Anyone, end).await.expect("close");
    }
}
