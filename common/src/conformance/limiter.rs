//! What every adapter of [`RateLimiter`] must do.
//!
//! An adapter's test calls [`limiter_conformance!`](crate::limiter_conformance) with a function that takes
//! a policy and returns a [`Subject`] on a pool of its own.

pub mod grants;
pub mod learning;
pub mod levels;
pub mod line;
pub mod quota;
pub mod random;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use uuid::Uuid;

use crate::ports::{
    Amounts, Asking, Forecast, Levels, LimitPolicy, Quota, QuotaMode, RateLimiter, Reserved, Said, Used,
};

/// A limiter, and the clock it runs on.
pub struct Subject {
    pub limiter: Arc<dyn RateLimiter>,
    /// In milliseconds.
    pub clock: Arc<AtomicU64>,
}

impl Subject {
    pub fn advance(&self, millis: u64) {
        self.clock.fetch_add(millis, Ordering::SeqCst);
    }

    pub fn step_back(&self, millis: u64) {
        self.clock.fetch_sub(millis, Ordering::SeqCst);
    }

    pub async fn reserve(&self, asking: &Asking) -> Reserved {
        self.limiter.reserve(asking).await.expect("reserve")
    }

    /// A call of its own.
    pub async fn ask(&self, input: u64, output: u64) -> Reserved {
        self.reserve(&asking(input, output)).await
    }

    /// A call that is granted.
    ///
    /// # Panics
    /// When it is not.
    pub async fn granted(&self, input: u64, output: u64) -> Uuid {
        let asking = asking(input, output);
        assert_eq!(self.reserve(&asking).await, Reserved::Granted, "{asking:?}");
        asking.call
    }

    pub async fn settle(&self, call: Uuid, used: Used) {
        self.limiter.settle(call, used).await.expect("settle");
    }

    pub async fn extend(&self, call: Uuid) {
        self.limiter.extend(call).await.expect("extend");
    }

    pub async fn observe(&self, call: Uuid, said: Said) {
        self.limiter.observe(call, &said).await.expect("observe");
    }

    pub async fn forecast(&self) -> Forecast {
        self.limiter.forecast().await.expect("forecast")
    }

    pub async fn offer(&self, most: u32) -> Forecast {
        self.limiter.offer(most).await.expect("offer")
    }

    pub async fn quota(&self) -> Option<Quota> {
        self.limiter.quota().await.expect("quota")
    }

    pub async fn levels(&self) -> Levels {
        self.limiter.levels().await.expect("levels")
    }
}

/// A call that nobody asked for before.
#[must_use]
pub fn asking(input: u64, output: u64) -> Asking {
    Asking { call: Uuid::now_v7(), ticket: Uuid::now_v7(), amounts: Amounts::call(input, output) }
}

/// The same step, tried again.
#[must_use]
pub fn again(asking: &Asking) -> Asking {
    Asking { call: Uuid::now_v7(), ..*asking }
}

/// So many tokens a minute in a bucket of a minute: 6,000 are 100 a second.
#[must_use]
pub fn tokens(per_minute: u64) -> LimitPolicy {
    LimitPolicy {
        per_minute: [None, None, None, Some(per_minute)],
        burst_seconds: 60,
        ..LimitPolicy::default()
    }
}

/// The same in a window.
#[must_use]
pub fn window(per_minute: u64) -> LimitPolicy {
    LimitPolicy { mode: QuotaMode::Window, ..tokens(per_minute) }
}

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Makes one test of each clause: `limiter_conformance!(open)`, where `open` is an async function from a
/// policy to a [`Subject`].
#[macro_export]
macro_rules! limiter_conformance {
    ($open:path) => {
        $crate::limiter_conformance! { @ $open,
            grants: nothing_is_there_at_first_and_it_fills_as_told,
            grants: a_call_is_granted_in_all_dimensions_or_in_none,
            grants: a_refusal_is_free,
            grants: what_was_not_used_comes_back,
            grants: what_was_used_beyond_is_a_debt,
            grants: a_broken_call_is_charged_whole_and_one_that_was_not_sent_not_at_all,
            grants: settling_and_extending_twice_is_once,
            grants: asking_again_for_a_granted_call_charges_once,
            grants: a_call_larger_than_all_there_is_never_starts,
            grants: a_call_larger_than_the_bucket_goes_alone_from_a_full_one,
            grants: as_many_calls_run_as_may,
            grants: a_dead_workers_place_and_charge_are_settled_in_time,
            grants: a_late_settlement_corrects_and_never_doubles,
            grants: a_clock_that_steps_back_gives_nothing,
            grants: a_window_gives_a_minute_s_worth_whatever_its_phase,
            grants: calls_at_once_never_get_more_than_there_is,
            line: a_place_is_kept_for_the_one_who_has_it,
            line: those_behind_come_after_large_or_small,
            line: another_worker_takes_the_place_of_the_same_step,
            line: a_place_that_is_not_taken_is_given_up_whole,
            line: who_waits_for_others_to_end_is_next,
            line: the_forecast_says_when_to_come,
            line: a_pull_is_offered_once,
            line: who_waits_for_others_to_end_is_called,
            learning: a_lower_limit_is_believed_at_once_and_a_higher_one_when_it_stays,
            learning: a_changed_limit_is_no_fresh_quota,
            learning: what_is_left_is_at_most_what_is_said,
            learning: a_larger_bucket_is_learned_from_what_is_left_in_it,
            learning: a_limit_that_nobody_configured_is_learned,
            learning: a_provider_that_charges_at_arrival_is_found_out,
            learning: a_refusal_holds_everybody_back_as_long_as_it_says,
            learning: what_a_refused_call_reserved_is_not_left_twice,
            learning: a_place_waits_for_what_is_found_missing,
            learning: when_a_window_begins_is_learned_from_headers_that_agree,
            quota: nothing_binds_before_a_size_is_known,
            quota: what_calls_took_counts_and_not_what_they_asked_for,
            quota: the_limit_that_binds_first_is_told,
            quota: a_minute_without_calls_uses_nothing,
            levels: what_is_left_falls_with_grants_and_comes_back_with_time,
            levels: a_debt_is_what_calls_took_beyond_and_not_what_the_line_keeps,
            levels: a_learned_limit_is_told,
            levels: calls_are_under_way_until_they_end_or_are_given_up,
        }
        #[test]
        fn the_limiter_does_what_the_core_says() {
            $crate::conformance::limiter::random::the_limiter_does_what_the_core_says(&$open);
        }
    };
    (@ $open:path, $($module:ident : $clause:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $clause() {
                $crate::conformance::limiter::$module::$clause(&$open).await;
            }
        )*
    };
}
