//! What a call takes at most. Pure.

use millhand_common::ports::{Dimension, LimitPolicy};

/// The longest answer to reserve for a job that says none, no longer than fits beside its prompt; `None`
/// where output is not limited.
pub(super) fn output_tokens(policy: &LimitPolicy, default: u32, input: u64) -> Option<u32> {
    if !policy.limits_output() {
        return None;
    }
    let beside = policy.per_minute(Dimension::Tokens).map(|limit| limit.saturating_sub(input).max(1));
    let most = [policy.per_minute(Dimension::OutputTokens), beside].into_iter().flatten();
    let most = most.min().unwrap_or(u64::MAX).min(u64::from(default));
    u32::try_from(most).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_is_bounded_where_output_is_limited_and_fits_beside_its_prompt() {
        let limits =
            |output, both| LimitPolicy { per_minute: [None, None, output, both], ..LimitPolicy::default() };
        assert_eq!(output_tokens(&limits(None, None), 2048, 100), None);
        assert_eq!(output_tokens(&limits(None, Some(100_000)), 2048, 100), Some(2048));
        assert_eq!(output_tokens(&limits(Some(500), Some(100_000)), 2048, 100), Some(500));
        assert_eq!(output_tokens(&limits(None, Some(1_000)), 2048, 900), Some(100));
        assert_eq!(output_tokens(&limits(None, Some(1_000)), 2048, 2_000), Some(1));
    }
}
