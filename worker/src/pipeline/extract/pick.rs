//! Which sentences are quoted: the best, and more that add something.

use millhand_common::model::Passage;

use super::sentence::{Sentence, begins_with_pronoun};
use crate::pipeline::retrieve::similarity;

/// Sentences picked, those that come with them not counted, and documents they come from.
const MAX_PICKS: usize = 5;
const MAX_DOCUMENTS: usize = 3;
/// Bytes quoted: what one reads at a glance.
const MAX_BYTES: usize = 1800;
/// Of the best sentence's paragraph.
const MAX_PARAGRAPH_BYTES: usize = 600;
/// A further sentence scores at least this share of the best.
const MIN_SHARE: f32 = 0.62;
/// What repeating a sentence already picked costs.
const REPETITION: f32 = 0.5;

/// The picked sentences: passages of one document together, documents by their best sentence.
pub(crate) fn pick(sentences: &[Sentence], passages: &[Passage]) -> Vec<usize> {
    let mut picked: Vec<usize> = Vec::new();
    let mut best = 0.0;
    let document = |at: usize| passages[sentences[at].passage].document_id;
    let bytes = |picked: &[usize]| picked.iter().map(|at| sentences[*at].span.len()).sum::<usize>();
    for _ in 0..MAX_PICKS {
        let mut documents: Vec<_> = picked.iter().map(|at| document(*at)).collect();
        documents.sort_unstable();
        documents.dedup();
        let open = |at: &usize| {
            sentences[*at].quotable
                && !picked.contains(at)
                && (documents.len() < MAX_DOCUMENTS || documents.contains(&document(*at)))
        };
        let worth = |at: usize| {
            let repeats = picked.iter().map(|other| similarity(&sentences[at].bag, &sentences[*other].bag));
            sentences[at].score - REPETITION * repeats.fold(0.0, f32::max)
        };
        let next = (0..sentences.len())
            .filter(open)
            .map(|at| (worth(at), at))
            .max_by(|a, b| a.0.total_cmp(&b.0).then(b.1.cmp(&a.1)));
        let Some((score, at)) = next else { break };
        if picked.is_empty() {
            best = score;
        } else if score < MIN_SHARE * best || bytes(&picked) + sentences[at].span.len() > MAX_BYTES {
            break;
        }
        picked.push(at);
        let companions = match picked.len() {
            // The best one.
            1 => paragraph(at, sentences, passages),
            _ => companions(at, sentences, passages),
        };
        for other in companions {
            if !picked.contains(&other) && bytes(&picked) + sentences[other].span.len() <= MAX_BYTES {
                picked.push(other);
            }
        }
    }

    in_document_order(picked, sentences, passages)
}

/// What is said with the best sentence: the rest of its paragraph, nearest first, as far as it is short;
/// an answer often stands beside the sentence that repeats the question's words.
fn paragraph(at: usize, sentences: &[Sentence], passages: &[Passage]) -> Vec<usize> {
    let text = &passages[sentences[at].passage].text;
    let joined = |first: usize, second: usize| {
        let (Some(first), Some(second)) = (sentences.get(first), sentences.get(second)) else { return false };
        first.passage == second.passage
            && first.quotable
            && second.quotable
            && !text[first.span.to..second.span.from].contains('\n')
    };
    let mut around = companions(at, sentences, passages);
    let (mut from, mut to) = (at, at);
    let bytes = |from: usize, to: usize| sentences[to].span.to - sentences[from].span.from;
    loop {
        if joined(to, to + 1) && bytes(from, to + 1) <= MAX_PARAGRAPH_BYTES {
            to += 1;
            around.push(to);
        } else if 0 < from && joined(from - 1, from) && bytes(from - 1, to) <= MAX_PARAGRAPH_BYTES {
            from -= 1;
            around.push(from);
        } else {
            return around;
        }
    }
}

/// Sentences without which this one is half said: the one before a pronoun, the one after a colon, and
/// the one after it that goes on about the same.
fn companions(at: usize, sentences: &[Sentence], passages: &[Passage]) -> Vec<usize> {
    let text = |at: usize| {
        let sentence = &sentences[at];
        sentence.span.of(&passages[sentence.passage].text).unwrap_or_default()
    };
    let same = |other: usize| {
        sentences.get(other).is_some_and(|other| other.quotable && other.passage == sentences[at].passage)
    };
    let mut companions = Vec::new();
    if at > 0 && begins_with_pronoun(text(at)) && same(at - 1) {
        companions.push(at - 1);
    }
    if same(at + 1) && (text(at).ends_with([':', '：']) || begins_with_pronoun(text(at + 1))) {
        companions.push(at + 1);
    }
    companions
}

fn in_document_order(mut picked: Vec<usize>, sentences: &[Sentence], passages: &[Passage]) -> Vec<usize> {
    let document = |at: usize| passages[sentences[at].passage].document_id;
    let best = |at: usize| {
        let of_document = picked.iter().filter(|other| document(**other) == document(at));
        of_document.map(|other| sentences[*other].score).fold(0.0, f32::max)
    };
    let mut keyed: Vec<_> = picked
        .iter()
        .map(|at| {
            let passage = &passages[sentences[*at].passage];
            (best(*at), passage.document_id, passage.span.from + sentences[*at].span.from, *at)
        })
        .collect();
    keyed.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)).then(a.2.cmp(&b.2)));
    picked.clear();
    picked.extend(keyed.into_iter().map(|(_, _, _, at)| at));
    picked
}
