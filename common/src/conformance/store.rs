//! What every adapter of [`JobStore`], [`JobReader`] and [`Conversations`] must do.
//!
//! Each clause makes tenants of its own, so one server can serve them all, one after the other. An
//! adapter's test calls [`store_conformance!`](crate::store_conformance), which makes one test of
//! each clause.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::future::BoxFuture;
use uuid::Uuid;

use crate::model::{
    AgentName, ConversationId, Event, EventBody, Job, JobId, JobInput, JobSpec, Lane, Message, OnBusy,
    Output, Role, Share, Shares, Status, TenantId, Terminal, Timestamp, Usage, WorkerId,
};
use crate::ports::{
    Accept, Accepted, Appended, Budget, By, Claim, Claimed, Closed, Conversations, DeadLetter, Expected,
    JobReader, JobStore, Lease, Lookup, Run,
};

pub mod accept;
pub mod cancel;
pub mod claim;
pub mod close;
pub mod conversations;
pub mod dead_letters;
pub mod fairness;
pub mod lanes;
pub mod lease;
pub mod load;
pub mod log;
mod model;
pub mod random;
pub mod read;
pub mod spending;
pub mod time;

/// A store under test.
pub struct Subject {
    pub jobs: Arc<dyn JobStore>,
    pub reader: Arc<dyn JobReader>,
    pub conversations: Arc<dyn Conversations>,
    pub budget: Arc<dyn Budget>,
    advance: Box<dyn Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync>,
}

impl Subject {
    /// `advance` lets that much time pass on the store's clock: by waiting, where the clock is real.
    /// It lives as long as the subject, so it may hold what the store stands on.
    pub fn new<S>(
        store: Arc<S>,
        advance: impl Fn(Duration) -> BoxFuture<'static, ()> + Send + Sync + 'static,
    ) -> Self
    where
        S: JobStore + JobReader + Conversations + Budget + 'static,
    {
        Self {
            jobs: store.clone(),
            reader: store.clone(),
            conversations: store.clone(),
            budget: store,
            advance: Box::new(advance),
        }
    }

    /// Time passes; nobody sweeps.
    pub async fn wait(&self, duration: Duration) {
        (self.advance)(duration).await;
    }

    /// Time passes, then one process sweeps.
    pub async fn wait_and_sweep(&self, duration: Duration) {
        self.wait(duration).await;
        self.jobs.sweep().await.expect("sweep");
    }

    /// The store's clock, as it shows in what it writes.
    pub async fn now(&self) -> Timestamp {
        let made = self.conversations.create(&new_tenant(), ConversationId::new()).await;
        made.expect("create a conversation").created_at
    }

    /// Accepts what must be accepted as new.
    pub async fn accept(&self, spec: JobSpec) -> Job {
        match self.jobs.accept(request(spec)).await.expect("accept") {
            Accepted::Created(job) => *job,
            other => panic!("not accepted as new: {other:?}"),
        }
    }

    /// Accepts as `count` jobs of one conversation, in order.
    pub async fn accept_turns(&self, tenant: &TenantId, count: usize) -> Vec<Job> {
        let conversation = ConversationId::new();
        let mut jobs = Vec::new();
        for turn in 1..=count {
            let mut spec = chat(tenant, &format!("question {turn} 第{turn}问"));
            spec.conversation_id = Some(conversation);
            jobs.push(self.accept(spec).await);
        }
        jobs
    }

    /// Claims what must be free.
    pub async fn claim(&self, job: &Job, owner: WorkerId) -> Run {
        match self.try_claim(job, owner).await {
            Claimed::Run(run) => *run,
            other => panic!("not free to run: {other:?}"),
        }
    }

    pub async fn try_claim(&self, job: &Job, owner: WorkerId) -> Claimed {
        self.jobs.claim(&job.spec.tenant, job.spec.id, Claim::new(owner)).await.expect("claim")
    }

