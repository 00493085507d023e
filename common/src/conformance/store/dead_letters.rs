//! Dead letters: what failed for good is kept, can be replayed once, and can be dropped.

use std::time::Duration;

use crate::model::{Job, JobError, JobId, Status, Terminal, WorkerId};
use crate::ports::{Claimed, Lease, Replayed};

use super::{Subject, chat, new_tenant};

pub async fn a_poison_job_dies_three_times_and_is_kept(subject: &Subject) {
    let mut spec = chat(&new_tenant(), "q");
    spec.deadline = Duration::from_secs(600);
    let job = subject.accept(spec).await;
    let mut run = subject.claim(&job, WorkerId::new()).await;
    for deaths in 1..Lease::MAX_DEATHS {
        subject.wait_and_sweep(Lease::TTL + Duration::from_millis(200)).await;
        assert_eq!(subject.dead_letter(job.spec.id).await, None);
        run = subject.claim_when_due(job.spec.id, WorkerId::new()).await;
        assert_eq!(run.job.deaths, deaths);
    }
    assert_eq!(run.job.attempt, 3);
    subject.wait_and_sweep(Lease::TTL + Duration::from_millis(200)).await;
    assert!(matches!(subject.try_claim(&job, WorkerId::new()).await, Claimed::Done));
    let ended = subject.job(&job).await;
    assert_eq!((ended.status, ended.attempt), (Status::Failed, 3));
    assert_eq!(ended.error.as_ref().map(|error| error.code.as_str()), Some("poison"));
    let letter = subject.dead_letter(job.spec.id).await.expect("it is kept");
    assert_eq!((letter.job, letter.replayed_as), (ended, None));
    subject.log(&job).await;
}

pub async fn a_failure_for_good_is_kept(subject: &Subject) {
    let job = failed(subject).await;
    let letter = subject.dead_letter(job.spec.id).await.expect("it is kept");
    let error = letter.job.error.expect("a failure says why");
    assert_eq!((error.code.as_str(), error.message.as_str()), ("model_error", "it broke 坏了"));
}

pub async fn a_replay_makes_one_new_job(subject: &Subject) {
    let old = failed(subject).await;
    let answers =
        futures::future::join_all((0..4).map(|_| async { subject.jobs.replay(old.spec.id).await })).await;
    let mut made = Vec::new();
    let mut ids = Vec::new();
    for answer in answers {
        match answer.expect("replay") {
            Replayed::Job(job, new) => {
                ids.push(job.spec.id);
                made.extend(new.then_some(*job));
            }
            Replayed::Unknown => panic!("it is kept"),
        }
    }
    assert_eq!(made.len(), 1, "made once");
    let new = &made[0];
    assert!(ids.iter().all(|id| *id == new.spec.id));
    assert_ne!(new.spec.id, old.spec.id);
    assert_eq!(new.spec.replay_of, Some(old.spec.id));
    assert_eq!((&new.spec.input, &new.spec.tenant), (&old.spec.input, &old.spec.tenant));
    assert_eq!((new.status, new.attempt, new.deaths), (Status::Queued, 0, 0));
    assert_eq!(subject.kinds(new).await, ["job.queued"]);
    let letter = subject.dead_letter(old.spec.id).await.expect("it stays");
    assert_eq!(letter.replayed_as, Some(new.spec.id));
    assert_eq!(subject.job(&old).await.status, Status::Failed);
    // It runs without anybody's hint.
    subject.wait(Lease::HINT_GRACE + Duration::from_millis(100)).await;
    subject.claim_when_due(new.spec.id, WorkerId::new()).await;
    assert_eq!(subject.jobs.replay(JobId::new()).await.expect("replay"), Replayed::Unknown);
}

pub async fn a_dropped_letter_is_forgotten_and_its_job_stays(subject: &Subject) {
    let job = failed(subject).await;
    assert!(subject.jobs.drop_dead_letter(job.spec.id).await.expect("drop"));
    assert_eq!(subject.dead_letter(job.spec.id).await, None);
    assert!(!subject.jobs.drop_dead_letter(job.spec.id).await.expect("drop"));
    assert_eq!(subject.jobs.replay(job.spec.id).await.expect("replay"), Replayed::Unknown);
    assert_eq!(subject.job(&job).await.status, Status::Failed);
}

pub async fn letters_are_listed_newest_first(subject: &Subject) {
    let mut jobs = Vec::new();
    for _ in 0..3 {
        jobs.push(failed(subject).await.spec.id);
    }
    jobs.reverse();
    let ids = async |limit, before| -> Vec<JobId> {
        let letters = subject.jobs.dead_letters(limit, before).await.expect("dead_letters");
        letters.iter().map(|letter| letter.job.spec.id).collect()
    };
    assert_eq!(ids(3, None).await, jobs);
    assert_eq!(ids(2, None).await, jobs[..2]);
    assert_eq!(ids(2, Some(jobs[0])).await, jobs[1..]);
}

async fn failed(subject: &Subject) -> Job {
    let job = subject.accept(chat(&new_tenant(), "q")).await;
    let run = subject.claim(&job, WorkerId::new()).await;
    let error = JobError::new("model_error", "it broke 坏了", false);
    subject.finish(&run, Terminal::failed(error)).await;
    subject.job(&job).await
}
