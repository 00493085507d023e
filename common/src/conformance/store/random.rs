//! The model and the real store do the same random operations, and agree after each.

use std::sync::Arc;
use std::time::Duration;

use futures::future::LocalBoxFuture;
use proptest::prelude::*;
use proptest::test_runner::TestRunner;
use uuid::Uuid;

use crate::model::{
    ConversationId, JobId, JobSpec, Lane, OnBusy, Status, TenantId, Terminal, Timestamp, WaitReason, WorkerId,
};
use crate::ports::{
    Accept, Accepted, By, Cancelled, Claim, Claimed, JobReader, JobStore, Lease, Lookup, Replayed, StoreError,
};

use super::model::{self, Model, NewJob, Taken};
use super::{Subject, chat, completed, delta, request};

/// A store of its own, whose clock stands still but for [`Subject::wait`].
pub struct Driven {
    pub subject: Subject,
    /// The store's clock.
    pub now: Box<dyn Fn() -> Timestamp>,
    /// Opens the store again; the subject before is dropped by then.
    pub reopen: Box<dyn Fn() -> LocalBoxFuture<'static, Subject>>,
    /// Whether a reopened store knows that every owner is dead.
    pub reopening_voids_leases: bool,
}

const TENANTS: usize = 2;
const CONVERSATIONS: usize = 3;
/// Until a job whose hint was confirmed and not acted on is looked for.
const HINT_LOST: Duration = Duration::from_secs(30);

#[derive(Clone, Debug)]
enum Op {
    Accept {
        tenant: usize,
        conversation: usize,
        on_busy: OnBusy,
        key: Option<(u8, u8)>,
        deadline: u64,
        delay: u64,
    },
    Hinted,
    Claim(usize, bool),
    ClaimDue,
    Challenge(usize),
    Renew(usize),
    Append(usize, i64, u64),
    Release(usize, u64),
    CloseByOwner(usize, Status),
    CloseByAnyone(usize, Status),
    Cancel(usize),
    Advance(u64),
    Sweep,
    Reopen,
    Delete(usize),
    Replay(usize),
}

fn op() -> impl Strategy<Value = Op> {
    let on_busy =
        prop_oneof![3 => Just(OnBusy::Enqueue), 1 => Just(OnBusy::Reject), 1 => Just(OnBusy::Interrupt)];
    let key = prop::option::weighted(0.3, (0..3_u8, 0..2_u8));
    let delay = prop_oneof![4 => Just(0), 1 => 1..9_000_u64];
    let end = prop_oneof![
        4 => Just(Status::Completed), 1 => Just(Status::Failed), 1 => Just(Status::Cancelled),
        1 => Just(Status::Incomplete), 1 => Just(Status::Expired)
    ];
    let end2 = end.clone();
    let pick = 0..64_usize;
    let time = prop_oneof![4 => 1..2_500_u64, 2 => 2_500..11_000_u64, 1 => 11_000..60_000_u64];
    prop_oneof![
        8 => (0..TENANTS, 0..CONVERSATIONS, on_busy, key, 1..60_u64, delay.clone()).prop_map(
            |(tenant, conversation, on_busy, key, deadline, delay)|
                Op::Accept { tenant, conversation, on_busy, key, deadline, delay }),
        1 => Just(Op::Hinted),
        8 => (pick.clone(), any::<bool>()).prop_map(|(job, again)| Op::Claim(job, again)),
        4 => Just(Op::ClaimDue),
        2 => pick.clone().prop_map(Op::Challenge),
        4 => pick.clone().prop_map(Op::Renew),
        6 => (pick.clone(), -2..3_i64, 1..4_u64).prop_map(|(lease, off, count)| Op::Append(lease, off, count)),
        3 => (pick.clone(), delay).prop_map(|(lease, delay)| Op::Release(lease, delay)),
        4 => (pick.clone(), end).prop_map(|(lease, end)| Op::CloseByOwner(lease, end)),
        1 => (pick.clone(), end2).prop_map(|(job, end)| Op::CloseByAnyone(job, end)),
        3 => pick.clone().prop_map(Op::Cancel),
        6 => time.prop_map(Op::Advance),
        4 => Just(Op::Sweep),
        1 => Just(Op::Reopen),
        1 => pick.clone().prop_map(Op::Delete),
        2 => pick.prop_map(Op::Replay),
    ]
}