    /// Takes due jobs until this one comes. What other clauses left behind is closed on the way.
    pub async fn claim_when_due(&self, job: JobId, owner: WorkerId) -> Run {
        let until_due = async {
            loop {
                match self.jobs.claim_due(Lane::Interactive, Claim::new(owner)).await.expect("claim_due") {
                    Some(run) if run.job.spec.id == job => break run,
                    Some(run) => self.discard(run).await,
                    None => self.jobs.due().await,
                }
            }
        };
        tokio::time::timeout(PATIENCE, until_due).await.expect("the job becomes due")
    }

    /// Whether this job can be had from the due index now.
    pub async fn is_due(&self, job: JobId, owner: WorkerId) -> bool {
        while let Some(run) =
            self.jobs.claim_due(Lane::Interactive, Claim::new(owner)).await.expect("claim_due")
        {
            if run.job.spec.id == job {
                return true;
            }
            self.discard(run).await;
        }
        false
    }

    async fn discard(&self, run: Run) {
        let spec = &run.job.spec;
        let cancelled = Terminal::bare(Status::Cancelled);
        self.jobs.close(&spec.tenant, spec.id, By::Anyone, cancelled).await.expect("discard");
    }

    /// Ends a claimed job as its owner does, with nothing left to append.
    pub async fn finish(&self, run: &Run, terminal: Terminal) -> Closed {
        let last = self.job(&run.job).await.last_seq;
        let by = By::Owner { epoch: run.lease.epoch, first_seq: last + 1, tail: Vec::new() };
        self.jobs.close(&run.lease.tenant, run.lease.job, by, terminal).await.expect("close")
    }

    pub async fn append(&self, lease: &Lease, first_seq: u64, texts: &[&str]) -> Appended {
        let events = texts.iter().map(|text| delta(text)).collect();
        self.jobs.append(lease, first_seq, events).await.expect("append")
    }

    /// The record as it is now.
    pub async fn job(&self, job: &Job) -> Job {
        match self.reader.get(&job.spec.tenant, job.spec.id).await.expect("get") {
            Lookup::Found(job) => *job,
            other => panic!("{} is not found: {other:?}", job.spec.id),
        }
    }

    /// The whole log, having checked what is true of every log.
    pub async fn log(&self, job: &Job) -> Vec<Arc<Event>> {
        let found = self.reader.log(&job.spec.tenant, job.spec.id, 0, 100_000).await.expect("log");
        let Lookup::Found(page) = found else { panic!("the log is not found: {found:?}") };
        for (at, event) in page.events.iter().enumerate() {
            assert_eq!(event.seq, at as u64 + 1, "a log is dense from 1");
            assert_eq!(event.job_id, job.spec.id);
            let last = at + 1 == page.events.len();
            assert!(last || !event.is_terminal(), "nothing follows the terminal event: {:?}", page.events);
        }
        assert_eq!(page.last_seq, page.events.len() as u64);
        assert_eq!(page.trimmed_to, 0);
        assert_eq!(page.sealed, page.events.last().is_some_and(|event| event.is_terminal()));
        page.events
    }

    pub async fn kinds(&self, job: &Job) -> Vec<String> {
        self.log(job).await.iter().map(|event| event.kind.clone()).collect()
    }

    pub async fn dead_letter(&self, job: JobId) -> Option<DeadLetter> {
        let letters = self.jobs.dead_letters(100, None).await.expect("dead_letters");
        letters.into_iter().find(|letter| letter.job.spec.id == job)
    }
}

/// A tenant of which two jobs run at a time.
pub const CAPPED: &str = "capped";
/// A tenant of weight 3.
pub const HEAVY: &str = "heavy";

/// The shares of a store under test.
#[must_use]
pub fn shares() -> Shares {
    let name = |name: &str| name.parse().expect("letters");
    let capped = Share { max_running: Some(2), ..Share::default() };
    let heavy = Share { weight: 3, ..Share::default() };
    Shares { others: Share::default(), tenants: [(name(CAPPED), capped), (name(HEAVY), heavy)].into() }
}

/// How long a condition may take to come true on a slow machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A tenant that no other clause knows.
#[must_use]
pub fn new_tenant() -> TenantId {
    static MADE: AtomicU64 = AtomicU64::new(0);
    let name = format!("t{}-{}", MADE.fetch_add(1, Ordering::Relaxed), Uuid::new_v4().simple());
    name.try_into().expect("letters, digits and a dash")
}

