//! Whether a passage supports a sentence of an answer, and which words of it do.

use std::collections::HashSet;

use millhand_common::model::{Passage, Span};
use millhand_common::text::analyze::Language;
use millhand_common::text::sentence::sentences;

use super::terms::{AskedTerm, Bag, coverage, is_han, weigh};

/// Quoted words shorter than this, in letters, could stand anywhere.
const MIN_QUOTED_LETTERS: usize = 4;
/// Share of a sentence's terms that its source must have.
const MIN_ALIGNED: f32 = 0.4;

/// The span of `passage.text` that supports `claim`: the words the model quoted if they are there,
/// else the sentence that has most of the claim's terms. `None` when nothing does, or when the claim
/// has a number or a name that the passage does not.
pub(crate) fn support(claim: &str, quoted: Option<&str>, passage: &Passage) -> Option<Span> {
    if !guards_hold(claim, passage) {
        return None;
    }
    quoted.and_then(|words| find_words(&passage.text, words)).or_else(|| align(claim, &passage.text))
}

/// Where `words` stand in `text`, white space, case and the shape of quotation marks aside.
fn find_words(text: &str, words: &str) -> Option<Span> {
    let mut parts: Vec<&str> = words.split("...").flat_map(|part| part.split('…')).map(str::trim).collect();
    parts.sort_by_key(|part| std::cmp::Reverse(part.len()));
    parts.iter().filter(|part| fold(part).len() >= MIN_QUOTED_LETTERS).find_map(|part| {
        if let Some(from) = text.find(part) {
            return Some(Span::new(from, from + part.len()));
        }
        let (text, part) = (fold(text), fold(part));
        let at = text
            .windows(part.len())
            .position(|window| window.iter().zip(&part).all(|((_, a), (_, b))| a == b))?;
        let (last, _) = text[at + part.len() - 1];
        Some(Span::new(text[at].0.from, last.to))
    })
}

/// The letters of `text` as they are compared, each with its place.
fn fold(text: &str) -> Vec<(Span, char)> {
    let place = |(at, c): (usize, char)| (Span::new(at, at + c.len_utf8()), c);
    let folded = text.char_indices().map(place).filter(|(_, c)| !c.is_whitespace()).map(|(span, c)| {
        let c = match c {
            '“' | '”' | '„' => '"',
            '‘' | '’' | '‚' => '\'',
            '–' | '—' | '\u{2011}' => '-',
            other => other.to_lowercase().next().unwrap_or(other),
        };
        (span, c)
    });
    folded.collect()
}

/// The sentence of `text`, or two neighbours, with most of the claim's terms.
fn align(claim: &str, text: &str) -> Option<Span> {
    let lang = Language::detect(text);
    let spans = sentences(text);
    let bags: Vec<Bag> = spans.iter().map(|span| Bag::of(span.of(text).unwrap_or_default(), lang)).collect();
    let asked = weigh(claim, &[lang], &bags);
    let single = (0..spans.len()).map(|n| (coverage(&asked, &bags[n]), spans[n]));
    let pairs = (1..spans.len()).map(|n| {
        let both = coverage(&asked, &bags[n - 1].union(&bags[n]));
        // A pair must be worth its length.
        (both * 0.85, Span::new(spans[n - 1].from, spans[n].to))
    });
    let (share, span) =
        single.chain(pairs).max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.from.cmp(&a.1.from)))?;
    (share >= MIN_ALIGNED).then_some(span)
}

/// Every number of the claim stands in the passage, and every name unless it may be transcribed there.
fn guards_hold(claim: &str, passage: &Passage) -> bool {
    let source = format!("{}\n{}", passage.title, passage.text);
    let known = numbers(&source);
    if numbers(claim).iter().any(|number| !known.contains(number)) {
        return false;
    }
    if !claim.chars().any(is_han) && is_mostly_han(&source) {
        return true;
    }
    let lang = Language::detect(&passage.text);
    let bag = Bag::of(&source, lang);
    let is_missing = |term: &AskedTerm| term.name && !term.part && !term.is_in(&bag);
    let numeric =
        |term: &AskedTerm| term.span.of(claim).is_some_and(|word| word.bytes().any(|b| b.is_ascii_digit()));
    !weigh(claim, &[lang], &[]).iter().any(|term| is_missing(term) && !numeric(term))
}

/// Whether more Chinese characters than Latin letters stand there.
fn is_mostly_han(text: &str) -> bool {
    let latin = text.chars().filter(char::is_ascii_alphabetic).count();
    text.chars().filter(|c| is_han(*c)).count() > latin
}

/// Numbers as written in digits, without grouping.
fn numbers(text: &str) -> HashSet<String> {
    let digit = |c: char| c.is_ascii_digit() || matches!(c, '.' | ',');
    text.split(|c: char| !digit(c))
        .map(|number| number.trim_matches(['.', ',']).replace(',', ""))
        .filter(|number| !number.is_empty())
        .collect()
}

#[cfg(test)]
mod tests {
    use millhand_common::model::{CollectionName, DocumentId, PassageId};

    use super::*;

    fn passage(text: &str) -> Passage {
        let document = DocumentId::new();
        Passage {
            collection: CollectionName::sample(),
            document_id: document,
            document: "mill.md".to_owned(),
            passage_id: PassageId { document, ordinal: 0 },
            title: "The mill".to_owned(),
            text: text.to_owned(),
            span: Span::new(0, text.len()),
            score: 1.0,
        }
    }

    const TEXT: &str = "The water mill was built in 1786 by Anna\nBerg. Its wheel has 24 blades of oak. \
                        水磨坊于1786年建成，由安娜设计。";

    fn quote(claim: &str, quoted: Option<&str>) -> Option<String> {
        let passage = passage(TEXT);
        support(claim, quoted, &passage).map(|span| span.of(TEXT).unwrap().to_owned())
    }

    #[test]
    fn quoted_words_are_found_over_line_breaks_case_and_quotation_marks() {
        assert_eq!(quote("It was built by Anna Berg.", Some("by anna berg")).unwrap(), "by Anna\nBerg");
        assert_eq!(quote("它建于1786年。", Some("于1786年建成")).unwrap(), "于1786年建成");
        assert_eq!(quote("The wheel", Some("wheel has … blades of oak")).unwrap(), "blades of oak");
    }

    #[test]
    fn words_that_are_not_there_fall_back_to_the_sentence_that_is() {
        let found = quote("The wheel has 24 oak blades.", Some("two dozen wooden paddles")).unwrap();
        assert_eq!(found, "Its wheel has 24 blades of oak.");
    }

    #[test]
    fn a_wrong_number_or_name_has_no_support() {
        assert_eq!(quote("The mill was built in 1876.", Some("was built in")), None);
        assert_eq!(quote("The mill was built by Peter Berg.", None), None);
        assert_eq!(quote("Bread is baked on Sundays.", None), None);
    }
}
