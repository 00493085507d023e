//! Logs: dense, idempotent to extend, and heard without a gap.

use std::sync::Arc;

use crate::follow::Follower;
use crate::model::{Event, Job, WorkerId};
use crate::ports::{Appended, Lookup, Run, Signal};

use super::{PATIENCE, Subject, chat, completed, delta, new_tenant};

pub async fn an_append_extends_the_log(subject: &Subject) {
    let (job, run) = running(subject).await;
    assert_eq!(subject.append(&run.lease, 3, &["one", "二"]).await, Appended::Ok);
    assert_eq!(subject.append(&run.lease, 5, &["three"]).await, Appended::Ok);
    let log = subject.log(&job).await;
    let texts: Vec<_> = log[2..].iter().map(|event| event.body()).collect();
    assert_eq!(texts, [Some(delta("one")), Some(delta("二")), Some(delta("three"))]);
    assert!(log[2..].iter().all(|event| event.attempt == 1));
    assert_eq!(subject.job(&job).await.last_seq, 5);
}

pub async fn a_repeated_append_is_a_duplicate(subject: &Subject) {
    let (job, run) = running(subject).await;
    assert_eq!(subject.append(&run.lease, 3, &["one", "two"]).await, Appended::Ok);
    assert_eq!(subject.append(&run.lease, 3, &["one", "two"]).await, Appended::Duplicate);
    assert_eq!(subject.append(&run.lease, 5, &["three"]).await, Appended::Ok);
    assert_eq!(subject.append(&run.lease, 3, &["one", "two"]).await, Appended::Duplicate);
    assert_eq!(subject.log(&job).await.len(), 5);
}

pub async fn an_append_past_the_end_is_told_where_the_log_ends(subject: &Subject) {
    let (job, run) = running(subject).await;
    assert_eq!(subject.append(&run.lease, 9, &["from nowhere"]).await, Appended::Behind(2));
    assert_eq!(subject.log(&job).await.len(), 2, "no hole is made");
    assert_eq!(subject.append(&run.lease, 3, &["one"]).await, Appended::Ok);
    // Half of it is there: send again from where the log ends.
    assert_eq!(subject.append(&run.lease, 3, &["one", "two"]).await, Appended::Behind(3));
    assert_eq!(subject.append(&run.lease, 4, &["two"]).await, Appended::Ok);
    assert_eq!(subject.log(&job).await.len(), 4);
}

pub async fn a_log_is_read_in_pages(subject: &Subject) {
    let (job, run) = running(subject).await;
    assert_eq!(subject.append(&run.lease, 3, &["a", "b", "c", "d"]).await, Appended::Ok);
    subject.finish(&run, completed("abcd")).await;
    let whole = subject.log(&job).await;
    let mut pages = Vec::new();
    loop {
        let after = pages.len() as u64;
        let page = subject.reader.log(&job.spec.tenant, job.spec.id, after, 3).await.expect("log");
        let Lookup::Found(page) = page else { panic!("{page:?}") };
        assert!(page.events.len() <= 3);
        assert_eq!((page.last_seq, page.sealed), (7, true), "of the whole log, not of the page");
        if page.events.is_empty() {
            break;
        }
        pages.extend(page.events);
    }
    assert_eq!(pages, whole);
}

pub async fn a_subscriber_hears_all_that_is_written_after(subject: &Subject) {
    let job = subject.accept(chat(&new_tenant(), "q")).await;
    let mut news = subject.reader.subscribe(&job.spec.tenant, job.spec.id, 0).await.expect("subscribe");
    let run = subject.claim(&job, WorkerId::new()).await;
    assert_eq!(subject.append(&run.lease, 3, &["a", "b"]).await, Appended::Ok);
    subject.finish(&run, completed("ab")).await;
    let mut heard = Vec::new();
    while !heard.last().is_some_and(|event: &Arc<Event>| event.is_terminal()) {
        match tokio::time::timeout(PATIENCE, news.next()).await.expect("news come") {
            Signal::Event(event) => heard.push(event),
            Signal::Lagged | Signal::Closed => panic!("five events are not too many to keep"),
        }
    }
    assert_eq!(heard, subject.log(&job).await[1..]);
}

pub async fn followers_miss_nothing_while_the_log_grows(subject: &Subject) {
    let (job, run) = running(subject).await;
    let write = async {
        let mut next = run.job.last_seq + 1;
        for batch in 0..120_usize {
            let texts = vec!["词"; batch % 7 + 1];
            assert_eq!(subject.append(&run.lease, next, &texts).await, Appended::Ok);
            next += texts.len() as u64;
        }
        subject.finish(&run, completed("")).await;
    };
    let read = futures::future::join_all((0..8).map(|_| follow(subject, &job, 0)));
    let ((), logs) = futures::future::join(write, read).await;
    let whole = subject.log(&job).await;
    assert!(whole.len() > 400);
    for log in logs {
        assert_eq!(log, whole);
    }
}

pub async fn a_follower_resumes_after_any_event(subject: &Subject) {
    let (job, run) = running(subject).await;
    assert_eq!(subject.append(&run.lease, 3, &["a", "乙", "c"]).await, Appended::Ok);
    subject.finish(&run, completed("a乙c")).await;
    let whole = subject.log(&job).await;
    for after in 0..=whole.len() {
        assert_eq!(follow(subject, &job, after as u64).await, whole[after..]);
    }
}

async fn follow(subject: &Subject, job: &Job, after: u64) -> Vec<Arc<Event>> {
    let mut follower = Follower::new(subject.reader.clone(), job.spec.tenant.clone(), job.spec.id, after);
    let mut events = Vec::new();
    while let Some(event) =
        tokio::time::timeout(PATIENCE, follower.next()).await.expect("the log ends").expect("it is readable")
    {
        events.push(event);
    }
    events
}

async fn running(subject: &Subject) -> (Job, Run) {
    let job = subject.accept(chat(&new_tenant(), "q")).await;
    let run = subject.claim(&job, WorkerId::new()).await;
    (job, run)
}
