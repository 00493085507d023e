//! What a call takes at most. Pure.

use millhand_common::ports::{ChatMessage, Dimension, LimitPolicy};

/// Tokens that a message costs beside its text, at most.
const PER_MESSAGE: u64 = 8;

/// More than any common tokenizer makes of a prompt: a token for two ASCII characters (they make one of
/// three or four), and two for three bytes of anything else (they make at most one and a half of a Chinese
/// character). What was too much comes back when the call is settled.
pub(super) fn input_tokens(messages: &[ChatMessage]) -> u64 {
    let of_message = |message: &ChatMessage| {
        let ascii = message.content.bytes().filter(u8::is_ascii).count();
        let other = message.content.len() - ascii;
        PER_MESSAGE + (ascii.div_ceil(2) + (other * 2).div_ceil(3)) as u64
    };
    messages.iter().map(of_message).sum()
}

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
    use millhand_common::ports::ChatRole;

    use super::*;

    fn tokens(text: &str) -> u64 {
        input_tokens(&[ChatMessage { role: ChatRole::User, content: text.to_owned() }]) - PER_MESSAGE
    }

    #[test]
    fn prompts_are_counted_generously() {
        assert_eq!((tokens(""), tokens("abc"), tokens("水车"), tokens("a水")), (0, 2, 4, 3));
    }

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
