//! Accepting: one record, one place in the conversation, one answer per key.

use std::collections::HashSet;
use std::time::Duration;

use crate::model::{ConversationId, EventBody, JobId, OnBusy, Status, WaitReason, WorkerId};
use crate::ports::{Accept, Accepted, Appended, Expected, Lookup, Renewed};

use super::{Subject, chat, completed, new_tenant, request};

pub async fn an_accepted_job_is_queued_and_its_log_begins(subject: &Subject) {
    let spec = chat(&new_tenant(), "Who built the mill? 谁建了这座磨坊？");
    let job = subject.accept(spec.clone()).await;
    assert_eq!(job.spec, spec);
    assert_eq!((job.status, job.attempt, job.deaths, job.last_seq), (Status::Queued, 0, 0, 1));
    assert_eq!(job.expires_at, job.created_at + spec.deadline);
    assert_eq!(subject.job(&job).await, job);
    assert_eq!(subject.kinds(&job).await, ["job.queued"]);
}

/// A job that may not start yet is not told when a worker would be free.
pub async fn what_is_expected_is_said_until_the_job_starts_and_keeps_nothing_from_starting(
    subject: &Subject,
) {
    let tenant = new_tenant();
    let at = subject.now().await + Duration::from_secs(600);
    let expecting = |spec| {
        let expected = Expected { position: Some(3), start_at: Some(at) };
        Accept { expected, ..request(spec) }
    };
    let arrived = async || subject.jobs.depth(Duration::ZERO).await.expect("depth")[0].totals.arrived;
    let before = arrived().await;
    let first = chat(&tenant, "q");
    let mut behind = chat(&tenant, "after that");
    behind.conversation_id = first.conversation_id;
    let mut later = chat(&tenant, "not before");
    later.not_before = Some(at + Duration::from_secs(60));
    let mut jobs = Vec::new();
    for spec in [first, behind, later] {
        let accepted = subject.jobs.accept(expecting(spec)).await.expect("accept");
        let Accepted::Created(job) = accepted else { panic!("{accepted:?}") };
        assert_eq!(subject.job(&job).await.wait, job.wait);
        let queued = subject.log(&job).await[0].body();
        jobs.push((*job, queued));
    }
    let said = |place: usize| {
        let (job, queued) = &jobs[place];
        let Some(EventBody::JobQueued { position, expected_start_at }) = queued else { panic!("{queued:?}") };
        (*position, *expected_start_at, job.wait.as_ref().map(|wait| (wait.reason, wait.expected_start_at)))
    };
    assert_eq!(said(0), (Some(3), Some(at), Some((WaitReason::Worker, Some(at)))));
    assert_eq!(said(1), (None, None, Some((WaitReason::Conversation, None))));
    let starts = jobs[2].0.spec.not_before;
    assert_eq!(said(2), (None, starts, Some((WaitReason::Scheduled, starts))));
    let run = subject.claim(&jobs[0].0, WorkerId::new()).await;
    assert_eq!((run.job.wait.as_ref(), arrived().await - before), (None, 1));
    subject.finish(&run, completed("a")).await;
    assert_eq!(subject.job(&jobs[1].0).await.wait, None, "it waits for a worker, and nobody said when");
}

pub async fn the_same_key_and_body_answer_the_same_job(subject: &Subject) {
    let tenant = new_tenant();
    let first = subject.jobs.accept(keyed(chat(&tenant, "q"), "k", 1)).await.expect("accept");
    let Accepted::Created(first) = first else { panic!("{first:?}") };
    let again = subject.jobs.accept(keyed(chat(&tenant, "q"), "k", 1)).await.expect("accept");
    let Accepted::Existing(again) = again else { panic!("{again:?}") };
    assert_eq!(again.spec.id, first.spec.id);

    // As long as the job is kept, in whatever state it is.
    let run = subject.claim(&first, WorkerId::new()).await;
    subject.finish(&run, completed("a")).await;
    let late = subject.jobs.accept(keyed(chat(&tenant, "q"), "k", 1)).await.expect("accept");
    let Accepted::Existing(late) = late else { panic!("{late:?}") };
    assert_eq!((late.spec.id, late.status), (first.spec.id, Status::Completed));
}

