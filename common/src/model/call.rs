//! Model calls as the log books them: one event when a call goes out, one when it is over. Together they
//! are the ledger: whatever ends a job, what it has spent follows from its log.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::Usage;
use crate::prices::Price;
use crate::tokens::Measure;

/// A model is about to be called; what is needed to book the call if nobody says how it ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CallStarted {
    /// New for each call that is sent.
    pub call: Uuid,
    pub model: String,
    /// Of the prompt, about.
    pub input_tokens: u64,
    /// The longest answer that was asked for.
    #[serde(default)]
    pub max_output_tokens: Option<u32>,
    /// What a thousand tokens of answer, as [`Measure`] counts, have been with this model so far.
    pub output_per_thousand: u64,
    pub price: Price,
    /// The table that the price is from.
    pub prices: String,
    /// What is held of its budgets, in billionths of a dollar.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub held_nano_usd: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl CallStarted {
    /// What the call has used if `text`, written in so many pieces, is all that is known of its answer.
    ///
    /// While one piece is being written the next one gathers. So whoever died had a piece under way and half of
    /// the next one in hand, about, where pieces are of many tokens. Where they are of one token each, they are
    /// written faster than they come, and one token is missing: so one and a half pieces without half a token.
    #[must_use]
    pub fn in_doubt(&self, text: Measure, pieces: u64) -> CallUsed {
        let (written, pieces) = (text.tokens() * self.output_per_thousand, pieces.max(1));
        let unwritten = (3 * written).saturating_sub(1000 * pieces);
        let output = nearest(2 * pieces * written + unwritten, 2000 * pieces);
        let most = self.max_output_tokens.map_or(u64::MAX, u64::from);
        self.used(self.input_tokens, output.min(most), Certainty::InDoubt)
    }

    /// The call is over.
    #[must_use]
    pub fn used(&self, input_tokens: u64, output_tokens: u64, certainty: Certainty) -> CallUsed {
        CallUsed {
            call: self.call,
            model: self.model.clone(),
            input_tokens,
            output_tokens,
            nano_usd: self.price.cost(input_tokens, output_tokens),
            certainty,
        }
    }
}

/// The whole number nearest to `a / b`; of two the even one, so that many of them are neither more nor less.
fn nearest(a: u64, b: u64) -> u64 {
    let (whole, rest) = (a / b, a % b);
    whole + u64::from(2 * rest > b || (2 * rest == b && whole % 2 == 1))
}

/// What one model call has used; each call has one, whatever became of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct CallUsed {
    pub call: Uuid,
    pub model: String,
    pub input_tokens: u64,
    pub output_tokens: u64,
    /// Billionths of a dollar.
    pub nano_usd: u64,
    pub certainty: Certainty,
}

/// How well it is known what a call has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Certainty {
    /// As the provider counted; nothing, when it refused the call.
    #[default]
    Exact,
    /// Counted here: the answer was cut, or its provider does not count.
    Estimated,
    /// Its worker died: by what the log holds of the answer.
    InDoubt,
}

/// What a job has spent on all its calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Spent {
    pub calls: u64,
    pub usage: Usage,
}

impl Spent {
    /// One more call.
    pub fn add(&mut self, used: &CallUsed) {
        self.calls += 1;
        self.usage.input_tokens += used.input_tokens;
        self.usage.output_tokens += used.output_tokens;
        self.usage.nano_usd += used.nano_usd;
    }

    /// `None` where no model was called.
    #[must_use]
    pub fn usage(&self) -> Option<Usage> {
        (self.calls > 0).then_some(self.usage)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_call_in_doubt_is_booked_by_what_is_there_of_its_answer() {
        let mut call = CallStarted {
            call: Uuid::now_v7(),
            model: "m".to_owned(),
            input_tokens: 100,
            max_output_tokens: None,
            output_per_thousand: 1500,
            price: Price { input: 1_000_000, output: 2_000_000 },
            prices: "of today".to_owned(),
            held_nano_usd: 0,
        };
        let text = Measure::of("eight ch水");
        let used = call.in_doubt(text, 3);
        // Four and a half tokens are there in pieces of one and a half, and one and three quarters are not.
        assert_eq!((used.input_tokens, used.output_tokens, used.nano_usd), (100, 6, 112));
        assert_eq!((used.call, used.certainty), (call.call, Certainty::InDoubt));
        call.max_output_tokens = Some(4);
        assert_eq!(call.in_doubt(text, 3).output_tokens, 4, "it was cut there");
        assert_eq!(call.in_doubt(Measure::default(), 0).nano_usd, 100);
        call = CallStarted { output_per_thousand: 1000, max_output_tokens: None, ..call };
        let of_pieces =
            |tokens: usize, pieces| call.in_doubt(Measure::of(&"水".repeat(tokens)), pieces).output_tokens;
        assert_eq!((of_pieces(30, 30), of_pieces(31, 31)), (31, 32));
        assert_eq!((of_pieces(40, 4), of_pieces(3, 9)), (54, 3));
    }

    #[test]
    fn what_an_earlier_version_wrote_can_be_read() {
        let old = r#"{"input_tokens":7,"output_tokens":3,"cost_usd":0.0}"#;
        let used: CallUsed = serde_json::from_str(old).unwrap();
        assert_eq!((used.input_tokens, used.output_tokens, used.nano_usd), (7, 3, 0));
    }
}
