//! Which sentences are quoted: the best, and more that add something.

use millhand_common::model::Passage;

use super::sentence::Sentence;
use crate::pipeline::retrieve::similarity;

/// Sentences quoted, and documents they come from.
const MAX_SENTENCES: usize = 5;
const MAX_DOCUMENTS: usize = 3;
/// Bytes quoted: what one reads at a glance.
const MAX_BYTES: usize = 1800;
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
    while picked.len() < MAX_SENTENCES {
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
        for other in companions(at, sentences, passages) {
            if !picked.contains(&other) && bytes(&picked) + sentences[other].span.len() <= MAX_BYTES {
                picked.push(other);
            }
        }
    }
    picked.truncate(MAX_SENTENCES);
    in_document_order(picked, sentences, passages)
}

/// Sentences without which this one is not understood: the one before a pronoun, the one after a colon.
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
    if text(at).ends_with([':', '：']) && same(at + 1) {
        companions.push(at + 1);
    }
    companions
}

fn begins_with_pronoun(sentence: &str) -> bool {
    const ENGLISH: &[&str] =
        &["it", "its", "they", "their", "this", "these", "those", "that", "he", "she", "such"];
    const CHINESE: &[&str] = &["它", "他", "她", "这", "那", "其", "此", "该"];
    let first = sentence.split(|c: char| !c.is_alphanumeric() && c != '\'').next().unwrap_or_default();
    ENGLISH.contains(&first.to_lowercase().as_str())
        || (CHINESE.iter().any(|word| sentence.starts_with(word)) && !sentence.starts_with("其他"))
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
