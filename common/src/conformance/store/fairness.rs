//! The due index: whose job is next.

use std::time::Duration;

use crate::model::{Lane, Status, TenantId, Terminal, WaitReason, WorkerId};
use crate::ports::{By, Claim, Claimed, Lease, Run};

use super::{CAPPED, HEAVY, PATIENCE, Subject, chat, completed, new_tenant};

pub async fn the_least_served_tenant_is_next(subject: &Subject) {
    let (noisy, quiet) = (new_tenant(), new_tenant());
    for _ in 0..6 {
        subject.accept(chat(&noisy, "q")).await;
    }
    for _ in 0..2 {
        subject.accept(chat(&quiet, "q")).await;
    }
    let order = served(subject, &[&noisy, &quiet], 8).await;
    let last_quiet = order.iter().rposition(|tenant| *tenant == quiet).expect("it is served");
    assert!(last_quiet < 4, "a backlog of six delays two jobs by two at most: {order:?}");
}

pub async fn one_tenant_s_jobs_run_oldest_first(subject: &Subject) {
    let tenant = new_tenant();
    let mut accepted = Vec::new();
    for _ in 0..5 {
        accepted.push(subject.accept(chat(&tenant, "q")).await.spec.id);
    }
    subject.wait(Lease::HINT_GRACE + Duration::from_millis(100)).await;
    let mut claimed = Vec::new();
    while claimed.len() < accepted.len() {
        let run = subject.jobs.claim_due(Lane::Interactive, Claim::new(WorkerId::new())).await;
        let run = run.expect("claim_due").expect("all are due");
        if run.job.spec.tenant == tenant {
            claimed.push(run.job.spec.id);
        }
    }
    assert_eq!(claimed, accepted);
}

pub async fn a_line_is_what_could_start(subject: &Subject) {
    let tenant = new_tenant();
    let waiting = async || {
        let lines = subject.jobs.lines().await.expect("lines");
        let own = lines.into_iter().find(|line| line.tenant == tenant && line.lane == Lane::Interactive);
        own.map_or(0, |line| line.waiting)
    };
    let turns = subject.accept_turns(&tenant, 2).await;
    assert_eq!(waiting().await, 1, "the second waits for the first");
    let mut later = chat(&tenant, "q");
    later.not_before = Some(subject.now().await + Duration::from_secs(60));
    let later = subject.accept(later).await;
    assert_eq!(waiting().await, 1, "one waits for its time");
    subject.jobs.hinted(&[(tenant.clone(), turns[0].spec.id)]).await.expect("hinted");
    assert_eq!(waiting().await, 1, "a hint is no worker");
    let run = subject.claim(&turns[0], WorkerId::new()).await;
    assert_eq!(waiting().await, 0);
    subject.jobs.challenge(&tenant, turns[0].spec.id).await.expect("challenge");
    assert_eq!(waiting().await, 0, "it has an owner");
    subject.jobs.renew(&run.lease).await.expect("renew");
    subject.jobs.release(&run.lease, None, WaitReason::Drain).await.expect("release");
    assert_eq!(waiting().await, 1);
    let run = subject.claim(&turns[0], WorkerId::new()).await;
    subject.finish(&run, completed("a")).await;
    assert_eq!(waiting().await, 1, "the second has its turn");
    subject.jobs.cancel(&tenant, turns[1].spec.id).await.expect("cancel");
    assert_eq!(waiting().await, 0);
    subject.wait(Duration::from_secs(61)).await;
    assert!(next(subject, Lane::Batch).await.is_none(), "whoever looks sees that its time has come");
    assert_eq!(waiting().await, 1);
    subject.jobs.cancel(&tenant, later.spec.id).await.expect("cancel");
    assert_eq!(waiting().await, 0);
}

