//! Money: every call is booked once, whoever dies, and no budget is exceeded.

use std::time::Duration;

use uuid::Uuid;

use crate::model::{
    CallStarted, CallUsed, Certainty, EventBody, OnBusy, TenantId, Usage, WaitReason, WorkerId,
};
use crate::ports::{Accept, Accepted, Appended, Held, Hold, Lease, Run, UsageBy};
use crate::prices::Price;

use super::{Subject, chat, completed, delta, new_tenant, request};

const DAY: Duration = Duration::from_secs(86_400);
/// So that tokens of prompts cost parts of a billionth.
const PRICE: Price = Price { input: 2_500_001, output: 10_000_000_000 };

fn call() -> CallStarted {
    CallStarted {
        call: Uuid::now_v7(),
        model: "a model \"of\" 磨坊".to_owned(),
        input_tokens: 101,
        max_output_tokens: Some(1000),
        output_per_thousand: 800,
        unmeasured: false,
        pace: 100_000,
        price: PRICE,
        prices: "of the suite".to_owned(),
        held_nano_usd: 0,
    }
}

/// A call that cost so much.
fn exactly(nano_usd: u64) -> EventBody {
    EventBody::UsageUpdated(CallUsed {
        call: Uuid::now_v7(),
        model: "m".to_owned(),
        input_tokens: 7,
        output_tokens: 3,
        nano_usd,
        certainty: Certainty::Exact,
    })
}

impl Subject {
    async fn write(&self, run: &Run, events: Vec<EventBody>) {
        let seq = self.job(&run.job).await.last_seq + 1;
        assert_eq!(self.jobs.append(&run.lease, seq, events).await.expect("append"), Appended::Ok);
    }

    async fn running(&self, tenant: &TenantId) -> Run {
        let job = self.accept(chat(tenant, "q")).await;
        self.claim(&job, WorkerId::new()).await
    }

    async fn hold(&self, lease: &Lease, nano_usd: u64, per_day: u64) -> Held {
        let hold = Hold { nano_usd, per_job: None, per_day: Some(per_day) };
        self.budget.hold(lease, hold).await.expect("hold")
    }

    /// What is spent and held today.
    async fn sums(&self, tenant: &TenantId) -> (u64, u64) {
        let spending = self.budget.spending(tenant).await.expect("spending");
        (spending.spent, spending.held)
    }

    /// Calls, tokens and money of the tenant's only model.
    async fn of_model(&self, tenant: &TenantId) -> (u64, u64, u64, u64) {
        let rows = self.reader.usage(Some(tenant), UsageBy::Model).await.expect("usage");
        assert_eq!(rows.len(), 1, "{rows:?}");
        (rows[0].calls, rows[0].input_tokens, rows[0].output_tokens, rows[0].nano_usd)
    }
}

pub async fn usage_is_counted_by_tenant_model_and_day(subject: &Subject) {
    let tenant = new_tenant();
    for _ in 0..3 {
        let run = subject.running(&tenant).await;
        subject.write(&run, vec![exactly(100_000_000_000_001), exactly(2)]).await;
        subject.finish(&run, completed("a")).await;
    }
    let today = subject.now().await.day();
    for (by, key) in
        [(UsageBy::Model, "m"), (UsageBy::Day, today.as_str()), (UsageBy::Tenant, tenant.as_str())]
    {
        let rows = subject.reader.usage(Some(&tenant), by).await.expect("usage");
        let row = rows.iter().find(|row| row.key == key).unwrap_or_else(|| panic!("{key} in {rows:?}"));
        assert_eq!((row.calls, row.input_tokens, row.output_tokens), (6, 42, 18));
        assert_eq!(row.nano_usd, 300_000_000_000_009, "to the last billionth");
    }
    let rows = subject.reader.usage(None, UsageBy::Tenant).await.expect("usage");
    assert!(rows.iter().any(|row| row.key == tenant.as_str() && row.calls == 6), "{rows:?}");
    let rows = subject.reader.usage(Some(&new_tenant()), UsageBy::Model).await.expect("usage");
    assert!(rows.is_empty(), "another tenant's tokens: {rows:?}");
}