/// Does random operations to a store that `open` makes and to the model, as often as `cases` says;
/// panics with the shortest list of operations after which they differ.
pub fn the_store_does_what_the_model_says(cases: u32, open: impl Fn() -> LocalBoxFuture<'static, Driven>) {
    let config = ProptestConfig {
        cases,
        max_shrink_iters: 400,
        failure_persistence: None,
        ..ProptestConfig::default()
    };
    let ran = TestRunner::new(config).run(&prop::collection::vec(op(), 1..60), |ops| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        runtime.expect("a runtime").block_on(async {
            let mut both = Both::new(open().await);
            for op in ops {
                both.step(op.clone()).await;
                both.compare(&format!("after {op:?}")).await;
            }
            both.drain().await;
        });
        Ok(())
    });
    if let Err(err) = ran {
        panic!("{err}");
    }
}

/// The model and the store, side by side.
struct Both {
    /// `None` only while it is reopened.
    subject: Option<Subject>,
    now: Box<dyn Fn() -> Timestamp>,
    reopen: Box<dyn Fn() -> LocalBoxFuture<'static, Subject>>,
    reopening_voids_leases: bool,
    model: Model,
    tenants: Vec<TenantId>,
    conversations: Vec<Vec<ConversationId>>,
    /// Every lease ever given, with its job; most are stale.
    leases: Vec<(usize, Lease)>,
    last_claim: Option<(usize, Claim, u64)>,
    claims: u64,
}

impl Both {
    fn new(driven: Driven) -> Self {
        let conversations = |_| (0..CONVERSATIONS).map(|_| ConversationId::new()).collect();
        let name = |n| format!("tenant-{n}").try_into().expect("letters, a dash and a digit");
        Self {
            model: Model { now: (driven.now)().as_millis(), ..Model::default() },
            subject: Some(driven.subject),
            now: driven.now,
            reopen: driven.reopen,
            reopening_voids_leases: driven.reopening_voids_leases,
            tenants: (0..TENANTS).map(name).collect(),
            conversations: (0..TENANTS).map(conversations).collect(),
            leases: Vec::new(),
            last_claim: None,
            claims: 0,
        }
    }

    fn subject(&self) -> &Subject {
        self.subject.as_ref().expect("open between steps")
    }

    fn store(&self) -> Arc<dyn JobStore> {
        Arc::clone(&self.subject().jobs)
    }

    fn reader(&self) -> Arc<dyn JobReader> {
        Arc::clone(&self.subject().reader)
    }

    fn later(&self, millis: u64) -> Option<Timestamp> {
        (millis > 0).then(|| (self.now)() + Duration::from_millis(millis))
    }

    fn job(&self, pick: usize) -> Option<usize> {
        (!self.model.jobs.is_empty()).then(|| pick % self.model.jobs.len())
    }

    fn lease(&self, pick: usize) -> Option<(usize, Lease)> {
        // The newest ones more often than the stale ones.
        let count = self.leases.len();
        (count > 0).then(|| self.leases[count - 1 - (pick % count) * (pick % 2)].clone())
    }

    fn who(&self, job: usize) -> (TenantId, JobId) {
        let it = &self.model.jobs[job];
        (self.tenants[it.tenant].clone(), it.id)
    }

