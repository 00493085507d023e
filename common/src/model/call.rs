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
    /// No answer of this model was seen by then: the figure above says nothing.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unmeasured: bool,
    /// How far the log is behind such an answer, on average, while it comes: in thousandths of a token.
    #[serde(default = "one_token")]
    pub unwritten: u64,
    pub price: Price,
    /// The table that the price is from.
    pub prices: String,
    /// What is held of its budgets, in billionths of a dollar.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub held_nano_usd: u64,
}

/// Where an answer comes slower than it is written, only the token that is on its way is missing.
fn one_token() -> u64 {
    1000
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

impl CallStarted {
    /// What the call has used if what is written is all that is known of its answer. Whoever died had more of it than
    /// that: about as much as is unwritten on average.
    ///
    /// The last piece bounds it: text that is written when its time has come is missing half a piece and the token
    /// that was on its way; text of which one piece is written while the next one gathers, one and a half. Two pieces
    /// show nothing: the first is written at once.
    #[must_use]
    pub fn in_doubt(&self, written: Written) -> CallUsed {
        let thousandths = |text: Measure, pieces| match self.unmeasured {
            true => 1000 * text.in_pieces(pieces),
            false => text.tokens() * self.output_per_thousand,
        };
        let last = thousandths(written.last, 1);
        let unwritten = match written.pieces {
            0 => 0,
            1 | 2 => self.unwritten,
            _ => self.unwritten.min((3 * last).saturating_sub(1000) / 2).max((last + 1000) / 2),
        };
        let output = nearest(thousandths(written.text, written.pieces) + unwritten, 1000);
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

/// What the log holds of an answer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    text: Measure,
    last: Measure,
    pieces: u64,
}

impl Written {
    /// One more piece of text.
    pub fn add(&mut self, piece: &str) {
        self.text.add(piece);
        self.last = Measure::of(piece);
        self.pieces += 1;
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
            unmeasured: false,
            unwritten: 2250,
            price: Price { input: 1_000_000, output: 2_000_000 },
            prices: "of today".to_owned(),
            held_nano_usd: 0,
        };
        let in_pieces = |pieces: &[&str]| {
            let mut written = Written::default();
            pieces.iter().for_each(|piece| written.add(piece));
            written
        };
        let text = in_pieces(&["eight", " ch", "水"]);
        let used = call.in_doubt(text);
        // Four and a half tokens are there in pieces of one and a half, and one and three quarters are not.
        assert_eq!((used.input_tokens, used.output_tokens, used.nano_usd), (100, 6, 112));
        assert_eq!((used.call, used.certainty), (call.call, Certainty::InDoubt));
        // Two and a quarter.
        assert_eq!(call.in_doubt(in_pieces(&["eight ch", "水"])).output_tokens, 7);
        call.max_output_tokens = Some(4);
        assert_eq!(call.in_doubt(text).output_tokens, 4, "it was cut there");
        assert_eq!(call.in_doubt(Written::default()).nano_usd, 100);
        call = CallStarted { output_per_thousand: 1000, max_output_tokens: None, ..call };
        let output = |unwritten, unmeasured, pieces: &[usize]| {
            let texts: Vec<String> = pieces.iter().map(|tokens| "水".repeat(*tokens)).collect();
            let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
            CallStarted { unwritten, unmeasured, ..call.clone() }.in_doubt(in_pieces(&texts)).output_tokens
        };
        assert_eq!(
            [500, 1500].map(|behind| output(behind, false, &[2, 2])),
            [4, 6],
            "of halves now up, now down"
        );
        assert_eq!(output(30_000, false, &[1; 9]), 10, "it is written as it comes");
        // It has just begun to gather; it is written as fast as it can be.
        assert_eq!([1000, 30_000].map(|behind| output(behind, false, &[1, 1, 1, 12])), [22, 32]);
        assert_eq!(output(1000, true, &[1, 1, 1, 2]), 6, "a piece for each token");
        assert_eq!(output(1000, true, &[1, 3, 2, 1]), 8, "or not");
    }

    #[test]
    fn what_an_earlier_version_wrote_can_be_read() {
        let old = format!(
            r#"{{"call":"{}","model":"m","input_tokens":7,"output_per_thousand":900,"price":{{"input":1,"output":2}},"prices":""}}"#,
            Uuid::nil()
        );
        let call: CallStarted = serde_json::from_str(&old).unwrap();
        assert_eq!((call.unwritten, call.unmeasured, call.max_output_tokens), (1000, false, None));
        let old = r#"{"input_tokens":7,"output_tokens":3,"cost_usd":0.0}"#;
        let used: CallUsed = serde_json::from_str(old).unwrap();
        assert_eq!((used.input_tokens, used.output_tokens, used.nano_usd), (7, 3, 0));
    }
}
