//! Whether the passages answer the question at all: better no answer than a wrong one.

use millhand_common::model::Passage;

use super::sentence::Sentence;
use crate::pipeline::terms::{AskedTerm, Bag, coverage};

/// Share of the question that one sentence with its neighbours and headings must have.
const MIN_WINDOW: f32 = 0.5;
/// Share of the question that may be in no passage at all.
const MAX_UNKNOWN: f32 = 0.42;

/// Whether some place in the passages speaks of what is asked.
pub(crate) fn is_answered(sentences: &[Sentence], passages: &[Passage], asked: &[AskedTerm]) -> bool {
    let all: f32 = asked.iter().map(|term| term.weight).sum();
    let unknown: f32 = asked.iter().filter(|term| !term.known).map(|term| term.weight).sum();
    if all <= 0.0 || unknown > MAX_UNKNOWN * all {
        return false;
    }
    // A name that stands nowhere: whatever is said, it is said of something else.
    if asked.iter().any(|term| term.name && !term.part && !term.known) {
        return false;
    }
    sentences.iter().filter(|sentence| sentence.quotable).any(|_| true)
        && best_window(sentences, passages, asked) >= MIN_WINDOW
}

/// The largest share of the question that three neighbouring sentences have with their headings.
pub(crate) fn best_window(sentences: &[Sentence], passages: &[Passage], asked: &[AskedTerm]) -> f32 {
    let title_of = |at: usize| {
        let passage = &passages[sentences[at].passage];
        let lang = millhand_common::text::analyze::Language::detect(&passage.text);
        Bag::of(&passage.title, lang)
    };
    let mut best: f32 = 0.0;
    let mut title: (usize, Bag) = (usize::MAX, Bag::default());
    for at in 0..sentences.len() {
        if title.0 != sentences[at].passage {
            title = (sentences[at].passage, title_of(at));
        }
        let same = |other: &&Sentence| other.passage == sentences[at].passage;
        let window = sentences[at.saturating_sub(1)..(at + 2).min(sentences.len())].iter().filter(same);
        let bag = window.fold(title.1.clone(), |bag, sentence| bag.union(&sentence.bag));
        best = best.max(coverage(asked, &bag));
    }
    best
}