    async fn step(&mut self, op: Op) {
        let store = self.store();
        match op {
            Op::Accept { tenant, conversation, on_busy, key, deadline, delay } => {
                self.accept(tenant, conversation, on_busy, key, deadline, delay).await;
            }
            Op::Hinted => {
                let all: Vec<_> = (0..self.model.jobs.len()).map(|job| self.who(job)).collect();
                store.hinted(&all).await.expect("the store answers");
            }
            Op::Claim(pick, again) => self.claim(pick, again).await,
            Op::ClaimDue => {
                self.claim_due().await;
            }
            Op::Challenge(pick) => {
                let Some(job) = self.job(pick) else { return };
                let (tenant, id) = self.who(job);
                store.challenge(&tenant, id).await.expect("the store answers");
                self.model.challenge(job);
            }
            Op::Renew(pick) => {
                let Some((job, lease)) = self.lease(pick) else { return };
                assert_eq!(
                    store.renew(&lease).await.expect("the store answers"),
                    self.model.renew(job, lease.epoch)
                );
            }
            Op::Append(pick, offset, count) => {
                let Some((job, lease)) = self.lease(pick) else { return };
                let first = (self.model.jobs[job].last_seq + 1).saturating_add_signed(offset).max(1);
                let events = (0..count).map(|n| delta(&format!("{n} 字"))).collect();
                let real = store.append(&lease, first, events).await.expect("the store answers");
                assert_eq!(real, self.model.append(job, lease.epoch, first, count));
            }
            Op::Release(pick, delay) => {
                let Some((job, lease)) = self.lease(pick) else { return };
                let at = self.later(delay);
                let real = store.release(&lease, at, WaitReason::Retry).await.expect("the store answers");
                assert_eq!(real, self.model.release(job, lease.epoch, at));
            }
            Op::CloseByOwner(pick, status) => {
                let Some((job, lease)) = self.lease(pick) else { return };
                let first_seq = self.model.jobs[job].last_seq + 1;
                let by = By::Owner { epoch: lease.epoch, first_seq, tail: Vec::new() };
                let real = store
                    .close(&lease.tenant, lease.job, by, terminal(status))
                    .await
                    .expect("the store answers");
                assert_eq!(real, self.model.close(job, Some(lease.epoch), status));
            }
            Op::CloseByAnyone(pick, status) => {
                let Some(job) = self.job(pick) else { return };
                let (tenant, id) = self.who(job);
                let real =
                    store.close(&tenant, id, By::Anyone, terminal(status)).await.expect("the store answers");
                assert_eq!(real, self.model.close(job, None, status));
            }
            Op::Cancel(pick) => {
                let Some(job) = self.job(pick) else { return };
                let (tenant, id) = self.who(job);
                let real = match store.cancel(&tenant, id).await.expect("the store answers") {
                    Cancelled::Job(_) => model::Cancel::Job,
                    Cancelled::Gone => model::Cancel::Gone,
                    Cancelled::Unknown => panic!("it was accepted"),
                };
                assert_eq!(real, self.model.cancel(job));
            }
            Op::Advance(millis) => self.advance(millis).await,
            Op::Sweep => {
                store.sweep().await.expect("the store answers");
                self.model.sweep();
            }
            Op::Reopen => {
                drop(store);
                self.subject = None;
                self.subject = Some((self.reopen)().await);
                if self.reopening_voids_leases {
                    self.model.reopen();
                }
                self.last_claim = None;
            }
            Op::Delete(pick) => {
                let Some(job) = self.job(pick) else { return };
                let (tenant, id) = self.who(job);
                let real = match store.delete(&tenant, id).await {
                    Ok(removed) => Some(removed),
                    Err(StoreError::Open) => None,
                    Err(err) => panic!("{err}"),
                };
                assert_eq!(real, self.model.delete(job));
            }
            Op::Replay(pick) => self.replay(pick).await,
        }
    }

    async fn advance(&mut self, millis: u64) {
        self.subject().wait(Duration::from_millis(millis)).await;
        self.model.now += millis;
    }

    async fn accept(
        &mut self,
        tenant: usize,
        conversation: usize,
        on_busy: OnBusy,
        key: Option<(u8, u8)>,
        deadline: u64,
        delay: u64,
    ) {
        let spec = JobSpec {
            conversation_id: Some(self.conversations[tenant][conversation]),
            deadline: Duration::from_secs(deadline),
            not_before: self.later(delay),
            ..chat(&self.tenants[tenant], "what? 什么？")
        };
        let expected = self.model.accept(&NewJob {
            id: spec.id,
            tenant,
            conversation: tenant * CONVERSATIONS + conversation,
            on_busy,
            key,
            not_before: spec.not_before,
            deadline: spec.deadline,
        });
        let idempotency = key.map(|(key, body)| (format!("key-{key}"), [body; 32]));
        let request = Accept { on_busy, idempotency, ..request(spec) };
        let id = |job: usize| self.model.jobs[job].id;
        match (self.store().accept(request).await.expect("the store answers"), expected) {
            (Accepted::Created(job), Taken::Created(at)) | (Accepted::Existing(job), Taken::Existing(at)) => {
                assert_eq!(job.spec.id, id(at));
            }
            (Accepted::ConversationBusy(job), Taken::Busy(at)) => assert_eq!(job, id(at)),
            (Accepted::KeyReused, Taken::KeyReused) => {}
            (real, expected) => panic!("{real:?} where the model says {expected:?}"),
        }
    }

    async fn claim(&mut self, pick: usize, again: bool) {
        let (job, claim, number) = match self.last_claim.filter(|_| again) {
            Some(last) => last,
            None => {
                let Some(job) = self.job(pick) else { return };
                self.claims += 1;
                (job, Claim { owner: WorkerId::new(), op: Uuid::now_v7() }, self.claims)
            }
        };
        self.last_claim = Some((job, claim, number));
        let (tenant, id) = self.who(job);
        let real = self.store().claim(&tenant, id, claim).await.expect("the store answers");
        let expected = self.model.claim(job, number);
        match (real, expected) {
            (Claimed::Run(run), model::Claim::Run) => self.leases.push((job, run.lease)),
            (Claimed::Done, model::Claim::Done)
            | (Claimed::Busy, model::Claim::Busy)
            | (Claimed::Waiting, model::Claim::Waiting) => {}
            (real, expected) => panic!("{real:?} where the model says {expected:?}"),
        }
    }

