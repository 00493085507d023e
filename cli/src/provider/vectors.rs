//! Embeddings that need no model: texts with words, spellings or meanings in common are near.

use std::collections::HashMap;

use millhand_common::text::analyze::{Language, terms};

use super::settings::Synonyms;

/// What the spelling of a word weighs beside the word.
const SPELLING: f32 = 0.6;

/// Which meaning a word has, by the term it is reduced to.
pub(crate) struct Meanings(HashMap<String, usize>);

impl Meanings {
    pub(crate) fn of(groups: &[Synonyms]) -> Self {
        let words =
            groups.iter().enumerate().flat_map(|(n, group)| group.0.iter().map(move |word| (n, word)));
        let forms = words.flat_map(|(n, word)| {
            let lang = Language::detect(word);
            let own = terms(word, lang).into_iter().filter(|term| !term.part).map(|term| term.text);
            own.chain([word.to_lowercase()]).map(move |term| (term, n))
        });
        Self(forms.collect())
    }
}

/// The vector of a text, of length 1. The same text always has the same one.
pub(crate) fn embed(text: &str, dimensions: usize, meanings: &Meanings) -> Vec<f32> {
    let mut vector = vec![0.0; dimensions];
    let mut add = |feature: &str, weight: f32| {
        let hash = blake3::hash(feature.as_bytes());
        let [a, b, c, d, e, f, g, h, sign, ..] = *hash.as_bytes();
        let at = u64::from_le_bytes([a, b, c, d, e, f, g, h]) % dimensions as u64;
        vector[usize::try_from(at).unwrap_or_default()] += if sign & 1 == 0 { weight } else { -weight };
    };
    let mut any = false;
    for term in terms(text, Language::detect(text)).into_iter().filter(|term| !term.stop && !term.part) {
        any = true;
        if let Some(meaning) = meanings.0.get(&term.text) {
            add(&format!("meaning {meaning}"), 1.0);
            continue;
        }
        add(&format!("word {}", term.text), 1.0);
        let letters: Vec<char> = format!("^{}$", term.text).chars().collect();
        let pieces = letters.windows(3).count().max(1) as f32;
        for piece in letters.windows(3) {
            add(&format!("letters {}", piece.iter().collect::<String>()), SPELLING / pieces.sqrt());
        }
    }
    if !any {
        add(text, 1.0);
    }
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length > 0.0 {
        vector.iter_mut().for_each(|x| *x /= length);
    }
    vector
}

/// How near two vectors of length 1 are, -1 to 1.
pub(crate) fn nearness(a: &[f32], b: &[f32]) -> f32 {
    a.iter().zip(b).map(|(a, b)| a * b).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_texts_are_near() {
        let meanings = Meanings::of(&[Synonyms(["bike", "bicycle", "自行车"].map(str::to_owned).to_vec())]);
        let near = |a: &str, b: &str| nearness(&embed(a, 256, &meanings), &embed(b, 256, &meanings));
        assert!((near("The mill", "the mills") - 1.0).abs() < 1e-5);
        assert!((near("bicycles", "自行车") - 1.0).abs() < 1e-5);
        assert!(near("photographer", "photographs") > 0.3);
        assert!(near("A bike on the ferry", "bicycle") > near("A dog on the ferry", "bicycle") + 0.3);
        assert!(near("water wheel", "flour dust").abs() < 0.3);
        for text in ["", "的", "!?"] {
            assert!((near(text, text) - 1.0).abs() < 1e-5, "{text}");
        }
    }
}