pub async fn usage_is_counted_when_a_call_is_over_and_outlives_its_job(subject: &Subject) {
    let tenant = new_tenant();
    let run = subject.running(&tenant).await;
    subject.write(&run, vec![EventBody::ModelCalled(call()), exactly(5)]).await;
    assert_eq!(subject.of_model(&tenant).await, (1, 7, 3, 5), "its job still runs");
    subject.write(&run, vec![EventBody::ModelCalled(call()), exactly(6)]).await;
    subject.finish(&run, completed("a")).await;
    let usage = Usage { input_tokens: 14, output_tokens: 6, nano_usd: 11 };
    assert_eq!(subject.job(&run.job).await.usage, Some(usage), "of all its calls");
    assert!(subject.jobs.delete(&tenant, run.lease.job).await.expect("delete"));
    assert_eq!(subject.of_model(&tenant).await, (2, 14, 6, 11));
}

pub async fn a_repeated_append_books_a_call_once(subject: &Subject) {
    let tenant = new_tenant();
    let run = subject.running(&tenant).await;
    let events = vec![EventBody::ModelCalled(call()), exactly(5)];
    for expected in [Appended::Ok, Appended::Duplicate] {
        assert_eq!(subject.jobs.append(&run.lease, 3, events.clone()).await.expect("append"), expected);
    }
    assert_eq!(subject.of_model(&tenant).await, (1, 7, 3, 5));
}

pub async fn a_call_that_was_open_when_its_worker_died_is_booked_by_its_log(subject: &Subject) {
    let tenant = new_tenant();
    let first = subject.running(&tenant).await;
    let call = call();
    let before = vec![delta("not of this call"), EventBody::OutputTextReset { length: 0 }];
    subject.write(&first, before).await;
    subject
        .write(&first, vec![EventBody::ModelCalled(call.clone()), delta("a mill 磨坊"), delta(" and")])
        .await;
    subject.wait_and_sweep(Lease::TTL).await;
    let second = subject.claim_when_due(first.lease.job, WorkerId::new()).await;
    // Eleven ASCII characters are three tokens, with two others five, of which four in five are real; half a token
    // was on its way: of halves the even one.
    let used = call.used(101, 4, Certainty::InDoubt);
    assert_eq!(used.nano_usd, 253 + 40_000);
    let booked = second.log[second.log.len() - 2].body();
    assert_eq!(booked, Some(EventBody::UsageUpdated(used)), "before the attempt that follows");
    assert_eq!(subject.of_model(&tenant).await, (1, 101, 4, 40_253));
    subject.write(&second, vec![EventBody::ModelCalled(call), delta("x"), exactly(9)]).await;
    subject.finish(&second, completed("x")).await;
    let usage = Usage { input_tokens: 108, output_tokens: 7, nano_usd: 40_262 };
    assert_eq!(subject.job(&second.job).await.usage, Some(usage));
}

/// A dead worker's other jobs tell how long it lived after it wrote this one's text.
pub async fn an_open_call_is_booked_up_to_the_last_sign_of_its_worker(subject: &Subject) {
    const TEN_TOKENS: &str = "十个字是十个词元了吧";
    let tenant = new_tenant();
    let worker = WorkerId::new();
    let call = CallStarted { output_per_thousand: 1000, ..call() };
    let mut runs = Vec::new();
    for _ in 0..2 {
        let job = subject.accept(chat(&tenant, "q")).await;
        let run = subject.claim(&job, worker).await;
        subject.write(&run, vec![EventBody::ModelCalled(call.clone()), delta("一")]).await;
        runs.push(run);
    }
    for _ in 0..2 {
        subject.wait(Duration::from_millis(100)).await;
        subject.write(&runs[0], vec![delta(TEN_TOKENS)]).await;
    }
    subject.wait(Duration::from_millis(51)).await;
    subject.write(&runs[1], vec![delta(TEN_TOKENS)]).await;
    subject.wait(Lease::TTL).await;
    for run in &runs {
        subject.claim(&run.job, WorkerId::new()).await;
    }
    // 21 and what came in 76 ms, at 20 tokens in 200; 11 and what came in 62 ms, at 10 tokens in 251.
    assert_eq!(subject.of_model(&tenant).await, (2, 202, 29 + 14, 2 * 253 + 430_000));
}

/// Three pieces are three tokens, for they could be; half a token more is not nearer to four.
pub async fn an_open_call_of_a_model_that_nothing_is_known_of_is_booked_by_its_pieces(subject: &Subject) {
    let tenant = new_tenant();
    let first = subject.running(&tenant).await;
    let call = CallStarted { unmeasured: true, ..call() };
    let events = vec![EventBody::ModelCalled(call), delta("ab"), delta("c"), delta("de")];
    subject.write(&first, events).await;
    subject.wait_and_sweep(Lease::TTL).await;
    subject.claim_when_due(first.lease.job, WorkerId::new()).await;
    assert_eq!(subject.of_model(&tenant).await, (1, 101, 4, 40_253));
}

