//! What a question asks of tantivy.

use tantivy::Term;
use tantivy::query::{
    BooleanQuery, BoostQuery, ConstScoreQuery, DisjunctionMaxQuery, EmptyQuery, Occur, PhraseQuery, Query,
    TermQuery,
};
use tantivy::schema::{Field, IndexRecordOption};

use super::schema::{FIELDS, key_term};
use super::snapshot::Snapshot;
use crate::model::{Filter, TenantId};
use crate::ports::SearchQuery;
use crate::search::{HEADINGS_BOOST, Key, PHRASE_BOOST, PHRASE_SLOP, TITLE_BOOST, neighbours, rarest};
use crate::text::analyze::{QueryTerm, query_terms};

/// Exactly the passages that the search may see, all of score 0.
pub(super) fn allowed(tenant: &TenantId, query: &SearchQuery) -> Box<dyn Query> {
    let scopes = query.collections.iter().map(|collection| Key::scope(tenant, collection));
    let mut all = vec![any(scopes.map(|scope| key_term(scope, FIELDS.scope)))];
    all.extend(conditions(&query.filter));
    let all = all.into_iter().map(|condition| (Occur::Must, condition)).collect();
    Box::new(ConstScoreQuery::new(Box::new(BooleanQuery::new(all)), 0.0))
}

fn conditions(filter: &Filter) -> impl Iterator<Item = Box<dyn Query>> {
    filter.conditions().map(|(field, value)| {
        let keys = value.values().iter().map(|value| Key::filter(field, &value.key()));
        any(keys.map(|key| key_term(key, FIELDS.filter)))
    })
}

fn any(terms: impl Iterator<Item = Term>) -> Box<dyn Query> {
    let mut terms: Vec<_> = terms.map(|term| query_of(term, IndexRecordOption::Basic)).collect();
    match terms.len() {
        0 => Box::new(EmptyQuery),
        1 => terms.remove(0),
        _ => Box::new(BooleanQuery::union(terms)),
    }
}

/// The passages that answer one of the wordings, with the score of the best; none when no wording has
/// a word of the index.
pub(super) fn lexical(snapshot: &Snapshot, query: &SearchQuery) -> tantivy::Result<Option<Box<dyn Query>>> {
    let mut wordings = Vec::new();
    for text in &query.texts {
        wordings.extend(wording(snapshot, text)?);
    }
    Ok(match wordings.len() {
        0 => None,
        1 => wordings.pop(),
        _ => Some(Box::new(DisjunctionMaxQuery::new(wordings))),
    })
}

fn wording(snapshot: &Snapshot, text: &str) -> tantivy::Result<Option<Box<dyn Query>>> {
    let occurs = |form: &str| {
        let mut found = 0;
        for field in [FIELDS.title, FIELDS.headings, FIELDS.body] {
            found += snapshot.searcher.doc_freq(&Term::from_field_text(field, form))?;
        }
        tantivy::Result::Ok(found)
    };
    let terms = rarest(query_terms(text, &snapshot.languages), occurs)?;
    let mut clauses: Vec<(Occur, Box<dyn Query>)> = Vec::new();
    for term in &terms {
        for (field, boost) in
            [(FIELDS.title, TITLE_BOOST), (FIELDS.headings, HEADINGS_BOOST), (FIELDS.body, 1.0)]
        {
            let boost = boost * term.weight;
            let forms = forms(term, field);
            let clause: Box<dyn Query> = if (boost - 1.0).abs() < f32::EPSILON {
                forms
            } else {
                Box::new(BoostQuery::new(forms, boost))
            };
            clauses.push((Occur::Should, clause));
        }
    }
    for (first, second, apart) in neighbours(&terms) {
        let phrase = BoostQuery::new(phrase(first, second, apart), PHRASE_BOOST);
        clauses.push((Occur::Should, Box::new(phrase)));
    }
    Ok((!clauses.is_empty()).then(|| Box::new(BooleanQuery::new(clauses)) as Box<dyn Query>))
}

/// Any form of the term, with the score of the best.
fn forms(term: &QueryTerm, field: Field) -> Box<dyn Query> {
    let with_freqs =
        |form: &String| query_of(Term::from_field_text(field, form), IndexRecordOption::WithFreqs);
    match term.forms.as_slice() {
        [form] => with_freqs(form),
        forms => Box::new(DisjunctionMaxQuery::new(forms.iter().map(with_freqs).collect())),
    }
}

/// Two terms as neighbours, in the likeliest forms of each.
fn phrase(first: &QueryTerm, second: &QueryTerm, apart: u32) -> Box<dyn Query> {
    let mut phrases: Vec<Box<dyn Query>> = Vec::new();
    for one in first.forms.iter().take(2) {
        for two in second.forms.iter().take(2) {
            let terms = vec![
                (0, Term::from_field_text(FIELDS.body, one)),
                (apart as usize, Term::from_field_text(FIELDS.body, two)),
            ];
            phrases.push(Box::new(PhraseQuery::new_with_offset_and_slop(terms, PHRASE_SLOP)));
        }
    }
    Box::new(DisjunctionMaxQuery::new(phrases))
}

fn query_of(term: Term, record: IndexRecordOption) -> Box<dyn Query> {
    Box::new(TermQuery::new(term, record))
}