pub async fn one_key_used_at_once_by_many_makes_one_job(subject: &Subject) {
    let tenant = new_tenant();
    let all = (0..20).map(|_| subject.jobs.accept(keyed(chat(&tenant, "q"), "k", 1)));
    let answers = futures::future::join_all(all).await;
    let mut ids = HashSet::new();
    let mut created = 0;
    for answer in answers {
        match answer.expect("accept") {
            Accepted::Created(job) => {
                created += 1;
                ids.insert(job.spec.id);
            }
            Accepted::Existing(job) => {
                ids.insert(job.spec.id);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!((created, ids.len()), (1, 1));
}

pub async fn a_key_with_another_body_is_refused(subject: &Subject) {
    let tenant = new_tenant();
    subject.jobs.accept(keyed(chat(&tenant, "q"), "k", 1)).await.expect("accept");
    let other = chat(&tenant, "another question");
    let id = other.id;
    let answer = subject.jobs.accept(keyed(other, "k", 2)).await.expect("accept");
    assert_eq!(answer, Accepted::KeyReused);
    let lookup = subject.reader.get(&tenant, id).await.expect("get");
    assert_eq!(lookup, Lookup::Unknown, "a refused job leaves nothing behind");
}

pub async fn keys_of_two_tenants_do_not_meet(subject: &Subject) {
    for tenant in [new_tenant(), new_tenant()] {
        let answer = subject.jobs.accept(keyed(chat(&tenant, "q"), "k", 1)).await.expect("accept");
        assert!(matches!(answer, Accepted::Created(_)), "{answer:?}");
    }
}

pub async fn an_unknown_conversation_is_refused_when_it_must_be_known(subject: &Subject) {
    let tenant = new_tenant();
    let spec = chat(&tenant, "q");
    let known = ConversationId::new();
    subject.conversations.create(&tenant, known).await.expect("create");
    let must_know = |spec| Accept { known_conversation: true, ..request(spec) };
    assert_eq!(subject.jobs.accept(must_know(spec.clone())).await.expect("accept"), Accepted::NoConversation);
    let mut there = spec.clone();
    there.conversation_id = Some(known);
    let answer = subject.jobs.accept(must_know(there.clone())).await.expect("accept");
    assert!(matches!(answer, Accepted::Created(_)), "{answer:?}");
    // Another tenant's conversation is as unknown as none.
    there.id = JobId::new();
    there.tenant = new_tenant();
    assert_eq!(subject.jobs.accept(must_know(there)).await.expect("accept"), Accepted::NoConversation);
}

pub async fn a_busy_conversation_rejects_when_asked_to(subject: &Subject) {
    let tenant = new_tenant();
    let open = subject.accept(chat(&tenant, "first")).await;
    let next = || {
        let mut spec = chat(&tenant, "second");
        spec.conversation_id = open.spec.conversation_id;
        Accept { on_busy: OnBusy::Reject, ..request(spec) }
    };
    let answer = subject.jobs.accept(next()).await.expect("accept");
    assert_eq!(answer, Accepted::ConversationBusy(open.spec.id));
    let run = subject.claim(&open, WorkerId::new()).await;
    let answer = subject.jobs.accept(next()).await.expect("accept");
    assert_eq!(answer, Accepted::ConversationBusy(open.spec.id), "a running job keeps it busy too");
    subject.finish(&run, completed("a")).await;
    let answer = subject.jobs.accept(next()).await.expect("accept");
    assert!(matches!(answer, Accepted::Created(_)), "{answer:?}");
}

pub async fn an_interrupt_ends_what_runs_and_waits(subject: &Subject) {
    let tenant = new_tenant();
    let turns = subject.accept_turns(&tenant, 3).await;
    let run = subject.claim(&turns[0], WorkerId::new()).await;
    let mut spec = chat(&tenant, "something else");
    spec.conversation_id = turns[0].spec.conversation_id;
    let answer =
        subject.jobs.accept(Accept { on_busy: OnBusy::Interrupt, ..request(spec) }).await.expect("accept");
    let Accepted::Created(new) = answer else { panic!("{answer:?}") };
    for turn in &turns {
        assert_eq!(subject.job(turn).await.status, Status::Cancelled);
        assert_eq!(subject.kinds(turn).await.last().map(String::as_str), Some("job.cancelled"));
    }
    assert_eq!(subject.append(&run.lease, run.job.last_seq + 1, &["late"]).await, Appended::Fenced);
    assert_eq!(subject.jobs.renew(&run.lease).await.expect("renew"), Renewed::Fenced);
    subject.claim(&new, WorkerId::new()).await;
}

pub async fn versions_and_stamps_rise_together(subject: &Subject) {
    let tenant = new_tenant();
    let mut last = 0;
    for round in 0..6 {
        let version = if round % 2 == 0 {
            subject.accept(chat(&tenant, "q")).await.version
        } else {
            subject.jobs.stamp().await.expect("stamp")
        };
        assert!(version > last, "{version} after {last}");
        last = version;
    }
}

fn keyed(spec: crate::model::JobSpec, key: &str, digest: u8) -> Accept {
    Accept { idempotency: Some((key.to_owned(), [digest; 32])), ..request(spec) }
}
