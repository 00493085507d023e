//! What follows a failed model call: made again in place, sent to another pool, left to a later attempt, or
//! given up. The one place that decides it. Pure.

use std::time::Duration;

use millhand_common::model::JobError;
use millhand_common::ports::ModelError;

use crate::attempt::Failure;
use crate::routing::OnUnavailable;

/// Calls of one pool made again before any text was shown.
const MAX_BEFORE_TEXT: u32 = 2;
/// Calls made again after text was shown: readers see it taken back.
const MAX_AFTER_TEXT: u32 = 1;
/// Bounds of the wait before another call in place; the wait is drawn from all that is between.
const MIN_WAIT: Duration = Duration::from_millis(100);
const MAX_WAIT: Duration = Duration::from_secs(1);
/// A provider that asks for more than this is asked again by a later attempt: the slot is free then.
const MAX_RETRY_AFTER_IN_PLACE: Duration = Duration::from_secs(10);
/// A pool that asks for more than this is not waited for while another one may serve.
pub(crate) const TOO_LONG: Duration = Duration::from_secs(120);
/// The wait after a rate limit that says nothing of it, where a limiter holds the others back.
const LIMITED_WAIT: Duration = Duration::from_secs(1);
/// The same where nothing does, and after an overload: bounds of what it is drawn from.
const FIRST_BACK: Duration = Duration::from_secs(1);
const LAST_BACK: Duration = Duration::from_secs(5);
/// A job looks at least this often whether a pool is well again, for it may be elsewhere; an old job takes
/// a quarter of its age.
const LOOK_AGAIN: Duration = Duration::from_secs(15);

/// Code of the failure that the same request would meet again, whoever sends it.
pub(crate) const REQUEST_REFUSED: &str = "model_error";

/// How often a call of one pool was made again.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tries {
    before_text: u32,
    after_text: u32,
}

/// What there is to know when a call has failed.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standing {
    pub(crate) text_shown: bool,
    pub(crate) time_left: Duration,
    /// A limiter holds everybody back after a rate limit.
    pub(crate) limited: bool,
    /// There is another pool to ask.
    pub(crate) others: bool,
    /// Drawn from 0..1.
    pub(crate) jitter: f64,
}

/// What follows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The same pool again, in place, after this wait.
    Again(Duration),
    /// The next pool, now.
    Elsewhere,
    /// Nothing went wrong with the job: it waits for the pool's quota in the queue.
    Yield(Duration),
    /// No call would do better.
    GiveUp,
}

/// What follows a call that failed with `err`. `may_retry` takes one retry out of the pool's budget.
pub(crate) fn next(
    err: &ModelError,
    standing: Standing,
    tries: &mut Tries,
    may_retry: impl FnOnce() -> bool,
) -> Next {
    let Standing { text_shown, time_left, limited, others, jitter } = standing;
    let (made, most) = if text_shown {
        (&mut tries.after_text, MAX_AFTER_TEXT)
    } else {
        (&mut tries.before_text, MAX_BEFORE_TEXT)
    };
    match err {
        ModelError::Rejected(_) | ModelError::Filtered(_) | ModelError::Unauthorized => Next::GiveUp,
        ModelError::TooLarge(_) | ModelError::NoCredit(_) | ModelError::Overloaded { .. } => Next::Elsewhere,
        ModelError::RateLimited { retry_after: Some(asked), .. } if *asked > TOO_LONG && others => {
            Next::Elsewhere
        }
        ModelError::RateLimited { retry_after, .. } if limited => {
            Next::Yield(retry_after.unwrap_or(LIMITED_WAIT))
        }
        ModelError::RateLimited { retry_after: None, .. } => Next::Yield(back(jitter)),
        ModelError::RateLimited { retry_after: Some(asked), .. } => {
            // Never earlier than asked, and not all at the same moment.
            let wait = *asked + (asked.mul_f64(0.1) + Duration::from_millis(20)).mul_f64(jitter);
            if *made == most || wait > MAX_RETRY_AFTER_IN_PLACE || wait >= time_left {
                return Next::Yield(wait);
            }
            *made += 1;
            Next::Again(wait)
        }
        ModelError::Unavailable(_) | ModelError::TimedOut | ModelError::Malformed(_) => {
            let wait = MIN_WAIT + (MAX_WAIT - MIN_WAIT).mul_f64(jitter);
            if *made == most || wait >= time_left || !may_retry() {
                return Next::Elsewhere;
            }
            *made += 1;
            Next::Again(wait)
        }
    }
}

/// The wait for what nobody can foretell, spread by `jitter` in 0..1.
pub(crate) fn back(jitter: f64) -> Duration {
    FIRST_BACK + (LAST_BACK - FIRST_BACK).mul_f64(jitter)
}

/// Why a pool does not serve a job.
#[derive(Debug)]
pub(crate) enum Why {
    /// Its quota comes after this long.
    Later(Duration),
    /// It is left alone for this long, since its calls fail, the last one like this.
    Shut(Duration, String),
    /// Its call failed and is not made again in place.
    Failed(ModelError),
    /// It never takes a call of this size.
    TooLarge(JobError),
}

/// What becomes of a job that no pool serves now.
#[derive(Debug)]
pub(crate) enum Ending {
    Failure(Failure),
    /// It is answered without a model.
    Quotations,
}