/// Cancelled over the head of a worker that is silent, past its deadline, poisoned, interrupted, given back.
pub async fn an_open_call_is_booked_whoever_ends_the_job(subject: &Subject) {
    let tenant = new_tenant();
    let answer = "eight chars here";
    let open = async |run: &Run| {
        subject.write(run, vec![EventBody::ModelCalled(call()), delta(answer)]).await;
    };
    let cancelled = subject.running(&tenant).await;
    open(&cancelled).await;
    subject.jobs.cancel(&tenant, cancelled.lease.job).await.expect("cancel");
    subject.wait_and_sweep(Lease::CANCEL_GRACE).await;

    let interrupted = subject.running(&tenant).await;
    open(&interrupted).await;
    let mut spec = chat(&tenant, "another");
    spec.conversation_id = interrupted.job.spec.conversation_id;
    let accept = Accept { on_busy: OnBusy::Interrupt, ..request(spec) };
    assert!(matches!(subject.jobs.accept(accept).await.expect("accept"), Accepted::Created(_)));

    let mut poisoned = subject.running(&tenant).await;
    open(&poisoned).await;
    for _ in 1..Lease::MAX_DEATHS {
        subject.wait_and_sweep(Lease::TTL).await;
        poisoned = subject.claim_when_due(poisoned.lease.job, WorkerId::new()).await;
        open(&poisoned).await;
    }
    subject.wait_and_sweep(Lease::TTL).await;
    subject.is_due(poisoned.lease.job, WorkerId::new()).await;

    let late = subject.running(&tenant).await;
    open(&late).await;
    let released = subject.running(&tenant).await;
    open(&released).await;
    subject.jobs.release(&released.lease, None, WaitReason::Drain).await.expect("release");
    subject.wait_and_sweep(late.job.spec.deadline * 2).await;

    let each = call().used(101, 4, Certainty::InDoubt);
    for (run, calls) in [(&cancelled, 1), (&interrupted, 1), (&poisoned, 3), (&late, 1), (&released, 1)] {
        let job = subject.job(&run.job).await;
        assert!(job.status.is_terminal(), "{:?}", job.status);
        let usage = job.usage.unwrap_or_else(|| panic!("{:?} {:?}", job.status, job.usage));
        assert_eq!(usage.nano_usd, calls * each.nano_usd, "{:?}", job.status);
    }
    assert_eq!(subject.of_model(&tenant).await, (7, 707, 28, 7 * each.nano_usd));
}

pub async fn money_is_held_for_one_call_and_what_it_did_not_use_comes_back(subject: &Subject) {
    let tenant = new_tenant();
    let (run, other) = (subject.running(&tenant).await, subject.running(&tenant).await);
    assert_eq!(subject.hold(&run.lease, 600, 1000).await, Held::Ok);
    assert_eq!(subject.hold(&run.lease, 700, 1000).await, Held::Ok, "in place of the first");
    assert_eq!(subject.sums(&tenant).await, (0, 700));
    assert_eq!(subject.hold(&other.lease, 301, 1000).await, Held::Busy);
    assert_eq!(subject.hold(&other.lease, 300, 1000).await, Held::Ok, "to the last billionth");
    subject.write(&run, vec![EventBody::ModelCalled(call())]).await;
    assert_eq!(subject.hold(&run.lease, 1, 5000).await, Held::Busy, "it has a call under way");
    subject.write(&run, vec![exactly(100)]).await;
    assert_eq!(subject.sums(&tenant).await, (100, 300));
    subject.jobs.release(&other.lease, None, WaitReason::Quota).await.expect("release");
    assert_eq!(subject.sums(&tenant).await, (100, 0), "no call was made on it");
    assert_eq!(subject.hold(&other.lease, 1, 1000).await, Held::Fenced);
    match subject.hold(&run.lease, 901, 1000).await {
        Held::OverDay(spending) => {
            assert_eq!((spending.spent, spending.held), (100, 0));
            assert!(spending.resets_at().since(spending.now) <= DAY);
        }
        answer => panic!("{answer:?}"),
    }
    assert_eq!(subject.hold(&run.lease, 900, 1000).await, Held::Ok);
    subject.finish(&run, completed("a")).await;
    assert_eq!(subject.sums(&tenant).await, (100, 0));
    assert_eq!(subject.sums(&new_tenant()).await, (0, 0));
}

