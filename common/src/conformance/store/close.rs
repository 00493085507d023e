//! Ends: exactly one, whole, and never changed.

use std::sync::Arc;

use crate::model::{
    Citation, CollectionName, DocumentId, EventBody, Output, PassageId, Span, Status, Terminal, Usage,
    WorkerId, fold_output,
};
use crate::ports::{Appended, By, Closed};

use super::{Subject, chat, completed, delta, new_tenant};

pub async fn the_terminal_event_is_the_last_one(subject: &Subject) {
    let tenant = new_tenant();
    let ends = [
        (completed("an answer 答案"), "job.completed"),
        (Terminal { reason: Some("max_output_tokens".into()), ..incomplete("cut") }, "job.incomplete"),
        (Terminal::bare(Status::Failed), "job.failed"),
        (Terminal::bare(Status::Cancelled), "job.cancelled"),
        (Terminal::bare(Status::Expired), "job.expired"),
    ];
    for (end, kind) in ends {
        let job = subject.accept(chat(&tenant, "q")).await;
        let run = subject.claim(&job, WorkerId::new()).await;
        assert_eq!(subject.finish(&run, end.clone()).await, Closed::Ok);
        let closed = subject.job(&job).await;
        assert_eq!((closed.status, &closed.output, closed.usage), (end.status, &end.output, end.usage));
        assert!(closed.finished_at >= closed.started_at && closed.finished_at.is_some());
        assert_eq!(subject.kinds(&job).await.last().map(String::as_str), Some(kind));
        assert_eq!(closed.last_seq, subject.log(&job).await.len() as u64);
        assert_eq!(subject.append(&run.lease, closed.last_seq + 1, &["after"]).await, Appended::Fenced);
    }
}

pub async fn the_tail_is_written_with_the_end(subject: &Subject) {
    let job = subject.accept(chat(&new_tenant(), "q")).await;
    let run = subject.claim(&job, WorkerId::new()).await;
    assert_eq!(subject.append(&run.lease, 3, &["磨坊"]).await, Appended::Ok);
    let by = By::Owner { epoch: run.lease.epoch, first_seq: 4, tail: vec![delta(" mill"), delta("!")] };
    let closed = subject.jobs.close(&job.spec.tenant, job.spec.id, by, completed("磨坊 mill!")).await;
    assert_eq!(closed.expect("close"), Closed::Ok);
    let log = subject.log(&job).await;
    assert_eq!(log.len(), 6);
    assert_eq!(fold_output(log.iter().map(Arc::as_ref)).text, "磨坊 mill!");
}

pub async fn a_terminal_state_never_changes(subject: &Subject) {
    let job = subject.accept(chat(&new_tenant(), "q")).await;
    let run = subject.claim(&job, WorkerId::new()).await;
    subject.finish(&run, completed("first")).await;
    let before = (subject.job(&job).await, subject.log(&job).await);
    for end in [completed("second"), Terminal::bare(Status::Failed), Terminal::bare(Status::Expired)] {
        let closed = subject.jobs.close(&job.spec.tenant, job.spec.id, By::Anyone, end.clone()).await;
        assert_eq!(closed.expect("close"), Closed::Already(Status::Completed));
        let by_owner = subject.finish(&run, end).await;
        assert_ne!(by_owner, Closed::Fenced, "its own epoch ended it");
    }
    subject.jobs.cancel(&job.spec.tenant, job.spec.id).await.expect("cancel");
    subject.wait_and_sweep(job.spec.deadline * 2).await;
    assert_eq!((subject.job(&job).await, subject.log(&job).await), before);
}

pub async fn of_many_ends_at_once_one_counts(subject: &Subject) {
    let job = subject.accept(chat(&new_tenant(), "q")).await;
    let run = subject.claim(&job, WorkerId::new()).await;
    let owner = By::Owner { epoch: run.lease.epoch, first_seq: 3, tail: vec![delta("x")] };
    let ends = [
        (owner, completed("x")),
        (By::Anyone, Terminal::bare(Status::Expired)),
        (By::Anyone, Terminal::bare(Status::Cancelled)),
        (By::Anyone, Terminal::bare(Status::Failed)),
    ];
    let all = ends.into_iter().map(|(by, end)| async {
        let status = end.status;
        let closed = subject.jobs.close(&job.spec.tenant, job.spec.id, by, end).await.expect("close");
        (closed, status)
    });
    let answers = futures::future::join_all(all).await;
    let winners: Vec<_> = answers.iter().filter(|(closed, _)| *closed == Closed::Ok).collect();
    assert_eq!(winners.len(), 1, "{answers:?}");
    assert_eq!(subject.job(&job).await.status, winners[0].1);
    subject.log(&job).await;
}

pub async fn a_kept_job_protects_what_it_cites(subject: &Subject) {
    let document_id = DocumentId::new();
    let citation = Citation {
        answer_span: Span::new(0, 1),
        collection: CollectionName::sample(),
        document_id,
        document: "手册.md".to_owned(),
        passage_id: PassageId { document: document_id, ordinal: 0 },
        title: "手册".to_owned(),
        span: Span::new(4, 5),
        quote: "a".to_owned(),
    };
    let job = subject.accept(chat(&new_tenant(), "q")).await;
    let run = subject.claim(&job, WorkerId::new()).await;
    assert!(!subject.reader.is_cited(document_id).await.expect("is_cited"));
    let events = vec![delta("a"), EventBody::CitationAdded(citation.clone())];
    assert_eq!(subject.jobs.append(&run.lease, 3, events).await.expect("append"), Appended::Ok);
    let output = Output::answer("a", true, vec![citation]);
    subject.finish(&run, Terminal { output: Some(output), ..completed("a") }).await;
    assert!(subject.reader.is_cited(document_id).await.expect("is_cited"));
    assert!(subject.jobs.delete(&job.spec.tenant, job.spec.id).await.expect("delete"));
    assert!(!subject.reader.is_cited(document_id).await.expect("is_cited"));
}

fn incomplete(text: &str) -> Terminal {
    Terminal {
        status: Status::Incomplete,
        usage: Some(Usage { input_tokens: 1, output_tokens: 1, nano_usd: 0 }),
        ..completed(text)
    }
}