    /// What comes must be claimable; what is ended on the way must have had to end. Answers the job.
    async fn claim_due(&mut self) -> Option<usize> {
        let claim = Claim::new(WorkerId::new());
        let run = self.store().claim_due(Lane::Interactive, claim).await.expect("the store answers");
        for job in 0..self.model.jobs.len() {
            let (tenant, id) = self.who(job);
            if let Lookup::Found(real) = self.reader().get(&tenant, id).await.expect("the store answers")
                && real.status.is_terminal()
                && !self.model.jobs[job].status.is_terminal()
            {
                self.claims += 1;
                assert_eq!(self.model.claim(job, self.claims), model::Claim::Done);
            }
        }
        let run = run?;
        let job = self.model.index()[&run.job.spec.id];
        self.claims += 1;
        assert_eq!(self.model.claim(job, self.claims), model::Claim::Run);
        self.leases.push((job, run.lease));
        Some(job)
    }

    async fn replay(&mut self, pick: usize) {
        let Some(job) = self.job(pick) else { return };
        let real = match self.store().replay(self.model.jobs[job].id).await.expect("the store answers") {
            Replayed::Job(new, made) => Some((*new, made)),
            Replayed::Unknown => None,
        };
        let old = self.model.jobs[job].clone();
        let expected = self.model.replay(job, || {
            let new = real.as_ref().expect("the model has a dead letter, the store has none");
            NewJob {
                id: new.0.spec.id,
                tenant: old.tenant,
                conversation: old.conversation,
                on_busy: OnBusy::Enqueue,
                key: None,
                not_before: None,
                deadline: new.0.spec.deadline,
            }
        });
        let expected = expected.map(|(job, made)| (self.model.jobs[job].id, made));
        assert_eq!(real.map(|(new, made)| (new.spec.id, made)), expected);
    }

    async fn compare(&self, when: &str) {
        for (at, expected) in self.model.jobs.iter().enumerate() {
            let (tenant, id) = self.who(at);
            let found = self.reader().get(&tenant, id).await.expect("the store answers");
            if expected.deleted {
                assert_eq!(found, Lookup::Gone, "{when}");
                continue;
            }
            let Lookup::Found(job) = found else { panic!("job {at} is lost {when}: {found:?}") };
            assert_eq!(
                (job.status, job.attempt, job.deaths, job.epoch, job.last_seq),
                (expected.status, expected.attempt, expected.deaths, expected.epoch, expected.last_seq),
                "job {at} {when}"
            );
            assert!(job.status.is_terminal() || job.cancel_requested == expected.cancel_requested, "{when}");
            let Lookup::Found(log) =
                self.reader().log(&tenant, id, 0, 100_000).await.expect("the store answers")
            else {
                panic!("the log of job {at} is lost {when}")
            };
            let seqs: Vec<u64> = log.events.iter().map(|event| event.seq).collect();
            assert_eq!(seqs, (1..=expected.last_seq).collect::<Vec<_>>(), "log of job {at} {when}");
            let ends = log.events.iter().filter(|event| event.is_terminal()).count();
            assert_eq!(ends, usize::from(expected.status.is_terminal()), "job {at} {when}");
            assert_eq!(log.sealed, expected.status.is_terminal());
        }
    }

    /// Every job ends, and none that could run waits for longer than its hint may take.
    async fn drain(&mut self) {
        for round in 0..20 {
            self.advance(7_000).await;
            self.step(Op::Sweep).await;
            while let Some(job) = self.claim_due().await {
                let (_, lease) = self.leases.last().cloned().expect("just claimed");
                let first_seq = self.model.jobs[job].last_seq + 1;
                let by = By::Owner { epoch: lease.epoch, first_seq, tail: Vec::new() };
                let end = terminal(Status::Completed);
                let real =
                    self.store().close(&lease.tenant, lease.job, by, end).await.expect("the store answers");
                assert_eq!(real, self.model.close(job, Some(lease.epoch), Status::Completed));
            }
            for job in 0..self.model.jobs.len() {
                let it = &self.model.jobs[job];
                let hint_is_out = it.attempt == 0 && (self.now)() < it.created_at + HINT_LOST;
                assert!(
                    !self.model.is_claimable(job) || hint_is_out,
                    "nobody will ever claim job {job}: {it:?}"
                );
            }
            self.compare(&format!("in round {round} of the drain")).await;
        }
        assert!(self.model.jobs.iter().all(|job| job.status.is_terminal()), "{:?}", self.model.jobs);
    }
}

fn terminal(status: Status) -> Terminal {
    Terminal { status, ..completed("an answer") }
}
