//! Every metric name and span field, with unit and meaning.
//!
//! Labels come from closed sets, never from ids; logs and metrics never hold prompts, replies or keys.

use metrics::{Unit, counter, describe_counter, describe_gauge, describe_histogram};

use crate::model::Status;

macro_rules! signals {
    ($($kind:ident $name:ident = $text:literal, $unit:ident, $help:literal;)*) => {
        $(#[doc = $help] pub const $name: &str = $text;)*

        fn describe() {
            $($kind!($name, Unit::$unit, $help);)*
        }
    };
}

signals! {
    describe_counter JOBS_ACCEPTED = "millhand_api_jobs_accepted_total", Count, "Jobs accepted. Labels `kind`, `lane`.";
    describe_counter JOBS_REFUSED = "millhand_api_jobs_refused_total", Count, "Jobs not let in: more waits than they could wait for, their tenant's line is full or it submits too often, a brownout refuses them, or this process has all hands full. Label `reason`.";
    describe_gauge LONGEST_WAIT = "millhand_api_longest_wait_seconds", Seconds, "The longest predicted wait with which a job of the usual deadline is let in. Label `lane`.";
    describe_gauge PREDICTED_WAIT = "millhand_api_predicted_wait_seconds", Seconds, "How long all that waits now takes to begin, as this process sees it. Label `lane`.";
    describe_counter REQUESTS = "millhand_api_requests_total", Count, "HTTP requests answered. Labels `method`, `route`, `status`.";
    describe_gauge STREAM_READERS = "millhand_api_stream_readers", Count, "Open event streams. Label `transport`.";
    describe_counter STREAM_RESUMES = "millhand_api_stream_resumes_total", Count, "Streams opened after a cursor above 0.";
    describe_counter STREAM_GAPS = "millhand_api_stream_gaps_total", Count, "Events handed to a reader out of order. Must be 0.";
    describe_counter STREAM_REREADS = "millhand_api_stream_rereads_total", Count, "Times a reader read the log again because live news skipped an event.";
    describe_counter JOBS_TERMINAL = "millhand_store_jobs_terminal_total", Count, "Jobs ended. Label `status`.";
    describe_histogram JOB_DURATION = "millhand_store_job_duration_seconds", Seconds, "From accept to the terminal state.";
    describe_histogram QUEUE_TIME = "millhand_store_queue_time_seconds", Seconds, "From accept to the first claim.";
    describe_histogram FIRST_TOKEN_TIME = "millhand_worker_first_token_time_seconds", Seconds, "From accept to the first text.";
    describe_histogram JOB_ATTEMPTS = "millhand_store_job_attempts", Count, "Attempts a job took.";
    describe_counter FENCED_WRITES = "millhand_store_fenced_writes_total", Count, "Writes refused because their epoch was passed.";
    describe_counter TAKEOVERS = "millhand_store_takeovers_total", Count, "Claims of a job whose owner died or froze.";
    describe_counter REDELIVERIES = "millhand_worker_redeliveries_total", Count, "Hints the broker lent a second time.";
    describe_counter HINTS_HANDED_ON = "millhand_worker_hints_handed_on_total", Count, "Hints that a full worker moved to the due index for others.";
    describe_counter HINTS_SKIPPED = "millhand_broker_hints_skipped_total", Count, "Messages in the queue that are no hints, taken out and skipped.";
    describe_counter SWEEPER_DUE = "millhand_store_sweeper_republications_total", Count, "Jobs made due because nobody acted on their hint for so long that the broker may have lost it.";
    describe_gauge WORKERS_LIVE = "millhand_store_live_workers", Count, "Workers that say they live. Label `state`: `working`, `draining`.";
    describe_gauge BROKER_HINTS = "millhand_broker_hints", Count, "Hints as the broker counts them. Label `lane`.";
    describe_gauge QUEUE_DEPTH = "millhand_store_queue_depth_jobs", Count, "Ready jobs as the store counts them. Label `lane`.";
    describe_gauge QUEUE_OLDEST_AGE = "millhand_store_queue_oldest_age_seconds", Seconds, "Age of the oldest ready job. Label `lane`.";
    describe_gauge TENANTS = "millhand_store_tenants", Count, "Tenants with jobs waiting, with jobs running, and with jobs waiting while they run as many as they may. Label `state`: `waiting`, `running`, `capped`.";
    describe_gauge TENANT_UNSERVED = "millhand_store_tenant_unserved_seconds", Seconds, "For how long the first due job of some tenant has waited without one of its jobs beginning, though it may run more: the longest over all tenants.";
    describe_gauge TENANT_SHARE = "millhand_store_tenant_share_ratio", Count, "Of all that the tenants with jobs in line run, the part of one of them, as a multiple of the part that its weight gives it: of the tenant that has least, and of the one that has most. 1 is just, and where fewer than two compete. Label `of`: `least`, `most`.";
    describe_counter CLAIMS = "millhand_worker_claims_total", Count, "Attempts begun: of the tenant whose turn it was, or by a hint as it came. Labels `by`: `turn`, `hint`, and `lane`.";
    describe_gauge WORKER_RUNNING = "millhand_worker_running_jobs", Count, "Jobs running in this process.";
    describe_gauge WORKER_SLOTS = "millhand_worker_slots", Count, "Jobs this process runs at a time.";
    describe_counter MODEL_CALLS = "millhand_worker_model_calls_total", Count, "Model calls sent. Labels `model`, `outcome`.";
    describe_counter MODEL_TOKENS = "millhand_worker_model_tokens_total", Count, "Tokens of calls that are over, as the provider counted them, else estimated. Labels `model`, `direction`.";
    describe_counter MODEL_COST = "millhand_worker_model_cost_nano_usd_total", Count, "Billionths of a dollar spent on model calls; what dead workers spent is in /v1/usage only. Label `model`.";
    describe_counter BUDGET_REFUSALS = "millhand_budget_refusals_total", Count, "Model calls that were not made, and jobs not accepted, for want of money. Label `reason`.";
    describe_counter MODEL_USAGE_INEXACT = "millhand_model_usage_inexact_total", Count, "Model calls whose tokens the provider did not tell: they are estimated. Label `model`.";
    describe_counter MODEL_STREAM_CUTS = "millhand_model_stream_cuts_total", Count, "Model calls that broke off after their first text. Label `pool`.";
    describe_counter MODEL_LIMITED = "millhand_worker_model_rate_limited_total", Count, "429 answers of the provider. Label `model`.";
    describe_gauge MODEL_LIMIT = "millhand_worker_model_limit_units", Count, "A limit per minute as the provider last told it. Labels `model`, `dimension`.";
    describe_gauge MODEL_REMAINING = "millhand_worker_model_remaining_units", Count, "What was left of a limit as the provider last told it. Labels `model`, `dimension`.";
    describe_gauge MODEL_BREAKER_STATE = "millhand_model_breaker_state", Count, "Whether this process leaves a pool alone: 0 no, 1 yes, 0.5 while one call finds out. Label `pool`.";
    describe_gauge MODEL_RETRY_BUDGET_LEFT = "millhand_model_retry_budget_left", Count, "Calls that may be made again in place, as of the last one. Label `pool`.";
    describe_gauge MODEL_WIDTH = "millhand_model_width_calls", Count, "Calls of a pool that this process makes at a time since the provider had too much to do (503, 529), as of the last call; 0 for any number. Label `pool`.";
    describe_counter MODEL_RETRIES = "millhand_model_retries_total", Count, "Calls made again in place. Label `pool`.";
    describe_counter MODEL_FALLBACKS = "millhand_model_fallbacks_total", Count, "Calls sent to a pool that was not the job's first. Label `pool`.";
    describe_counter MODEL_UNAVAILABLE = "millhand_model_unavailable_total", Count, "Times that no pool could serve a job. Labels `class`, `then`.";
    describe_counter LIMITER_ANSWERS = "millhand_limiter_answers_total", Count, "Answers to workers that asked for model quota. Label `answer`.";
    describe_histogram LIMITER_WAIT = "millhand_limiter_wait_seconds", Seconds, "How long a job that was given back for want of model quota is to wait. Label `size` of what its call may take: `small` (to 2,000 tokens), `medium` (to 16,000), `large`.";
    describe_histogram LIMITER_PARKED = "millhand_limiter_parked_in_worker_seconds", Seconds, "Time a job held its slot while it waited for model quota.";
    describe_counter LIMITER_YIELDS = "millhand_limiter_yields_total", Count, "Jobs given back for want of model quota. Label `reason`.";
    describe_counter LIMITER_REFUSALS = "millhand_limiter_refusals_total", Count, "429 answers of the provider though the limiter had granted. Should be 0.";
    describe_counter LIMITER_STALE = "millhand_limiter_stale_grants_total", Count, "Grants that came too late to be sent, and were given back.";
    describe_histogram LIMITER_RESERVE_TIME = "millhand_limiter_reserve_time_seconds", Seconds, "How long the limiter took to answer one question for model quota.";
    describe_histogram LIMITER_ASKED = "millhand_limiter_asked_ratio", Count, "How many times as many tokens as a call then used it had been asked for at most. Far above 1, answers are bounded too high: see max_output_tokens.";
    describe_gauge LIMITER_USED = "millhand_limiter_used_ratio", Count, "Share of a pool's limit that was used in the last minute, 0 to 1, over all workers. Labels `pool`, `dimension`.";
    describe_gauge LIMITER_LIMIT = "millhand_limiter_limit_units", Count, "Units a minute (calls at a time, for `concurrency`) that a pool gives out: as configured, or less, as the provider's headers and refusals have told. Labels `pool`, `dimension`.";
    describe_gauge LIMITER_LEFT = "millhand_limiter_left_units", Count, "Units of a pool that calls may reserve at once. Labels `pool`, `dimension`.";
    describe_gauge LIMITER_DEBT = "millhand_limiter_debt_units", Count, "Units of a pool that calls took beyond what there was: later calls wait until time has paid them. Labels `pool`, `dimension`.";
    describe_gauge LIMITER_ACTIVE = "millhand_limiter_active_leases", Count, "Calls of a pool that were granted and have not ended, over all workers. Label `pool`.";
    describe_counter LIMITER_EXPIRED = "millhand_limiter_expired_leases_total", Count, "Calls of a pool that were taken for ended because their worker no longer said that they go on, over all workers. Label `pool`.";
    describe_counter CACHE_RESULTS = "millhand_cache_results_total", Count, "Model calls of deterministic agents: kept answer (`hit`), answer of a call that was under way (`flight`), call made (`miss`), call made without the cache (`away`). Label `result`.";
    describe_counter CACHE_SAVED = "millhand_cache_saved_tokens_total", Count, "Tokens of answers that were given again without a call, as they were counted then. Label `direction`.";
    describe_gauge SCALE_WORKERS = "millhand_scale_workers", Count, "Workers of this supervisor. Label `state`.";
    describe_gauge SCALE_WANTED = "millhand_scale_wanted_workers", Count, "Workers there should be, by the last decision of this process.";
    describe_gauge SCALE_QUOTA_USED = "millhand_scale_quota_used_ratio", Count, "Share of the models' quota used in the last minute, 0 to 1; 0 where nothing limits.";
    describe_gauge SCALE_DECIDED = "millhand_scale_decided_timestamp_seconds", Seconds, "When it was last decided how many workers there should be, as a Unix time.";
    describe_gauge SCALE_REASON = "millhand_scale_reason", Count, "1 for what the last decision came from, 0 for all else. Label `reason`: `idle`, `load`, `late`, `quota`, `stalled`, `running`, `settling`, `max`, `min`.";
    describe_counter SCALE_DECISIONS = "millhand_scale_decisions_total", Count, "Decisions that changed the number of workers. Label `reason`.";
    describe_counter SCALE_STARTS = "millhand_scale_starts_total", Count, "Workers started.";
    describe_counter SCALE_CRASHES = "millhand_scale_crashes_total", Count, "Workers that crashed or could not be started.";
    describe_histogram CLIENT_TOKENS = "gen_ai_client_token_usage", Count, "Tokens of one model call (gen_ai.client.token.usage).";
    describe_histogram CLIENT_DURATION = "gen_ai_client_operation_duration_seconds", Seconds, "One model call, from sending it to its end (gen_ai.client.operation.duration).";
    describe_histogram CLIENT_FIRST_CHUNK = "gen_ai_client_operation_time_to_first_chunk_seconds", Seconds, "From sending a model call to its first text (gen_ai.client.operation.time_to_first_chunk).";
    describe_histogram CLIENT_OUTPUT_CHUNK = "gen_ai_client_operation_time_per_output_chunk_seconds", Seconds, "From one piece of a model's answer to the next (gen_ai.client.operation.time_per_output_chunk).";
    describe_histogram AGENT_DURATION = "gen_ai_invoke_agent_duration_seconds", Seconds, "One attempt at a job of an agent (gen_ai.invoke_agent.duration).";
    describe_histogram WORKFLOW_DURATION = "gen_ai_workflow_duration_seconds", Seconds, "A job of an agent that a worker ended, from its first attempt to its end, with all attempts and the waiting between them (gen_ai.workflow.duration).";
    describe_histogram TOOL_DURATION = "gen_ai_execute_tool_duration_seconds", Seconds, "One call of a tool (gen_ai.execute_tool.duration).";
    describe_gauge BROWNOUT_LEVEL = "millhand_brownout_level", Count, "The hardest step of the brownout ladder that this process takes: 0 none, 1 text in larger pieces, 2 fewer passages, 3 smaller model, 4 batch jobs refused, 5 all jobs refused.";
    describe_counter DEGRADED_ANSWERS = "millhand_worker_degraded_answers_total", Count, "Answers that went without something for the load. Label `what`.";
    describe_counter DOCUMENTS_INGESTED = "millhand_worker_documents_ingested_total", Count, "Documents ingested. Label `outcome`.";
    describe_histogram STORE_COMMIT = "millhand_store_commit_time_seconds", Seconds, "Time of one group commit, sync included.";
    describe_histogram STORE_BATCH = "millhand_store_commit_operations", Count, "Store operations in one group commit.";
}

/// Tells the recorder what each metric means, and starts at zero what is told by its first step: a counter
/// that appears with one has not risen, as Prometheus sees it.
pub fn begin() {
    describe();
    for name in [
        STREAM_RESUMES,
        STREAM_GAPS,
        STREAM_REREADS,
        FENCED_WRITES,
        TAKEOVERS,
        REDELIVERIES,
        HINTS_HANDED_ON,
        HINTS_SKIPPED,
        SWEEPER_DUE,
        LIMITER_REFUSALS,
        LIMITER_STALE,
    ] {
        counter!(name).increment(0);
    }
    for status in Status::ALL.into_iter().filter(|status| status.is_terminal()) {
        counter!(JOBS_TERMINAL, "status" => status.as_str()).increment(0);
    }
    for reason in ["overloaded", "too_many_queued"] {
        counter!(JOBS_REFUSED, "reason" => reason).increment(0);
    }
    for reason in ["submit", "over_job", "over_day", "busy"] {
        counter!(BUDGET_REFUSALS, "reason" => reason).increment(0);
    }
}

/// The trace id inside a W3C `traceparent`; `None` when it is not one.
#[must_use]
pub fn trace_id(traceparent: &str) -> Option<&str> {
    let mut parts = traceparent.split('-');
    let (version, trace, span) = (parts.next()?, parts.next()?, parts.next()?);
    let hex = |text: &str, length| text.len() == length && text.bytes().all(|b| b.is_ascii_hexdigit());
    (hex(version, 2) && hex(trace, 32) && hex(span, 16) && trace.bytes().any(|b| b != b'0')).then_some(trace)
}

/// A `traceparent` for work under the span that runs, when it is exported; else under `parent`'s trace with
/// a new span, or of a new trace.
#[must_use]
pub fn child_traceparent(parent: Option<&str>) -> String {
    if let Some(exported) = crate::trace::current() {
        return exported;
    }
    let fresh = uuid::Uuid::new_v4().simple().to_string();
    let trace = parent.and_then(trace_id).unwrap_or(&fresh);
    let span = &uuid::Uuid::new_v4().simple().to_string()[..16];
    format!("00-{trace}-{span}-01")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_child_keeps_the_trace_of_its_parent() {
        let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
        let child = child_traceparent(Some(parent));
        assert_eq!(trace_id(&child), trace_id(parent));
        assert_ne!(child, parent);
        assert!(trace_id("00-xyz").is_none());
        assert!(trace_id(&child_traceparent(Some("junk"))).is_some());
    }
}
