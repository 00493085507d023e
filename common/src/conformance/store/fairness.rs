//! The due index: whose job is next.

use std::time::Duration;

use crate::model::{Lane, TenantId, WorkerId};
use crate::ports::{Claim, Lease};

use super::{Subject, chat, new_tenant};

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