/// A tenant with a queue does not have every slot that falls free.
pub async fn one_slot_is_shared_too(subject: &Subject) {
    let (noisy, quiet) = (new_tenant(), new_tenant());
    for _ in 0..6 {
        subject.accept(chat(&noisy, "q")).await;
    }
    subject.wait(Duration::from_millis(50)).await;
    for _ in 0..2 {
        subject.accept(chat(&quiet, "q")).await;
    }
    subject.wait(Lease::HINT_GRACE + Duration::from_millis(100)).await;
    let mut order = Vec::new();
    for _ in 0..8 {
        let run = next(subject, Lane::Interactive).await.expect("all are due");
        order.push(run.job.spec.tenant.clone());
        subject.finish(&run, completed("a")).await;
        subject.wait(Duration::from_millis(50)).await;
    }
    let last_quiet = order.iter().rposition(|tenant| *tenant == quiet).expect("it is served");
    assert!(last_quiet < 4, "one after the other: {order:?}");
}

pub async fn a_tenant_runs_by_its_weight(subject: &Subject) {
    let (heavy, light): (TenantId, TenantId) = (HEAVY.parse().expect("a name"), new_tenant());
    for _ in 0..16 {
        subject.accept(chat(&heavy, "q")).await;
        subject.accept(chat(&light, "q")).await;
    }
    let order = served(subject, &[&heavy, &light], 16).await;
    let of_heavy = order.iter().filter(|tenant| **tenant == heavy).count();
    assert!((11..=13).contains(&of_heavy), "three of four: {order:?}");
}

pub async fn a_job_of_a_quiet_tenant_does_not_wait_behind_a_backlog(subject: &Subject) {
    let (noisy, quiet) = (new_tenant(), new_tenant());
    let first = subject.accept(chat(&quiet, "q")).await;
    assert!(!subject.is_due(first.spec.id, WorkerId::new()).await, "nobody waits: the broker has it");
    subject.jobs.cancel(&quiet, first.spec.id).await.expect("cancel");
    for _ in 0..4 {
        subject.accept(chat(&noisy, "q")).await;
    }
    // A sweep is when a store of many shards sees who has many jobs waiting.
    subject.jobs.sweep().await.expect("sweep");
    let mut batch = chat(&quiet, "q");
    batch.lane = Lane::Batch;
    let batch = subject.accept(batch).await;
    assert!(next(subject, Lane::Batch).await.is_none(), "in its lane nobody waits: {batch:?}");
    let noisy_job = subject.accept(chat(&noisy, "q")).await;
    let job = subject.accept(chat(&quiet, "q")).await;
    let run = next(subject, Lane::Interactive).await.expect("due at once");
    assert_eq!(run.job.spec.id, job.spec.id);
    assert!(
        next(subject, Lane::Interactive).await.is_none(),
        "the backlog waits for its hints: {noisy_job:?}"
    );
}

pub async fn a_tenant_runs_no_more_than_it_may(subject: &Subject) {
    let tenant: TenantId = CAPPED.parse().expect("a name");
    let other = new_tenant();
    let mut jobs = Vec::new();
    for _ in 0..4 {
        jobs.push(subject.accept(chat(&tenant, "q")).await);
    }
    let owner = WorkerId::new();
    let first = subject.claim(&jobs[0], owner).await;
    subject.claim(&jobs[1], owner).await;
    for _ in 0..2 {
        assert!(matches!(subject.try_claim(&jobs[2], owner).await, Claimed::Waiting));
    }
    let waiting = subject.job(&jobs[2]).await;
    assert_eq!(waiting.wait.map(|wait| wait.reason), Some(WaitReason::Tenant));
    assert_eq!(subject.kinds(&jobs[2]).await, ["job.queued", "job.waiting"], "it is said once");
    let depth = subject.jobs.depth(Duration::ZERO).await.expect("depth");
    assert_eq!((depth[0].ready, depth[0].waiting, depth[0].running), (1, 1, 2));

    let others = subject.accept(chat(&other, "q")).await;
    subject.wait(Lease::HINT_GRACE + Duration::from_millis(100)).await;
    let run = next(subject, Lane::Interactive).await.expect("of another tenant");
    assert_eq!(run.job.spec.id, others.spec.id);
    assert!(next(subject, Lane::Interactive).await.is_none(), "both have to wait");

    subject.finish(&first, completed("a")).await;
    let woken = tokio::time::timeout(PATIENCE, subject.jobs.due()).await;
    woken.expect("a slot of the tenant is free");
    let run = next(subject, Lane::Interactive).await.expect("due now");
    assert_eq!(run.job.spec.id, jobs[2].spec.id);
    assert_eq!(subject.job(&jobs[2]).await.wait, None);
    assert!(next(subject, Lane::Interactive).await.is_none(), "one ended, one began");
    assert!(matches!(subject.try_claim(&jobs[3], owner).await, Claimed::Waiting));
}

