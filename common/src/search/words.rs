//! What matches of a question are worth.

use crate::text::analyze::QueryTerm;

/// A word in the title says more than one in a heading, and that more than one in the text.
pub const TITLE_BOOST: f32 = 2.0;
pub const HEADINGS_BOOST: f32 = 1.5;
/// Neighbours in the question that are neighbours in the text, beside what each is worth.
pub const PHRASE_BOOST: f32 = 0.5;
/// Words between that still count as neighbours.
pub const PHRASE_SLOP: u32 = 1;
/// Languages whose word forms a question is expanded to, the most frequent ones of an index.
pub const MAX_LANGUAGES: usize = 12;
/// Terms of one wording that are searched, the rarest first: a pasted page asks for its rare words.
const MAX_TERMS: usize = 64;
/// Positions apart at which two terms of a question are neighbours.
const NEIGHBOURS: u32 = 4;

/// The terms that occur at all, the rarest ones if they are many, in order of position; each with the
/// forms that occur. `occurs` tells how often a form does, over all fields.
pub fn rarest<E>(
    terms: Vec<QueryTerm>,
    mut occurs: impl FnMut(&str) -> Result<u64, E>,
) -> Result<Vec<QueryTerm>, E> {
    let mut known = Vec::new();
    for mut term in terms {
        let mut count = 0;
        let mut forms = Vec::new();
        for form in term.forms {
            let found = occurs(&form)?;
            if 0 < found {
                count += found;
                forms.push(form);
            }
        }
        term.forms = forms;
        if 0 < count {
            known.push((count, term));
        }
    }
    if MAX_TERMS < known.len() {
        known.sort_by_key(|(count, _)| *count);
        known.truncate(MAX_TERMS);
    }
    let mut terms: Vec<QueryTerm> = known.into_iter().map(|(_, term)| term).collect();
    terms.sort_by_key(|term| term.position);
    Ok(terms)
}

/// Pairs of whole words that stand near each other in a question, and the positions between them.
#[must_use]
pub fn neighbours(terms: &[QueryTerm]) -> Vec<(&QueryTerm, &QueryTerm, u32)> {
    let words: Vec<&QueryTerm> = terms.iter().filter(|term| 1.0 <= term.weight).collect();
    let pairs = words.windows(2).map(|pair| {
        let apart = pair[1].position.saturating_sub(pair[0].position);
        (pair[0], pair[1], apart)
    });
    pairs.filter(|(_, _, apart)| (1..=NEIGHBOURS).contains(apart)).collect()
}
