//! Reading: what a tenant sees, and what operators see.

use crate::model::{JobId, Status, WorkerId};
use crate::ports::{Cancelled, Claim, Claimed, JobFilter, Lookup, StoreError, WorkerInfo};

use super::{Subject, chat, completed, new_tenant};

pub async fn one_tenant_never_sees_another_s(subject: &Subject) {
    let (tenant, stranger) = (new_tenant(), new_tenant());
    let job = subject.accept(chat(&tenant, "a secret")).await;
    let id = job.spec.id;
    let conversation = job.spec.conversation_id.expect("chat");
    let run = subject.claim(&job, WorkerId::new()).await;
    subject.finish(&run, completed("a")).await;

    assert_eq!(subject.reader.get(&stranger, id).await.expect("get"), Lookup::Unknown);
    assert!(matches!(subject.reader.log(&stranger, id, 0, 10).await.expect("log"), Lookup::Unknown));
    assert!(subject.reader.list(&stranger, &newest(10)).await.expect("list").data.is_empty());
    assert_eq!(subject.jobs.cancel(&stranger, id).await.expect("cancel"), Cancelled::Unknown);
    assert!(!subject.jobs.delete(&stranger, id).await.expect("delete"));
    let claimed = subject.jobs.claim(&stranger, id, Claim::new(WorkerId::new())).await.expect("claim");
    assert!(matches!(claimed, Claimed::Done));
    let found = subject.conversations.get(&stranger, conversation).await.expect("get");
    assert_eq!(found, Lookup::Unknown);
    assert!(!subject.conversations.delete(&stranger, conversation).await.expect("delete"));
    let messages = subject.conversations.messages(&stranger, conversation, 10, None).await.expect("messages");
    assert_eq!(messages, Lookup::Unknown);
    assert_eq!(subject.conversations.history(&stranger, conversation, 10).await.expect("history"), []);
    assert_eq!(subject.job(&job).await.status, Status::Completed, "nothing of it was touched");
}

pub async fn jobs_are_listed_newest_first_and_filtered(subject: &Subject) {
    let tenant = new_tenant();
    let mut jobs = Vec::new();
    for _ in 0..5 {
        jobs.push(subject.accept(chat(&tenant, "q")).await);
    }
    let run = subject.claim(&jobs[1], WorkerId::new()).await;
    subject.finish(&run, completed("a")).await;
    subject.claim(&jobs[2], WorkerId::new()).await;
    jobs.reverse();
    let ids: Vec<_> = jobs.iter().map(|job| job.spec.id).collect();

    let page = subject.reader.list(&tenant, &newest(3)).await.expect("list");
    assert_eq!(page.data.iter().map(|job| job.spec.id).collect::<Vec<_>>(), ids[..3]);
    assert!(page.next.is_some());
    let rest = JobFilter { before: Some(ids[2]), ..newest(3) };
    let page = subject.reader.list(&tenant, &rest).await.expect("list");
    assert_eq!(page.data.iter().map(|job| job.spec.id).collect::<Vec<_>>(), ids[3..]);
    assert_eq!(page.next, None);

    let of = async |filter: JobFilter| -> Vec<JobId> {
        let page = subject.reader.list(&tenant, &filter).await.expect("list");
        page.data.iter().map(|job| job.spec.id).collect()
    };
    let with = |status| JobFilter { status: Some(status), ..newest(10) };
    assert_eq!(of(with(Status::Completed)).await, [ids[3]]);
    assert_eq!(of(with(Status::InProgress)).await, [ids[2]]);
    assert_eq!(of(with(Status::Queued)).await, [ids[0], ids[1], ids[4]]);
    let conversation = jobs[0].spec.conversation_id;
    assert_eq!(of(JobFilter { conversation, ..newest(10) }).await, [ids[0]]);
}

pub async fn a_deleted_job_is_gone_and_an_open_one_is_not_deleted(subject: &Subject) {
    let tenant = new_tenant();
    let job = subject.accept(chat(&tenant, "q")).await;
    let id = job.spec.id;
    assert!(matches!(subject.jobs.delete(&tenant, id).await, Err(StoreError::Open)));
    let run = subject.claim(&job, WorkerId::new()).await;
    assert!(matches!(subject.jobs.delete(&tenant, id).await, Err(StoreError::Open)));
    subject.finish(&run, completed("a")).await;
    assert!(subject.jobs.delete(&tenant, id).await.expect("delete"));
    assert_eq!(subject.reader.get(&tenant, id).await.expect("get"), Lookup::Gone);
    assert!(matches!(subject.reader.log(&tenant, id, 0, 10).await.expect("log"), Lookup::Gone));
    assert!(subject.reader.list(&tenant, &newest(10)).await.expect("list").data.is_empty());
    assert!(!subject.jobs.delete(&tenant, JobId::new()).await.expect("delete"));
    assert_eq!(subject.reader.get(&tenant, JobId::new()).await.expect("get"), Lookup::Unknown);
}

pub async fn workers_that_live_are_listed(subject: &Subject) {
    let info = WorkerInfo {
        id: WorkerId::new(),
        slots: 8,
        running: 3,
        draining: true,
        own_index: true,
        host: "mill-7".to_owned(),
    };
    subject.jobs.present(&info).await.expect("present");
    let workers = subject.jobs.workers().await.expect("workers");
    assert!(workers.contains(&info), "{workers:?}");
}

fn newest(limit: usize) -> JobFilter {
    JobFilter { limit, ..JobFilter::default() }
}