pub async fn a_slot_of_a_tenant_comes_free_however_a_job_ends(subject: &Subject) {
    let tenant: TenantId = CAPPED.parse().expect("a name");
    let owner = WorkerId::new();
    let mut running = Vec::new();
    for _ in 0..2 {
        let job = subject.accept(chat(&tenant, "q")).await;
        running.push(subject.claim(&job, owner).await);
    }
    let ends: [&str; 4] = ["finish", "release", "over its head", "deadline"];
    for end in ends {
        let mut spec = chat(&tenant, "q");
        spec.deadline = Duration::from_secs(if end == "release" { 5 } else { 3600 });
        let next = subject.accept(spec).await;
        assert!(matches!(subject.try_claim(&next, owner).await, Claimed::Waiting), "{end}");
        let run = running.remove(0);
        match end {
            "finish" => {
                subject.finish(&run, completed("a")).await;
            }
            "release" => {
                let later = subject.now().await + Duration::from_secs(3600);
                subject.jobs.release(&run.lease, Some(later), WaitReason::Retry).await.expect("release");
            }
            "over its head" => {
                let cancelled = Terminal::bare(Status::Cancelled);
                subject.jobs.close(&tenant, run.lease.job, By::Anyone, cancelled).await.expect("close");
            }
            _ => {
                assert_eq!(run.job.spec.deadline, Duration::from_secs(5), "the one that expires");
                subject.jobs.renew(&run.lease).await.expect("renew");
                for other in &running {
                    subject.jobs.renew(&other.lease).await.expect("renew");
                }
                subject.wait_and_sweep(Duration::from_secs(6)).await;
            }
        }
        running.push(subject.claim(&next, owner).await);
    }
}

pub async fn a_job_that_lost_its_owner_keeps_its_slot(subject: &Subject) {
    let tenant: TenantId = CAPPED.parse().expect("a name");
    let (dead, alive) = (WorkerId::new(), WorkerId::new());
    let waits = subject.accept(chat(&tenant, "q")).await;
    let mut owned = Vec::new();
    for _ in 0..2 {
        let job = subject.accept(chat(&tenant, "q")).await;
        subject.claim(&job, dead).await;
        owned.push(job.spec.id);
    }
    assert!(matches!(subject.try_claim(&waits, alive).await, Claimed::Waiting));
    subject.wait_and_sweep(Lease::TTL + Duration::from_millis(100)).await;
    for _ in 0..2 {
        let run = next(subject, Lane::Interactive).await.expect("its owner is gone");
        assert!(owned.contains(&run.job.spec.id), "what waits is older, and has no slot");
    }
    assert!(next(subject, Lane::Interactive).await.is_none());
}

async fn next(subject: &Subject, lane: Lane) -> Option<Run> {
    subject.jobs.claim_due(lane, Claim::new(WorkerId::new())).await.expect("claim_due")
}

/// Whose jobs came, in the order they came, of these tenants.
async fn served(subject: &Subject, tenants: &[&TenantId], count: usize) -> Vec<TenantId> {
    subject.wait(Lease::HINT_GRACE + Duration::from_millis(100)).await;
    let mut order = Vec::new();
    while order.len() < count {
        let run = subject.jobs.claim_due(Lane::Interactive, Claim::new(WorkerId::new())).await;
        let run = run.expect("claim_due").expect("all are due");
        if tenants.contains(&&run.job.spec.tenant) {
            order.push(run.job.spec.tenant);
        }
    }
    order
}