/// A chat job in a conversation of its own.
#[must_use]
pub fn chat(tenant: &TenantId, question: &str) -> JobSpec {
    JobSpec {
        id: JobId::new(),
        tenant: tenant.clone(),
        input: JobInput::Chat { messages: vec![Message { role: Role::User, content: question.to_owned() }] },
        agent: AgentName::rag(),
        lane: Lane::Interactive,
        conversation_id: Some(ConversationId::new()),
        collection: None,
        filter: None,
        deadline: Duration::from_secs(120),
        not_before: None,
        max_output_tokens: None,
        metadata: None,
        replay_of: None,
        traceparent: None,
    }
}

/// A request to accept that asks for nothing special.
#[must_use]
pub fn request(spec: JobSpec) -> Accept {
    Accept {
        spec,
        known_conversation: false,
        on_busy: OnBusy::Enqueue,
        replays_only: false,
        idempotency: None,
        expected: Expected::default(),
    }
}

#[must_use]
pub fn delta(text: &str) -> EventBody {
    EventBody::OutputTextDelta { text: text.to_owned() }
}

/// The end of a job that answered.
#[must_use]
pub fn completed(text: &str) -> Terminal {
    Terminal {
        output: Some(Output::answer(text, true, Vec::new())),
        usage: Some(Usage { input_tokens: 7, output_tokens: 3, nano_usd: 250_000_000 }),
        ..Terminal::bare(Status::Completed)
    }
}

