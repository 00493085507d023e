//! Model calls as the log books them: one event when a call goes out, one when it is over. Together they
//! are the ledger: whatever ends a job, what it has spent follows from its log.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{Timestamp, Usage};
use crate::prices::Price;
use crate::tokens::Measure;

/// Of a token: half of one was on its way, on average.
const ON_ITS_WAY: u64 = 500;
/// In milliseconds: in a brownout text is written ten times a second. If nothing was written for longer than
/// this, and for longer than the store took before, then nothing had come.
const LONGEST_GAP: u64 = 250;
/// An answer that came for so many milliseconds shows its own pace.
const LONG_ENOUGH: u64 = 100;

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
    /// How fast its answers have come so far, in thousandths of a token a second; 0 where that is not known.
    #[serde(default)]
    pub pace: u64,
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
    /// What the call has used if what is written is all that is known of its answer. Whoever died had more of it than
    /// that: what came between the last piece and its death, of which `heard` tells.
    #[must_use]
    pub fn in_doubt(&self, written: Written, heard: Option<LastHeard>) -> CallUsed {
        let output =
            nearest(self.thousandths(written.text, written.pieces) + self.unwritten(written, heard), 1000);
        let most = self.max_output_tokens.map_or(u64::MAX, u64::from);
        self.used(self.input_tokens, output.min(most), Certainty::InDoubt)
    }

    /// Thousandths of a token in such a text.
    fn thousandths(&self, text: Measure, pieces: u64) -> u64 {
        match self.unmeasured {
            true => 1000 * text.in_pieces(pieces),
            false => text.tokens() * self.output_per_thousand,
        }
    }

    /// Thousandths of a token that came after the last piece was written.
    fn unwritten(&self, written: Written, heard: Option<LastHeard>) -> u64 {
        if written.pieces == 0 {
            return 0;
        }
        let every = written.last.saturating_sub(written.before);
        let heard = heard.map(|heard| (heard.at.as_millis(), heard.jobs.max(1)));
        let (at, jobs) = heard.filter(|(at, _)| *at >= written.last).unwrap_or((written.last, 1));
        // The next sign of life would have come when one of these jobs wrote again: it died half way to it.
        let silent = at - written.last + every / (2 * jobs);
        if silent > LONGEST_GAP.max(3 * every) {
            return 0;
        }
        let came_in = written.last.saturating_sub(written.first);
        let came = if self.pace > 0 && came_in < LONG_ENOUGH || came_in == 0 {
            self.pace * silent / 1000
        } else {
            self.thousandths(written.rest, written.pieces - 1) * silent / came_in
        };
        came + ON_ITS_WAY
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
    /// All but the first piece.
    rest: Measure,
    pieces: u64,
    /// When the first was written, in milliseconds.
    first: u64,
    /// The last but one.
    before: u64,
    last: u64,
}

impl Written {
    /// One more piece of text, and when it was written.
    pub fn add(&mut self, piece: &str, at: Timestamp) {
        let at = at.as_millis();
        self.text.add(piece);
        if self.pieces == 0 {
            (self.first, self.last) = (at, at);
        } else {
            self.rest.add(piece);
        }
        (self.before, self.last) = (self.last, at);
        self.pieces += 1;
    }
}

