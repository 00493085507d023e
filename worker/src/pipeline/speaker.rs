//! Says the answer: text and citations go to the log, and what was said is known here.

use millhand_common::model::{Citation, EventBody, Timestamp};
use millhand_common::telemetry;

use crate::attempt::{Attempt, Stopped};

/// The answer as far as it is said.
pub(crate) struct Speaker<'a> {
    pub(crate) attempt: &'a Attempt,
    pub(crate) text: String,
    pub(crate) citations: Vec<Citation>,
    silent_so_far: bool,
}

impl<'a> Speaker<'a> {
    pub(crate) fn new(attempt: &'a Attempt) -> Self {
        Self { attempt, text: String::new(), citations: Vec::new(), silent_so_far: true }
    }

    /// Adds text to the answer.
    pub(crate) async fn say(&mut self, text: &str) -> Result<(), Stopped> {
        if text.is_empty() {
            return Ok(());
        }
        if std::mem::take(&mut self.silent_so_far) {
            let since_accept = Timestamp::now().since(self.attempt.job().created_at);
            metrics::histogram!(telemetry::FIRST_TOKEN_TIME).record(since_accept);
        }
        self.text.push_str(text);
        self.attempt.emit(EventBody::OutputTextDelta { text: text.to_owned() }).await
    }

    /// Adds a citation; the marker in the text is the caller's.
    pub(crate) async fn cite(&mut self, citation: Citation) -> Result<(), Stopped> {
        self.citations.push(citation.clone());
        self.attempt.emit(EventBody::CitationAdded(citation)).await
    }

    /// Takes back everything said so far.
    pub(crate) async fn start_over(&mut self) -> Result<(), Stopped> {
        if self.text.is_empty() && self.citations.is_empty() {
            return Ok(());
        }
        self.text.clear();
        self.citations.clear();
        self.attempt.emit(EventBody::OutputTextReset { length: 0 }).await
    }
}
