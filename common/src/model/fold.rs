//! The text a reader of a log has: `output.text` is this, byte for byte.

use super::{Citation, Event, EventBody};

/// Text and citations of the current attempt.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct OutputFold {
    pub text: String,
    pub citations: Vec<Citation>,
}

impl OutputFold {
    /// Takes the next event of the log.
    pub fn push(&mut self, event: &EventBody) {
        match event {
            EventBody::AttemptStarted { .. } => *self = Self::default(),
            EventBody::OutputTextDelta { text } => self.text.push_str(text),
            EventBody::OutputTextReset { length } => {
                self.text.truncate(self.text.floor_char_boundary(*length));
                self.citations.clear();
            }
            EventBody::CitationAdded(citation) => self.citations.push(citation.clone()),
            _ => {}
        }
    }
}

/// The output a reader has after these events.
#[must_use]
pub fn fold_output<'a>(events: impl IntoIterator<Item = &'a Event>) -> OutputFold {
    let mut fold = OutputFold::default();
    for body in events.into_iter().filter_map(Event::body) {
        fold.push(&body);
    }
    fold
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::WorkerId;

    #[test]
    fn a_new_attempt_voids_earlier_text_and_a_reset_cuts_it() {
        let delta = |text: &str| EventBody::OutputTextDelta { text: text.to_owned() };
        let mut fold = OutputFold::default();
        for event in [
            EventBody::AttemptStarted { attempt: 1, worker: WorkerId::new() },
            delta("lost"),
            EventBody::AttemptStarted { attempt: 2, worker: WorkerId::new() },
            delta("一二"),
            delta("three"),
            EventBody::OutputTextReset { length: 6 },
            delta("三"),
        ] {
            fold.push(&event);
        }
        assert_eq!(fold.text, "一二三");
    }
}
