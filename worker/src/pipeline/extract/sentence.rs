//! The sentences of the passages, and how well each answers.

use millhand_common::model::{Passage, Span};
use millhand_common::text::analyze::{Language, terms};
use millhand_common::text::sentence::sentences;

use super::cues::Kind;
use crate::pipeline::retrieve::own_heading;
use crate::pipeline::terms::{AskedTerm, Bag, coverage};

/// Longer ones are tables or listings: too much for a quotation.
const MAX_SENTENCE_BYTES: usize = 1200;
/// What each sign of an answer weighs.
const WEIGHT_WITH_HEADING: f32 = 0.40;
const WEIGHT_OWN: f32 = 0.25;
const WEIGHT_ORDER: f32 = 0.10;
const WEIGHT_KIND: f32 = 0.08;
const WEIGHT_PASSAGE: f32 = 0.17;
/// What a sentence that goes on with the one before it has of that one's words.
const CARRIED: f32 = 0.7;
/// The first sentences under a heading that has the question's words answer it, whatever their own.
const LEAD: [f32; 4] = [0.20, 0.14, 0.09, 0.05];

/// A sentence of a passage.
#[derive(Clone, Debug)]
pub(crate) struct Sentence {
    pub(crate) passage: usize,
    /// Bytes of the passage's text.
    pub(crate) span: Span,
    pub(crate) bag: Bag,
    /// Positions of its terms, for their order.
    order: Vec<(String, u32)>,
    /// How many sentences of text stand between it and the heading, when the passage shows one.
    lead: Option<usize>,
    /// Share of the question that it has, and that it has together with its headings.
    pub(crate) own: f32,
    pub(crate) with_heading: f32,
    pub(crate) score: f32,
    /// It can be quoted: it is no heading, no question, neither too long nor too short.
    pub(crate) quotable: bool,
}

/// The sentences of all passages, passage by passage, in order.
pub(crate) fn read(passages: &[Passage], asked: &[AskedTerm]) -> Vec<Sentence> {
    let mut all = Vec::new();
    for (number, passage) in passages.iter().enumerate() {
        read_passage(number, passage, asked, &mut all);
    }
    all
}

fn read_passage(number: usize, passage: &Passage, asked: &[AskedTerm], all: &mut Vec<Sentence>) {
    let text = passage.text.as_str();
    let lang = Language::detect(text);
    let mut found = terms(text, lang).into_iter().peekable();
    let heading_bag = Bag::of(own_heading(&passage.title), lang);
    let title_bag = Bag::of(&passage.title, lang);
    let mut lead = None;
    let mut before: Option<(Bag, bool)> = None;
    for span in sentences(text) {
        let quote = span.of(text).unwrap_or_default();
        let mut order = Vec::new();
        let mut words = 0;
        while let Some(term) = found.next_if(|term| term.span.from < span.to) {
            if span.from <= term.span.from {
                words += usize::from(!term.part);
                order.push((term.text, term.position));
            }
        }
        let bag = Bag(order.iter().map(|(term, _)| term.clone()).collect());
        let heading = is_heading(quote, &passage.title);
        let asks = quote.trim_end_matches(['"', '”', '’', ')', '）']).ends_with(['?', '？']);
        let (own, with_own_heading) = (coverage(asked, &bag), coverage(asked, &bag.union(&heading_bag)));
        let with_title = coverage(asked, &bag.union(&title_bag));
        // What only the higher headings have counts half.
        let mut with_heading = (with_own_heading + with_title) / 2.0;
        let announced = before.as_ref().is_some_and(|(_, colon)| *colon);
        if let Some((earlier, _)) = before.as_ref().filter(|_| announced || begins_with_pronoun(quote)) {
            let both = coverage(asked, &bag.union(earlier).union(&heading_bag));
            with_heading = with_heading.max(CARRIED * both);
        }
        before = Some((bag.clone(), quote.ends_with([':', '：'])));
        all.push(Sentence {
            passage: number,
            span,
            lead,
            own,
            with_heading,
            score: 0.0,
            // What follows a colon may be a single command.
            quotable: !heading && !asks && (announced || words >= 3) && span.len() <= MAX_SENTENCE_BYTES,
            bag,
            order,
        });
        lead = match (heading, lead) {
            (true, _) => Some(0),
            (false, before) => before.map(|count| count + 1),
        };
    }
}

/// Whether it speaks of what was named before it.
pub(crate) fn begins_with_pronoun(sentence: &str) -> bool {
    const ENGLISH: &[&str] =
        &["it", "its", "they", "their", "this", "these", "those", "that", "he", "she", "such"];
    const CHINESE: &[&str] = &["它", "他", "她", "这", "那", "其", "此", "该"];
    let first = sentence.split(|c: char| !c.is_alphanumeric() && c != '\'').next().unwrap_or_default();
    ENGLISH.contains(&first.to_lowercase().as_str())
        || (CHINESE.iter().any(|word| sentence.starts_with(word)) && !sentence.starts_with("其他"))
}

/// Whether the sentence repeats a heading of its passage.
fn is_heading(sentence: &str, title: &str) -> bool {
    let fold = |text: &str| -> String {
        let kept = text.chars().filter(|c| c.is_alphanumeric());
        kept.flat_map(char::to_lowercase).collect()
    };
    if sentence.trim_start().starts_with('#') {
        return true;
    }
    let folded = fold(sentence);
    !folded.is_empty() && title.split('›').any(|heading| fold(heading) == folded)
}

/// Gives each sentence its score.
pub(crate) fn score(sentences: &mut [Sentence], passages: &[Passage], asked: &[AskedTerm], kind: Kind) {
    let top = passages.iter().map(|passage| passage.score).fold(f32::MIN_POSITIVE, f32::max);
    for sentence in sentences {
        let passage = &passages[sentence.passage];
        let text = sentence.span.of(&passage.text).unwrap_or_default();
        let heading = (sentence.with_heading - sentence.own).max(0.0);
        let lead = sentence.lead.and_then(|lead| LEAD.get(lead)).copied().unwrap_or(0.0);
        sentence.score = WEIGHT_WITH_HEADING * sentence.with_heading
            + WEIGHT_OWN * sentence.own
            + WEIGHT_ORDER * in_order(asked, &sentence.order)
            + WEIGHT_KIND * kind.fits(text)
            + WEIGHT_PASSAGE * (passage.score / top)
            + lead * heading;
    }
}

/// Share of neighbouring terms of the question that the sentence has as neighbours too.
fn in_order(asked: &[AskedTerm], order: &[(String, u32)]) -> f32 {
    let words: Vec<&AskedTerm> = asked.iter().filter(|term| !term.part).collect();
    if words.len() < 2 {
        return 0.0;
    }
    let places = |term: &AskedTerm| -> Vec<u32> {
        order.iter().filter(|(text, _)| term.forms.contains(text)).map(|(_, position)| *position).collect()
    };
    let near = words.windows(2).filter(|pair| {
        let (first, second) = (places(pair[0]), places(pair[1]));
        first.iter().any(|a| second.iter().any(|b| a < b && *b <= a + 3))
    });
    near.count() as f32 / (words.len() - 1) as f32
}
