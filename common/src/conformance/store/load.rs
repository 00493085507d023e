//! How much work there is, and how much there ever was.

use std::time::Duration;

use crate::model::{JobSpec, Lane, Status, TenantId, Terminal, WaitReason, WorkerId};
use crate::ports::{Claim, Claimed, LaneDepth, Lease, Totals};

use super::{CAPPED, Subject, chat, completed, new_tenant};

const SOON: Duration = Duration::from_secs(1);

pub async fn depth_agrees_with_the_truth(subject: &Subject) {
    let before = depth(subject).await;
    let tenant = new_tenant();
    let turns = subject.accept_turns(&tenant, 2).await;
    let other = subject.accept(chat(&tenant, "q")).await;
    assert_eq!(grown(subject, before).await, (2, 1, 0));
    let run = subject.claim(&turns[0], WorkerId::new()).await;
    assert_eq!(grown(subject, before).await, (1, 1, 1));
    subject.finish(&run, completed("a")).await;
    assert_eq!(grown(subject, before).await, (2, 0, 0));
    let run = subject.claim(&other, WorkerId::new()).await;
    let later = subject.now().await + Duration::from_secs(30);
    subject.jobs.release(&run.lease, Some(later), WaitReason::Quota).await.expect("release");
    assert_eq!(grown(subject, before).await, (1, 1, 0));
    for job in [&turns[1], &other] {
        subject.jobs.cancel(&tenant, job.spec.id).await.expect("cancel");
    }
    assert_eq!(grown(subject, before).await, (0, 0, 0));
}

pub async fn what_comes_due_soon_is_told_apart(subject: &Subject) {
    let tenant = new_tenant();
    let before = depth(subject).await;
    let now = subject.now().await;
    for (wait, soon) in [(Duration::from_secs(40), 0), (Duration::from_secs(20), 1)] {
        let mut spec = chat(&tenant, "q");
        spec.not_before = Some(now + wait);
        subject.accept(spec).await;
        let within = subject.jobs.depth(Duration::from_secs(30)).await.expect("depth")[0];
        assert_eq!(within.due_soon - before.due_soon, soon);
    }
    // Behind another job of its conversation it starts when that ends, whenever that is.
    subject.accept_turns(&tenant, 2).await;
    assert_eq!(grown(subject, before).await, (1, 3, 0));
    assert_eq!(depth(subject).await.due_soon, before.due_soon);
}

pub async fn what_arrives_is_counted_once_whatever_becomes_of_it(subject: &Subject) {
    let tenant = new_tenant();
    let before = depth(subject).await.totals;
    let turns = subject.accept_turns(&tenant, 2).await;
    assert_eq!(more(subject, before).await.arrived, 1, "the second waits for its turn");
    let mut spec = chat(&tenant, "later");
    spec.not_before = Some(subject.now().await + SOON);
    let later = subject.accept(spec).await;
    assert_eq!(more(subject, before).await.arrived, 1);
    let run = subject.claim(&turns[0], WorkerId::new()).await;
    subject.jobs.release(&run.lease, None, WaitReason::Quota).await.expect("release");
    let run = subject.claim(&turns[0], WorkerId::new()).await;
    assert_eq!(more(subject, before).await.arrived, 1, "coming back is no arrival");
    subject.finish(&run, completed("a")).await;
    assert_eq!(more(subject, before).await.arrived, 2, "its turn has come");
    subject.wait(SOON).await;
    subject.claim(&later, WorkerId::new()).await;
    subject.claim(&turns[1], WorkerId::new()).await;
    assert_eq!(more(subject, before).await.arrived, 3);
}

pub async fn answers_are_counted_with_the_time_in_their_slots(subject: &Subject) {
    let tenant = new_tenant();
    let before = depth(subject).await.totals;
    let job = subject.accept(chat(&tenant, "q")).await;
    subject.wait(SOON).await;
    let run = subject.claim(&job, WorkerId::new()).await;
    subject.wait(SOON).await;
    subject.jobs.release(&run.lease, None, WaitReason::Retry).await.expect("release");
    assert_eq!(more(subject, before).await, Totals { arrived: 1, ..Totals::default() }, "no progress");
    let run = subject.claim(&job, WorkerId::new()).await;
    subject.wait(2 * SOON).await;
    subject.finish(&run, completed("a")).await;
    let answered = more(subject, before).await;
    assert_eq!((answered.ended, answered.calls), (1, 0));
    // Real clocks go on between the steps.
    assert!((2 * SOON..3 * SOON).contains(&answered.busy), "{answered:?}");
    for status in [Status::Failed, Status::Cancelled] {
        let job = subject.accept(chat(&tenant, "q")).await;
        let run = subject.claim(&job, WorkerId::new()).await;
        subject.finish(&run, Terminal::bare(status)).await;
    }
    let after = more(subject, before).await;
    assert_eq!((after.arrived, after.ended, after.busy), (3, 1, answered.busy), "no answers");
}

