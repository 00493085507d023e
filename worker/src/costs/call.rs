//! One call, from its first event to its last.

use std::time::Instant;

use metrics::counter;
use millhand_common::model::{CallStarted, CallUsed, Certainty, EventBody, Usage};
use millhand_common::ports::{ChatDelta, ModelError};
use millhand_common::telemetry;
use millhand_common::tokens::Measure;

use super::learned::Heard;
use super::{Costs, Marks};
use crate::attempt::Attempt;

/// How far a call has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Unsent,
    Sent,
    /// The provider has begun to answer: it charges for the prompt.
    LetIn,
    Booked,
}

/// A call that is under way. However it ends, dropping included, it is booked once.
pub(crate) struct Call<'a> {
    costs: &'a Costs,
    attempt: &'a Attempt,
    started: CallStarted,
    marks: Marks,
    state: State,
    heard: Heard,
    /// When its text began.
    first: Option<Instant>,
    text: Measure,
    usage: Option<Usage>,
}

impl<'a> Call<'a> {
    /// It was said to begin; `prompt` is what its prompt measures.
    pub(super) fn new(
        costs: &'a Costs,
        attempt: &'a Attempt,
        (started, marks): (CallStarted, Marks),
        prompt: u64,
    ) -> Self {
        let (heard, text, usage) = (Heard { prompt, ..Heard::default() }, Measure::default(), None);
        Self { costs, attempt, started, marks, state: State::Unsent, heard, first: None, text, usage }
    }

    /// The longest answer to ask for, where one was held for.
    pub(crate) fn max_output_tokens(&self) -> Option<u32> {
        self.started.max_output_tokens
    }

    /// It goes out: from now on it may have cost something.
    pub(crate) fn sent(&mut self) {
        self.state = State::Sent;
    }

    /// The provider said something.
    pub(crate) fn heard(&mut self, delta: &ChatDelta) {
        match delta {
            ChatDelta::Limits(_) => self.state = State::LetIn,
            ChatDelta::Text(text) if text.is_empty() => {}
            ChatDelta::Text(text) => {
                self.heard.chunks += 1;
                let first = *self.first.get_or_insert_with(Instant::now);
                self.heard.came_in = first.elapsed();
                self.text.add(text);
            }
            ChatDelta::ToolCall(call) => {
                self.heard.chunks += 1;
                self.text.add(&call.name);
                self.text.add(&call.arguments);
            }
            ChatDelta::Finished { usage, .. } => self.ended(*usage),
        }
    }

    /// The provider has answered, and counted where it does.
    pub(super) fn ended(&mut self, usage: Option<Usage>) {
        self.usage = usage;
        match usage {
            Some(usage) => self.book(usage.input_tokens, usage.output_tokens, Certainty::Exact),
            None => self.estimate(),
        }
    }

    /// It has failed, if it was not over before.
    pub(crate) fn failed(&mut self, err: &ModelError) {
        match err {
            // Connections that break lose what was on its way.
            ModelError::Unavailable(_) if self.state == State::LetIn => {
                self.heard.chunks += u64::from(self.heard.chunks > 0);
                self.estimate();
            }
            _ if self.state != State::Sent => self.estimate(),
            ModelError::RateLimited { .. }
            | ModelError::Overloaded { .. }
            | ModelError::NoCredit(_)
            | ModelError::TooLarge(_)
            | ModelError::Rejected(_)
            | ModelError::Filtered(_)
            | ModelError::Unauthorized
            | ModelError::Unavailable(_) => self.book(0, 0, Certainty::Exact),
            // It may have begun to answer.
            ModelError::TimedOut | ModelError::Malformed(_) => self.estimate(),
        }
    }

    /// It went well, and `shown` is what readers have of it.
    pub(crate) fn learn(&self, shown: &str) {
        let Some(usage) = self.usage else { return };
        let heard = Heard { shown: Measure::of(shown), ..self.heard };
        self.costs.learned(&self.started.model, self.marks, |learned| learned.add(usage, heard));
    }

    /// As far as is known here.
    fn estimate(&mut self) {
        let learned = self.costs.learned(&self.started.model, self.marks, |learned| *learned);
        let output = match self.state {
            State::Unsent => return self.book(0, 0, Certainty::Exact),
            _ if self.heard.chunks == 0 => 0,
            _ => learned.output(self.heard.chunks, self.text),
        };
        let longest = self.started.max_output_tokens.map_or(u64::MAX, u64::from);
        self.book(self.started.input_tokens, output.min(longest), Certainty::Estimated);
    }

    fn book(&mut self, input_tokens: u64, output_tokens: u64, certainty: Certainty) {
        if self.state == State::Booked {
            return;
        }
        self.state = State::Booked;
        let used = self.started.used(input_tokens, output_tokens, certainty);
        show(&used);
        self.attempt.note(EventBody::UsageUpdated(used));
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        self.estimate();
    }
}

fn show(used: &CallUsed) {
    let tokens = |direction: &'static str, tokens| {
        counter!(telemetry::MODEL_TOKENS, "model" => used.model.clone(), "direction" => direction)
            .increment(tokens);
    };
    tokens("input", used.input_tokens);
    tokens("output", used.output_tokens);
    counter!(telemetry::MODEL_COST, "model" => used.model.clone()).increment(used.nano_usd);
    if used.certainty != Certainty::Exact {
        counter!(telemetry::MODEL_USAGE_INEXACT, "model" => used.model.clone()).increment(1);
    }
}
