//! Jobs that are refused in a brownout, whenever they could start. What is read, resumed or cancelled is not.

use millhand_common::brownout::{Brownout, Step};
use millhand_common::model::{JobSpec, Lane, Timestamp};
use millhand_common::telemetry;

use crate::admission::retry_after;
use crate::error::ApiError;

/// Refuses a job that is to start now, when jobs of its lane are not accepted now.
pub(crate) fn check(brownout: &Brownout, spec: &JobSpec) -> Result<(), ApiError> {
    let waits_now = spec.not_before.is_none_or(|at| at <= Timestamp::now());
    let batch = spec.lane == Lane::Batch && brownout.takes(Step::RefuseBatch);
    if !waits_now || !(batch || brownout.takes(Step::RefuseAll)) {
        return Ok(());
    }
    let detail = if batch {
        "So much work waits that no batch job is taken for now."
    } else {
        "So much work waits that no job is taken for now."
    };
    metrics::counter!(telemetry::JOBS_REFUSED, "reason" => "brownout").increment(1);
    // A step is taken back this long after the load has fallen, at the earliest.
    let after = retry_after(brownout.config().fall_after);
    Err(ApiError::unavailable("overloaded", detail, after))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use millhand_common::brownout::BrownoutConfig;
    use serde_json::json;

    use super::*;

    #[test]
    fn batch_jobs_are_refused_first_then_all_but_never_what_is_for_later() {
        let spec = |lane: &str| -> JobSpec {
            serde_json::from_value(json!({
                "id": millhand_common::model::JobId::new(), "tenant": "default", "lane": lane, "agent": "chat",
                "deadline": "1m", "input": {"kind": "chat", "messages": []},
            }))
            .unwrap()
        };
        let refused = |brownout: &Brownout| {
            let later =
                JobSpec { not_before: Some(Timestamp::now() + Duration::from_secs(60)), ..spec("batch") };
            [spec("interactive"), spec("batch"), later].map(|spec| check(brownout, &spec).is_err())
        };
        let at =
            |step| Brownout::at(BrownoutConfig { steps: Step::ALL.to_vec(), ..Default::default() }, step);
        assert_eq!(refused(&Brownout::default()), [false; 3]);
        assert_eq!(refused(&at(Step::SmallerModel)), [false; 3]);
        assert_eq!(refused(&at(Step::RefuseBatch)), [false, true, false]);
        assert_eq!(refused(&at(Step::RefuseAll)), [true, true, false]);
        let error = check(&at(Step::RefuseAll), &spec("interactive")).unwrap_err();
        assert_eq!((error.status, error.code), (http::StatusCode::SERVICE_UNAVAILABLE, "overloaded"));
        assert!((31..=60).contains(&error.retry_after.unwrap()));
    }
}