/// `why`: of each pool of the class, its name and why it does not serve. `age` is the job's, `jitter` in
/// 0..1.
pub(crate) fn without_pool(
    class: &str,
    on_unavailable: OnUnavailable,
    why: Vec<(&str, Why)>,
    age: Duration,
    jitter: f64,
) -> Ending {
    // A pool that will have quota can serve: nothing is unavailable.
    let later = why.iter().filter_map(|(_, why)| match why {
        Why::Later(after) => Some(*after),
        Why::Failed(ModelError::RateLimited { retry_after, .. }) => Some(retry_after.unwrap_or(LAST_BACK)),
        Why::Shut(..) | Why::Failed(_) | Why::TooLarge(_) => None,
    });
    if let Some(after) = later.min() {
        return Ending::Failure(Failure::NoQuota { after });
    }
    if why.iter().all(|(_, why)| matches!(why, Why::TooLarge(_) | Why::Failed(ModelError::TooLarge(_)))) {
        return Ending::Failure(too_large(why));
    }
    match on_unavailable {
        OnUnavailable::Extractive => return Ending::Quotations,
        OnUnavailable::Fail => return Ending::Failure(Failure::Fatal(unavailable(class, &why))),
        OnUnavailable::Wait => {}
    }
    let until = why.iter().filter_map(|(_, why)| match why {
        Why::Shut(pause, _) => Some((*pause).min(LOOK_AGAIN.max(age / 4)) + FIRST_BACK.mul_f64(jitter)),
        Why::Failed(ModelError::Overloaded { retry_after: Some(asked) }) => {
            Some(*asked + asked.mul_f64(0.1 * jitter))
        }
        Why::Failed(ModelError::Overloaded { retry_after: None }) => Some(back(jitter)),
        Why::Failed(ModelError::NoCredit(_)) => Some(LOOK_AGAIN.max(age / 4)),
        Why::Failed(_) | Why::Later(_) | Why::TooLarge(_) => None,
    });
    Ending::Failure(match until.min() {
        Some(after) => Failure::NoModel { after },
        None => Failure::Retry { error: unavailable(class, &why), after: None },
    })
}

fn too_large(why: Vec<(&str, Why)>) -> Failure {
    let last = why.into_iter().next_back();
    Failure::Fatal(match last {
        Some((_, Why::TooLarge(error))) => error,
        Some((pool, Why::Failed(err))) => {
            JobError::new("model_error", format!("pool `{pool}`: {err}"), false)
        }
        _ => JobError::new("model_error", "no pool takes a request of this size", false),
    })
}

/// Says of every pool what is wrong with it.
pub(crate) fn unavailable(class: &str, why: &[(&str, Why)]) -> JobError {
    let only = match why {
        [(_, Why::Failed(err))] => Some(err),
        _ => None,
    };
    let code = match only {
        Some(ModelError::TimedOut) => "model_timeout",
        Some(ModelError::Unavailable(_) | ModelError::Malformed(_)) => "model_error",
        _ => "model_unavailable",
    };
    let all: Vec<String> = why
        .iter()
        .map(|(pool, why)| match why {
            Why::Failed(err) => format!("pool `{pool}`: {err}"),
            Why::Shut(pause, last) => {
                format!("pool `{pool}` is left alone for {:.0} s: {last}", pause.as_secs_f64())
            }
            Why::Later(after) => format!("pool `{pool}` has no quota for {:.0} s", after.as_secs_f64()),
            Why::TooLarge(error) => format!("pool `{pool}`: {}", error.message),
        })
        .collect();
    JobError::new(code, format!("no model of the class `{class}` can answer now: {}", all.join("; ")), true)
}

/// What an error that no other call would mend means for the job.
pub(crate) fn refused(err: &ModelError, pool: &str) -> Failure {
    let section = if pool == crate::routing::DEFAULT { "model".to_owned() } else { format!("models.{pool}") };
    Failure::Fatal(match err {
        ModelError::Unauthorized => {
            let variable = section.replace('.', "__").to_uppercase();
            let openai = if section == "model" { " or OPENAI_API_KEY" } else { "" };
            let message =
                format!("the model server did not accept the key: set MILLHAND_{variable}__API_KEY{openai}");
            JobError::new("model_unauthorized", message, false)
        }
        // Not shared with who asks the same: a filter is a judgement, not a property of the request.
        ModelError::Filtered(_) => JobError::new("content_filtered", err.to_string(), false),
        err => {
            let message = format!("{err}; check [{section}] name and base_url, and what the request holds");
            JobError::new(REQUEST_REFUSED, message, false)
        }
    })
}

/// The outcome of a call as metrics name it.
pub(crate) fn outcome(err: &ModelError) -> &'static str {
    match err {
        ModelError::RateLimited { .. } => "rate_limited",
        ModelError::Overloaded { .. } => "overloaded",
        ModelError::Unavailable(_) => "unavailable",
        ModelError::TimedOut => "timed_out",
        ModelError::Malformed(_) => "malformed",
        ModelError::NoCredit(_) => "no_credit",
        ModelError::TooLarge(_) => "too_large",
        ModelError::Rejected(_) => "rejected",
        ModelError::Filtered(_) => "filtered",
        ModelError::Unauthorized => "unauthorized",
    }
}

#[cfg(test)]
mod tests;
