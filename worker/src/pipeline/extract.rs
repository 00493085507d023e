//! Answers without a model: the sentences of the passages that answer best, word for word, or none.

mod cues;
mod gate;
mod pick;
mod sentence;

use millhand_common::model::Span;

use super::retrieve::Found;
use cues::Kind;
use gate::is_answered;
use pick::pick;
use sentence::{Sentence, read, score};

/// A part of a passage to be shown as it stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Quotation {
    /// Which of the passages.
    pub(crate) passage: usize,
    /// Bytes of that passage's text.
    pub(crate) span: Span,
}

/// The quotations that answer `question`, in the order in which their documents say them; none when the
/// passages do not answer. Pure: the same passages give the same quotations.
pub(crate) fn quotations(question: &str, found: &Found) -> Vec<Quotation> {
    let kind = Kind::of(question);
    for asked in &found.asked {
        let mut sentences = read(&found.passages, asked);
        score(&mut sentences, &found.passages, asked, kind);
        if is_answered(&sentences, &found.passages, asked) {
            let picked = pick(&sentences, &found.passages);
            return quote(&picked, &sentences);
        }
    }
    Vec::new()
}

/// Picked sentences as quotations: neighbours become one.
fn quote(picked: &[usize], sentences: &[Sentence]) -> Vec<Quotation> {
    let mut quotations: Vec<Quotation> = Vec::new();
    let mut last = None;
    for &at in picked {
        let sentence = &sentences[at];
        match (quotations.last_mut(), last) {
            (Some(open), Some(before)) if open.passage == sentence.passage && before + 1 == at => {
                open.span.to = sentence.span.to;
            }
            _ => quotations.push(Quotation { passage: sentence.passage, span: sentence.span }),
        }
        last = Some(at);
    }
    quotations
}
