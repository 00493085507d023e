//! The ladder has rungs one above the other, and time to climb.

use std::time::Duration;

use millhand_common::brownout::BrownoutConfig;

use super::ConfigError;

/// Shares of the longest wait: more than this nobody waits for.
const MOST: f64 = 10.0;
const SHORTEST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(3600);

pub(super) fn check(brownout: &BrownoutConfig) -> Result<(), ConfigError> {
    let shares = brownout.shares().map(|(_, share)| share);
    if !shares.iter().all(|share| (0.001..=MOST).contains(share)) || !shares.is_sorted() {
        return rule(
            "`brownout`: `coalesce_at`, `fewer_passages_at`, `smaller_model_at`, `refuse_batch_at` and \
             `refuse_all_at` are shares of the longest wait between 0.001 and 10, none less than the one before \
             it; to leave out a step leave it out of `brownout.steps`",
        );
    }
    let times = [
        ("rise_after", Some(brownout.rise_after), "\"5s\""),
        ("fall_after", Some(brownout.fall_after), "\"30s\""),
        ("longest_wait", brownout.longest_wait, "\"60s\""),
    ];
    let wrong =
        times.into_iter().find(|(_, time, _)| time.is_some_and(|time| !(SHORTEST..=LONGEST).contains(&time)));
    if let Some((key, _, example)) = wrong {
        return rule(&format!("`brownout.{key}` is between 1 second and 1 hour, e.g. {example}"));
    }
    if brownout.max_output_tokens == Some(0) {
        return rule(
            "`brownout.max_output_tokens` is 0, so nothing could be answered: leave it out to have answers as long \
             as ever",
        );
    }
    Ok(())
}

fn rule(text: &str) -> Result<(), ConfigError> {
    Err(ConfigError::Rule(text.to_owned()))
}