pub async fn what_nobody_knows_counts_whole_against_a_budget(subject: &Subject) {
    let tenant = new_tenant();
    let run = subject.running(&tenant).await;
    let held = CallStarted { held_nano_usd: 50_000, ..call() };
    assert_eq!(subject.hold(&run.lease, 50_000, 120_000).await, Held::Ok);
    let estimated = held.used(10, 1, Certainty::Estimated);
    let events = vec![EventBody::ModelCalled(held.clone()), EventBody::UsageUpdated(estimated.clone())];
    subject.write(&run, events).await;
    assert_eq!(subject.sums(&tenant).await, (50_000, 0), "it may have been paid");
    // And when its worker dies.
    assert_eq!(subject.hold(&run.lease, 50_000, 120_000).await, Held::Ok);
    subject.write(&run, vec![EventBody::ModelCalled(held)]).await;
    assert_eq!(subject.sums(&tenant).await, (50_000, 50_000));
    subject.wait_and_sweep(Lease::TTL).await;
    let run = subject.claim_when_due(run.lease.job, WorkerId::new()).await;
    assert_eq!(subject.sums(&tenant).await, (100_000, 0));
    assert!(matches!(subject.hold(&run.lease, 20_001, 120_000).await, Held::OverDay(_)));
    // The ledger says what is likely.
    let (_, _, _, nano_usd) = subject.of_model(&tenant).await;
    assert_eq!(nano_usd, estimated.nano_usd + 253);
    // A job's own budget counts alike.
    let hold = |nano_usd| Hold { nano_usd, per_job: Some(120_000), per_day: None };
    let held = subject.budget.hold(&run.lease, hold(20_001)).await.expect("hold");
    assert_eq!(held, Held::OverJob { spent: 100_000 });
    assert_eq!(subject.budget.hold(&run.lease, hold(20_000)).await.expect("hold"), Held::Ok);
}

pub async fn a_budget_is_never_exceeded_by_many_at_once(subject: &Subject) {
    const LIMIT: u64 = 1_000;
    let tenant = new_tenant();
    let runs = futures::future::join_all((0..60).map(|_| subject.running(&tenant))).await;
    let held = futures::future::join_all(runs.iter().map(|run| subject.hold(&run.lease, 70, LIMIT))).await;
    let granted = held.iter().filter(|held| **held == Held::Ok).count();
    assert_eq!(granted, 14, "{held:?}");
    assert_eq!(subject.sums(&tenant).await, (0, 980));
    let granted = runs.iter().zip(&held).filter(|(_, held)| **held == Held::Ok);
    for (run, _) in granted {
        subject.write(run, vec![EventBody::ModelCalled(call()), exactly(70)]).await;
    }
    assert_eq!(subject.sums(&tenant).await, (980, 0));
    let rest = futures::future::join_all(runs.iter().map(|run| subject.hold(&run.lease, 21, LIMIT))).await;
    assert!(rest.iter().all(|held| matches!(held, Held::OverDay(_))), "{rest:?}");
}

pub async fn a_new_day_has_a_new_budget(subject: &Subject) {
    let tenant = new_tenant();
    let mut spec = chat(&tenant, "q");
    spec.deadline = DAY * 3;
    let job = subject.accept(spec).await;
    let run = subject.claim(&job, WorkerId::new()).await;
    assert_eq!(subject.hold(&run.lease, 800, 1000).await, Held::Ok);
    subject.write(&run, vec![EventBody::ModelCalled(call()), exactly(800)]).await;
    assert!(matches!(subject.hold(&run.lease, 201, 1000).await, Held::OverDay(_)));
    subject.wait_and_sweep(DAY).await;
    assert_eq!(subject.sums(&tenant).await, (0, 0));
    let run = subject.claim_when_due(run.lease.job, WorkerId::new()).await;
    assert_eq!(subject.hold(&run.lease, 1000, 1000).await, Held::Ok);
}

pub async fn a_spent_budget_takes_in_nothing_new_and_answers_what_it_took_before(subject: &Subject) {
    let tenant = new_tenant();
    let keyed = |replays_only| Accept {
        replays_only,
        idempotency: Some(("key".to_owned(), [1; 32])),
        ..request(chat(&tenant, "q"))
    };
    assert_eq!(subject.jobs.accept(keyed(true)).await.expect("accept"), Accepted::Refused);
    assert!(matches!(subject.jobs.accept(keyed(false)).await.expect("accept"), Accepted::Created(_)));
    assert!(matches!(subject.jobs.accept(keyed(true)).await.expect("accept"), Accepted::Existing(_)));
}