/// The last sign of life of a worker that died.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LastHeard {
    /// When it wrote the last event of all its jobs that the store sees together: in Redis those of a shard.
    pub at: Timestamp,
    /// How many it had.
    pub jobs: u64,
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

    fn call() -> CallStarted {
        CallStarted {
            call: Uuid::now_v7(),
            model: "m".to_owned(),
            input_tokens: 100,
            max_output_tokens: None,
            output_per_thousand: 1000,
            unmeasured: false,
            pace: 125_000,
            price: Price { input: 1_000_000, output: 2_000_000 },
            prices: "of today".to_owned(),
            held_nano_usd: 0,
        }
    }

    /// Pieces of so many tokens, each at its millisecond.
    fn in_pieces(pieces: &[(usize, u64)]) -> Written {
        let mut written = Written::default();
        pieces
            .iter()
            .for_each(|(tokens, at)| written.add(&"水".repeat(*tokens), Timestamp::from_millis(*at)));
        written
    }

    fn heard(at: u64, jobs: u64) -> Option<LastHeard> {
        Some(LastHeard { at: Timestamp::from_millis(at), jobs })
    }

    #[test]
    fn a_call_in_doubt_is_booked_by_what_is_there_of_its_answer() {
        let mut call = CallStarted { output_per_thousand: 1500, ..call() };
        let mut written = Written::default();
        ["eight", " ch", "水"].iter().for_each(|piece| written.add(piece, Timestamp::from_millis(7)));
        // Four and a half tokens are there, and half a token is not.
        let used = call.in_doubt(written, None);
        assert_eq!((used.input_tokens, used.output_tokens, used.nano_usd), (100, 5, 110));
        assert_eq!((used.call, used.certainty), (call.call, Certainty::InDoubt));
        call.max_output_tokens = Some(4);
        assert_eq!(call.in_doubt(written, None).output_tokens, 4, "it was cut there");
        assert_eq!(call.in_doubt(Written::default(), heard(9, 1)).nano_usd, 100, "no answer began");
    }

    #[test]
    fn what_came_after_the_last_piece_follows_from_the_last_sign_of_its_worker() {
        let output = |pieces: &[(usize, u64)], heard| call().in_doubt(in_pieces(pieces), heard).output_tokens;
        let slow = [(1, 1000), (10, 1100), (10, 1200)];
        assert_eq!(output(&slow, heard(1270, 10)), 29, "75 ms of a token in ten, and half a token");
        assert_eq!(output(&slow, heard(1200, 1)), 26, "half a gap: no other call tells more");
        assert_eq!([None, heard(1150, 10)].map(|heard| output(&slow, heard)), [26, 26]);
        // It has just begun to gather.
        let calm = [(1, 1000), (1, 1008), (1, 1016)];
        assert_eq!(output(&calm, heard(1096, 16)), 14, "of the pace of all answers");
        assert_eq!(output(&[(1, 1000)], heard(1096, 16)), 14);
        assert_eq!(output(&calm, heard(1300, 16)), 3, "it stalled");
        assert_eq!(output(&[(1, 0), (9, 400), (9, 800)], heard(1600, 4)), 39, "it is its store that is slow");
    }

    #[test]
    fn where_nothing_is_known_of_a_model_pieces_count() {
        let call = CallStarted { unmeasured: true, pace: 0, ..call() };
        let output =
            |pieces: &[(usize, u64)], at| call.in_doubt(in_pieces(pieces), heard(at, 9)).output_tokens;
        assert_eq!(output(&[(1, 0), (1, 10), (1, 20), (2, 30)], 40), 6, "a piece for each token");
        assert_eq!(output(&[(1, 0), (3, 10), (2, 20), (1, 30)], 40), 10, "or not");
        assert_eq!(output(&[(1, 0)], 40), 2);
    }

    #[test]
    fn what_an_earlier_version_wrote_can_be_read() {
        let old = format!(
            r#"{{"call":"{}","model":"m","input_tokens":7,"output_per_thousand":900,"price":{{"input":1,"output":2}},"prices":""}}"#,
            Uuid::nil()
        );
        let call: CallStarted = serde_json::from_str(&old).unwrap();
        assert_eq!((call.pace, call.unmeasured, call.max_output_tokens), (0, false, None));
        let old = r#"{"input_tokens":7,"output_tokens":3,"cost_usd":0.0}"#;
        let used: CallUsed = serde_json::from_str(old).unwrap();
        assert_eq!((used.input_tokens, used.output_tokens, used.nano_usd), (7, 3, 0));
    }
}
