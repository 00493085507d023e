//! Deadlines: every job ends by its own, whatever its owner does.

use std::time::Duration;

use crate::model::{Output, Status, WorkerId};
use crate::ports::{Appended, Closed, Renewed};

use super::{Subject, chat, completed, new_tenant};

const DEADLINE: Duration = Duration::from_secs(2);
/// Its owner has a moment to close it itself.
const PAST: Duration = Duration::from_secs(3);

pub async fn a_waiting_job_expires_at_its_deadline(subject: &Subject) {
    let tenant = new_tenant();
    let turns = subject.accept_turns(&tenant, 2).await;
    let mut spec = chat(&tenant, "q");
    spec.deadline = DEADLINE;
    spec.conversation_id = turns[0].spec.conversation_id;
    let job = subject.accept(spec).await;
    subject.wait_and_sweep(PAST).await;
    assert_eq!(subject.job(&job).await.status, Status::Expired);
    assert_eq!(subject.kinds(&job).await, ["job.queued", "job.expired"]);
    assert_eq!(subject.job(&turns[0]).await.status, Status::Queued, "the others have time left");
}

pub async fn a_running_job_without_text_expires(subject: &Subject) {
    let mut spec = chat(&new_tenant(), "q");
    spec.deadline = DEADLINE;
    let job = subject.accept(spec).await;
    let run = subject.claim(&job, WorkerId::new()).await;
    subject.wait_and_sweep(PAST).await;
    assert_eq!(subject.job(&job).await.status, Status::Expired);
    assert_eq!(subject.append(&run.lease, 3, &["late"]).await, Appended::Fenced);
    assert_eq!(subject.jobs.renew(&run.lease).await.expect("renew"), Renewed::Fenced);
    assert_ne!(subject.finish(&run, completed("late")).await, Closed::Ok);
}

pub async fn text_before_the_deadline_is_kept_as_incomplete(subject: &Subject) {
    let mut spec = chat(&new_tenant(), "q");
    spec.deadline = DEADLINE;
    let job = subject.accept(spec).await;
    let run = subject.claim(&job, WorkerId::new()).await;
    assert_eq!(subject.append(&run.lease, 3, &["half an ", "答"]).await, Appended::Ok);
    subject.wait_and_sweep(PAST).await;
    let ended = subject.job(&job).await;
    assert_eq!(ended.status, Status::Incomplete);
    let Some(Output::Answer { text, .. }) = ended.output else { panic!("{:?}", ended.output) };
    assert_eq!(text, "half an 答");
    assert_eq!(subject.kinds(&job).await.last().map(String::as_str), Some("job.incomplete"));
}

pub async fn the_deadline_counts_from_not_before(subject: &Subject) {
    let mut spec = chat(&new_tenant(), "q");
    spec.deadline = DEADLINE;
    let at = subject.now().await + Duration::from_secs(3);
    spec.not_before = Some(at);
    let job = subject.accept(spec).await;
    assert_eq!(job.expires_at, at + DEADLINE);
    subject.wait_and_sweep(Duration::from_millis(3200)).await;
    assert_eq!(subject.job(&job).await.status, Status::Queued);
    subject.wait_and_sweep(PAST).await;
    assert_eq!(subject.job(&job).await.status, Status::Expired);
}

pub async fn an_owner_past_the_deadline_is_told(subject: &Subject) {
    let mut spec = chat(&new_tenant(), "q");
    spec.deadline = DEADLINE;
    let job = subject.accept(spec).await;
    let run = subject.claim(&job, WorkerId::new()).await;
    subject.wait(PAST).await;
    // Another process may have swept meanwhile: then the job is not its owner's any more.
    let renewed = subject.jobs.renew(&run.lease).await.expect("renew");
    assert!(matches!(renewed, Renewed::Expired | Renewed::Fenced), "{renewed:?}");
    subject.jobs.sweep().await.expect("sweep");
    assert_eq!(subject.job(&job).await.status, Status::Expired);
}