/// Whoever divides what waits by what is answered must not take waste for progress.
pub async fn what_expires_in_line_or_in_its_slot_is_no_answer(subject: &Subject) {
    let tenant = new_tenant();
    let before = depth(subject).await.totals;
    let short = |mut spec: JobSpec| {
        spec.deadline = SOON;
        spec
    };
    let waits = subject.accept(short(chat(&tenant, "waits"))).await;
    let runs = subject.accept(short(chat(&tenant, "runs"))).await;
    subject.claim(&runs, WorkerId::new()).await;
    subject.wait_and_sweep(2 * SOON).await;
    for job in [&waits, &runs] {
        assert_eq!(subject.job(job).await.status, Status::Expired);
    }
    assert_eq!(more(subject, before).await, Totals { arrived: 2, expired: 2, ..Totals::default() });
}

pub async fn what_nobody_got_an_answer_from_is_counted(subject: &Subject) {
    let tenant = new_tenant();
    let before = depth(subject).await.totals;
    let job = subject.accept(chat(&tenant, "q")).await;
    let run = subject.claim(&job, WorkerId::new()).await;
    subject.finish(&run, Terminal::bare(Status::Failed)).await;
    let late = subject.accept(JobSpec { deadline: SOON, ..chat(&tenant, "q") }).await;
    let cancelled = subject.accept(chat(&tenant, "q")).await;
    subject.jobs.cancel(&tenant, cancelled.spec.id).await.expect("cancel");
    subject.wait_and_sweep(2 * SOON).await;
    assert_eq!(subject.job(&late).await.status, Status::Expired);
    let after = more(subject, before).await;
    assert_eq!((after.ended, after.failed, after.expired), (0, 1, 1));
}

pub async fn operators_see_what_each_tenant_has(subject: &Subject) {
    let (capped, other): (TenantId, TenantId) = (CAPPED.parse().expect("a name"), new_tenant());
    let owner = WorkerId::new();
    let mut runs = Vec::new();
    for place in 0..3 {
        let job = subject.accept(chat(&capped, "q")).await;
        if place < 2 {
            runs.push(subject.claim(&job, owner).await);
        }
    }
    assert_eq!(load(subject, &capped).await, Some((1, 2, true)));
    assert_eq!(load(subject, &other).await, None, "it has nothing");
    let batch = subject.accept(JobSpec { lane: Lane::Batch, ..chat(&other, "q") }).await;
    subject.accept(chat(&other, "q")).await;
    assert_eq!(load(subject, &other).await, Some((2, 0, false)), "both lanes count");
    subject.claim(&batch, owner).await;
    assert_eq!(load(subject, &other).await, Some((1, 1, false)));
    for run in &runs {
        subject.finish(run, completed("a")).await;
    }
    assert_eq!(load(subject, &capped).await, Some((1, 0, false)));
}

/// From when it could be had: not while its tenant is at its cap, and anew whenever a job of it begins.
pub async fn a_tenant_is_unserved_while_its_due_job_waits_and_none_begins(subject: &Subject) {
    let (capped, tenant): (TenantId, TenantId) = (CAPPED.parse().expect("a name"), new_tenant());
    let owner = WorkerId::new();
    for _ in 0..2 {
        let job = subject.accept(chat(&capped, "q")).await;
        subject.claim(&job, owner).await;
    }
    let waits = subject.accept(chat(&capped, "q")).await;
    assert!(matches!(subject.try_claim(&waits, owner).await, Claimed::Waiting));
    let first = subject.accept(chat(&tenant, "q")).await;
    subject.accept(chat(&tenant, "q")).await;
    subject.wait(Lease::HINT_GRACE + SOON).await;
    // Whoever looks sees that its time has come.
    subject.jobs.claim_due(Lane::Batch, Claim::new(owner)).await.expect("claim_due");
    let unserved = async |of: &TenantId| {
        let loads = subject.jobs.tenants().await.expect("tenants");
        loads.into_iter().find(|load| load.tenant == *of).map_or(0, |load| load.unserved_ms)
    };
    assert!(unserved(&tenant).await >= 6000, "{}", unserved(&tenant).await);
    assert_eq!(unserved(&capped).await, 0, "it has what it may have");
    subject.claim(&first, owner).await;
    subject.wait(SOON).await;
    assert!((1000..5000).contains(&unserved(&tenant).await), "{}", unserved(&tenant).await);
}

async fn load(subject: &Subject, of: &TenantId) -> Option<(u64, u64, bool)> {
    let loads = subject.jobs.tenants().await.expect("tenants");
    let mut own = loads.into_iter().filter(|load| load.tenant == *of);
    let load = own.next()?;
    assert!(own.next().is_none(), "a tenant is told of once");
    Some((load.waiting, load.running, load.at_cap))
}

async fn depth(subject: &Subject) -> LaneDepth {
    let lanes = subject.jobs.depth(SOON).await.expect("depth");
    lanes.into_iter().find(|lane| lane.lane == Lane::Interactive).expect("every lane is told of")
}

/// Ready, waiting and running jobs more than before.
async fn grown(subject: &Subject, before: LaneDepth) -> (i64, i64, i64) {
    let now = depth(subject).await;
    let more = |now: u64, before: u64| now as i64 - before as i64;
    (more(now.ready, before.ready), more(now.waiting, before.waiting), more(now.running, before.running))
}

async fn more(subject: &Subject, before: Totals) -> Totals {
    let now = depth(subject).await.totals;
    Totals {
        arrived: now.arrived - before.arrived,
        ended: now.ended - before.ended,
        busy: now.busy - before.busy,
        calls: now.calls - before.calls,
        failed: now.failed - before.failed,
        expired: now.expired - before.expired,
    }
}
