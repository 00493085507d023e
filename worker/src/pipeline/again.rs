//! Whether a failed model call is made again, here or by a later attempt. Pure.

use std::time::Duration;

use millhand_common::model::JobError;
use millhand_common::ports::ModelError;

use crate::attempt::Failure;

/// Calls made again before any text was shown.
const MAX_BEFORE_TEXT: u32 = 2;
/// Calls made again after text was shown: readers see it taken back.
const MAX_AFTER_TEXT: u32 = 1;
/// Bounds of the wait before another call in place; the wait is drawn from all of it.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const MAX_WAIT: Duration = Duration::from_secs(2);
/// A provider that asks for more than this is asked again by a later attempt: the slot is free then.
const MAX_RETRY_AFTER_IN_PLACE: Duration = Duration::from_secs(10);

/// How often a call was made again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tries {
    pub(crate) before_text: u32,
    pub(crate) after_text: u32,
}

/// How long to wait before the call is made again in place; `None`: not in place. `jitter` is drawn
/// from 0..1.
pub(crate) fn wait_before_retry(
    err: &ModelError,
    text_shown: bool,
    tries: &mut Tries,
    time_left: Duration,
    jitter: f64,
) -> Option<Duration> {
    let (made, most) = if text_shown {
        (&mut tries.after_text, MAX_AFTER_TEXT)
    } else {
        (&mut tries.before_text, MAX_BEFORE_TEXT)
    };
    if !err.is_transient() || *made == most {
        return None;
    }
    let wait = match err {
        // Never earlier than asked, and not all at the same moment.
        ModelError::RateLimited { retry_after: Some(asked), .. } => {
            *asked + asked.mul_f64(0.1 * jitter) + Duration::from_millis(20).mul_f64(jitter)
        }
        _ => (FIRST_WAIT * 2u32.pow(*made)).min(MAX_WAIT).mul_f64(jitter),
    };
    *made += 1;
    (wait < MAX_RETRY_AFTER_IN_PLACE && wait < time_left).then_some(wait)
}

/// What a model error means for the job once it is not tried again in place.
pub(crate) fn failure(err: &ModelError, model: &str) -> Failure {
    let retry = |code: &str, message: String, after| Failure::Retry {
        error: JobError::new(code, message, true),
        after,
    };
    match err {
        ModelError::RateLimited { retry_after, .. } => {
            retry("model_rate_limited", format!("the model `{model}` is at its rate limit"), *retry_after)
        }
        ModelError::TimedOut => {
            retry("model_timeout", format!("the model `{model}` did not answer in time"), None)
        }
        ModelError::Unavailable(_) | ModelError::Malformed(_) => {
            retry("model_error", format!("the model `{model}` failed: {err}"), None)
        }
        ModelError::Rejected(_) => {
            let message = format!("{err}; check [model] name and base_url, and what the request holds");
            Failure::Fatal(JobError::new("model_error", message, false))
        }
        ModelError::Unauthorized => {
            let message =
                "the model server did not accept the key: set MILLHAND_MODEL__API_KEY or OPENAI_API_KEY";
            Failure::Fatal(JobError::new("model_unauthorized", message, false))
        }
    }
}

/// The outcome of a call as metrics name it.
pub(crate) fn outcome(err: &ModelError) -> &'static str {
    match err {
        ModelError::RateLimited { .. } => "rate_limited",
        ModelError::Unavailable(_) => "unavailable",
        ModelError::TimedOut => "timed_out",
        ModelError::Malformed(_) => "malformed",
        ModelError::Rejected(_) => "rejected",
        ModelError::Unauthorized => "unauthorized",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_secs(60);

    #[test]
    fn transient_errors_are_tried_twice_before_text_and_once_after() {
        let err = ModelError::TimedOut;
        let mut tries = Tries::default();
        let mut again = |shown| wait_before_retry(&err, shown, &mut tries, MINUTE, 1.0);
        assert_eq!(again(false), Some(FIRST_WAIT));
        assert_eq!(again(false), Some(FIRST_WAIT * 2));
        assert_eq!(again(false), None);
        assert!(again(true).is_some());
        assert_eq!(again(true), None);
        let mut tries = Tries::default();
        assert_eq!(wait_before_retry(&ModelError::Unauthorized, false, &mut tries, MINUTE, 0.5), None);
    }

    #[test]
    fn retry_after_is_a_lower_bound_and_a_long_one_is_left_to_a_later_attempt() {
        let limited = |seconds| ModelError::RateLimited {
            retry_after: Some(Duration::from_secs(seconds)),
            limits: Box::default(),
        };
        let wait =
            |seconds, left| wait_before_retry(&limited(seconds), false, &mut Tries::default(), left, 0.3);
        assert!(wait(2, MINUTE).is_some_and(|wait| wait >= Duration::from_secs(2)));
        assert_eq!(wait(30, MINUTE), None);
        assert_eq!(wait(5, Duration::from_secs(3)), None);
        let Failure::Retry { after, .. } = failure(&limited(30), "m") else { panic!("not a retry") };
        assert_eq!(after, Some(Duration::from_secs(30)));
    }
}