/// Makes one test of each clause: `store_conformance!(open)`, where `open` is an async function that
/// returns a [`Subject`] of a fresh or shared store.
#[macro_export]
macro_rules! store_conformance {
    ($open:path) => {
        $crate::store_conformance! { @ $open,
            accept: an_accepted_job_is_queued_and_its_log_begins,
            accept: what_is_expected_is_said_until_the_job_starts_and_keeps_nothing_from_starting,
            accept: the_same_key_and_body_answer_the_same_job,
            accept: one_key_used_at_once_by_many_makes_one_job,
            accept: a_key_with_another_body_is_refused,
            accept: keys_of_two_tenants_do_not_meet,
            accept: an_unknown_conversation_is_refused_when_it_must_be_known,
            accept: a_busy_conversation_rejects_when_asked_to,
            accept: an_interrupt_ends_what_runs_and_waits,
            accept: versions_and_stamps_rise_together,
            claim: a_claim_counts_an_attempt_and_shows_in_the_log,
            claim: a_repeated_claim_answers_the_first_one,
            claim: of_many_claims_at_once_one_runs,
            claim: a_live_lease_keeps_others_out,
            claim: a_finished_deleted_or_unknown_job_is_done,
            claim: a_conversation_runs_in_turn,
            claim: a_job_is_not_claimed_before_its_time,
            claim: an_unconfirmed_hint_makes_the_job_due,
            claim: a_confirmed_hint_leaves_the_due_index,
            claim: a_hint_that_nobody_acts_on_makes_the_job_due,
            claim: lanes_are_apart,
            lease: a_renewed_lease_outlives_its_length_tenfold,
            lease: a_lease_that_ended_is_taken_over_and_counts_as_a_death,
            lease: a_challenged_owner_that_renews_keeps_its_job,
            lease: a_challenged_owner_that_is_silent_loses_its_job,
            lease: a_challenge_of_one_job_is_one_of_all_its_owner_has,
            lease: a_worker_that_is_gone_loses_its_jobs,
            lease: a_release_gives_the_job_back_without_a_death,
            lease: a_released_job_waits_for_its_time,
            lease: the_old_owner_cannot_write_a_byte,
            log: an_append_extends_the_log,
            log: a_repeated_append_is_a_duplicate,
            log: an_append_past_the_end_is_told_where_the_log_ends,
            log: a_log_is_read_in_pages,
            log: a_subscriber_hears_all_that_is_written_after,
            log: followers_miss_nothing_while_the_log_grows,
            log: a_follower_resumes_after_any_event,
            close: the_terminal_event_is_the_last_one,
            close: the_tail_is_written_with_the_end,
            close: a_terminal_state_never_changes,
            close: of_many_ends_at_once_one_counts,
            close: a_kept_job_protects_what_it_cites,
            cancel: a_waiting_job_is_cancelled_at_once,
            cancel: a_running_job_is_cancelled_by_its_owner,
            cancel: a_cancel_that_is_not_obeyed_is_carried_out,
            cancel: a_cancelled_turn_lets_the_next_one_start,
            cancel: cancelling_what_is_over_or_unknown_changes_nothing,
            time: a_waiting_job_expires_at_its_deadline,
            time: a_running_job_without_text_expires,
            time: text_before_the_deadline_is_kept_as_incomplete,
            time: the_deadline_counts_from_not_before,
            time: an_owner_past_the_deadline_is_told,
            dead_letters: a_poison_job_dies_three_times_and_is_kept,
            dead_letters: a_failure_for_good_is_kept,
            dead_letters: a_replay_makes_one_new_job,
            dead_letters: a_dropped_letter_is_forgotten_and_its_job_stays,
            dead_letters: letters_are_listed_newest_first,
            conversations: answers_become_history_in_order,
            conversations: only_answers_become_history,
            conversations: messages_are_read_in_pages,
            conversations: conversations_are_listed_newest_first,
            conversations: a_conversation_with_an_open_job_is_not_deleted,
            conversations: a_deleted_conversation_takes_its_jobs_with_it,
            read: one_tenant_never_sees_another_s,
            read: jobs_are_listed_newest_first_and_filtered,
            read: a_deleted_job_is_gone_and_an_open_one_is_not_deleted,
            read: workers_that_live_are_listed,
            load: depth_agrees_with_the_truth,
            load: what_comes_due_soon_is_told_apart,
            load: what_arrives_is_counted_once_whatever_becomes_of_it,
            load: answers_are_counted_with_the_time_in_their_slots,
            load: what_expires_in_line_or_in_its_slot_is_no_answer,
            load: what_nobody_got_an_answer_from_is_counted,
            load: operators_see_what_each_tenant_has,
            load: a_tenant_is_unserved_while_its_due_job_waits_and_none_begins,
            lanes: a_paused_lane_takes_in_and_gives_nothing_until_it_is_resumed,
            lanes: a_paused_lane_loses_no_deadline_and_no_cancel,
            lanes: a_worker_is_told_to_drain_and_of_paused_lanes,
            fairness: the_least_served_tenant_is_next,
            fairness: one_tenant_s_jobs_run_oldest_first,
            fairness: a_line_is_what_could_start,
            fairness: one_slot_is_shared_too,
            fairness: a_tenant_runs_by_its_weight,
            fairness: a_job_of_a_quiet_tenant_does_not_wait_behind_a_backlog,
            fairness: a_tenant_runs_no_more_than_it_may,
            fairness: a_slot_of_a_tenant_comes_free_however_a_job_ends,
            fairness: a_job_that_lost_its_owner_keeps_its_slot,
            spending: usage_is_counted_by_tenant_model_and_day,
            spending: usage_is_counted_when_a_call_is_over_and_outlives_its_job,
            spending: a_repeated_append_books_a_call_once,
            spending: a_call_that_was_open_when_its_worker_died_is_booked_by_its_log,
            spending: an_open_call_is_booked_up_to_the_last_sign_of_its_worker,
            spending: an_open_call_of_a_model_that_nothing_is_known_of_is_booked_by_its_pieces,
            spending: an_open_call_is_booked_whoever_ends_the_job,
            spending: money_is_held_for_one_call_and_what_it_did_not_use_comes_back,
            spending: what_nobody_knows_counts_whole_against_a_budget,
            spending: a_budget_is_never_exceeded_by_many_at_once,
            spending: a_new_day_has_a_new_budget,
            spending: a_spent_budget_takes_in_nothing_new_and_answers_what_it_took_before,
        }
    };
    (@ $open:path, $($module:ident : $clause:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $clause() {
                $crate::conformance::store::$module::$clause(&$open().await).await;
            }
        )*
    };
}
