//! BM25 in SQL, with the boosts of every index.

use std::collections::HashMap;

use sqlx::{PgConnection, Postgres, QueryBuilder};

use super::search::{Conditions, Scored};
use super::{At, phrases};
use crate::ports::IndexError;
use crate::search::{HEADINGS_BOOST, Key, MAX_LANGUAGES, TITLE_BOOST, neighbours, rarest};
use crate::text::analyze::{Language, QueryTerm, query_terms};

/// How soon more of a word stops to count, and how much a long field is held against it; the values
/// that tantivy and Lucene use.
const K1: f32 = 1.2;
const B: f32 = 0.75;

/// What is known of the collections asked.
pub(super) struct Statistics {
    /// Those that exist.
    pub(super) scopes: Vec<i64>,
    passages: i64,
    /// Terms in all titles, headings and bodies.
    terms: [i64; 3],
    languages: Vec<Language>,
}

impl Statistics {
    pub(super) async fn of(tx: &mut PgConnection, scopes: &[Key]) -> Result<Self, IndexError> {
        let keys: Vec<Vec<u8>> = scopes.iter().map(|key| key.bytes().to_vec()).collect();
        let rows: Vec<(i64, i64, i64, i64, i64)> = sqlx::query_as(
            "SELECT id, passages, title_terms, headings_terms, body_terms
             FROM millhand.scopes WHERE key = ANY($1) AND 0 < passages",
        )
        .bind(&keys)
        .fetch_all(&mut *tx)
        .await?;
        let scopes: Vec<i64> = rows.iter().map(|row| row.0).collect();
        let codes: Vec<String> = sqlx::query_scalar(
            "SELECT language FROM millhand.scope_languages WHERE scope = ANY($1) AND 0 < passages
             GROUP BY language ORDER BY sum(passages) DESC, language LIMIT $2",
        )
        .bind(&scopes)
        .bind(MAX_LANGUAGES as i64)
        .fetch_all(tx)
        .await?;
        Ok(Self {
            scopes,
            passages: rows.iter().map(|row| row.1).sum(),
            terms: rows.iter().fold([0; 3], |sum, row| [sum[0] + row.2, sum[1] + row.3, sum[2] + row.4]),
            languages: codes.iter().map(|code| Language::from_code(code)).collect(),
        })
    }

    /// What a term that `with` passages have is worth.
    pub(super) fn idf(&self, with: i64) -> f32 {
        let (all, with) = (self.passages as f32, with as f32);
        (1.0 + (all - with + 0.5) / (with + 0.5)).ln()
    }

    /// What is added to a term's count in the denominator: a constant, and so much for each term that a
    /// field (title, headings, body) holds.
    pub(super) fn norm(&self, field: usize) -> (f32, f32) {
        let average = self.terms[field] as f32 / self.passages as f32;
        // Of a field that is empty everywhere no passage has a length to multiply with.
        (K1 * (1.0 - B), if 0.0 < average { K1 * B / average } else { 0.0 })
    }

    /// The part of a score that does not depend on the passage.
    pub(super) fn worth(&self, with: i64, boost: f32) -> f32 {
        boost * self.idf(with) * (K1 + 1.0)
    }
}

/// In how many passages a form stands: title, headings, body.
pub(super) type Occurrences = HashMap<String, [i64; 3]>;

/// The passages that answer one of the wordings, with the score of the best, the best `depth`.
pub(super) async fn find(
    tx: &mut PgConnection,
    statistics: &Statistics,
    filter: &Conditions,
    texts: &[String],
    depth: usize,
) -> Result<Scored, IndexError> {
    let mut best: HashMap<At, f32> = HashMap::new();
    for text in texts {
        let terms = query_terms(text, &statistics.languages);
        let occurrences = occurrences(tx, &statistics.scopes, &terms).await?;
        let terms = rarest(terms, |form| {
            Ok::<_, IndexError>(occurrences.get(form).map_or(0, |fields| fields.iter().sum::<i64>() as u64))
        })?;
        if terms.is_empty() {
            continue;
        }
        let mut found = score(tx, statistics, &occurrences, filter, &terms, depth).await?;
        let pairs = neighbours(&terms);
        if !pairs.is_empty() {
            phrases::add(tx, statistics, &occurrences, &pairs, &mut found).await?;
        }
        for (score, at) in found {
            let known = best.entry(at).or_insert(score);
            *known = known.max(score);
        }
    }
    let mut best: Scored = best.into_iter().map(|(at, score)| (score, at)).collect();
    best.sort_by(|a, b| b.0.total_cmp(&a.0).then(a.1.cmp(&b.1)));
    best.truncate(depth);
    Ok(best)
}

async fn occurrences(
    tx: &mut PgConnection,
    scopes: &[i64],
    terms: &[QueryTerm],
) -> Result<Occurrences, IndexError> {
    let mut forms: Vec<&str> = terms.iter().flat_map(|term| &term.forms).map(String::as_str).collect();
    forms.sort_unstable();
    forms.dedup();
    let rows: Vec<(String, i64, i64, i64)> = sqlx::query_as(
        "SELECT p.term, count(*) FILTER (WHERE 0 < p.title), count(*) FILTER (WHERE 0 < p.headings),
            count(*) FILTER (WHERE 0 < p.body)
         FROM unnest($1::bigint[]) AS s(scope) CROSS JOIN unnest($2::text[]) AS f(form)
         JOIN millhand.postings p ON p.scope = s.scope AND p.term = f.form
         GROUP BY p.term",
    )
    .bind(scopes)
    .bind(&forms)
    .fetch_all(tx)
    .await?;
    Ok(rows.into_iter().map(|(term, title, headings, body)| (term, [title, headings, body])).collect())
}

/// A term counts in each field by its best form there.
async fn score(
    tx: &mut PgConnection,
    statistics: &Statistics,
    occurrences: &Occurrences,
    filter: &Conditions,
    terms: &[QueryTerm],
    depth: usize,
) -> Result<Scored, IndexError> {
    let (mut words, mut forms, mut worths) = (Vec::new(), Vec::new(), [Vec::new(), Vec::new(), Vec::new()]);
    for (word, term) in (0i32..).zip(terms) {
        for form in &term.forms {
            let with = occurrences.get(form).copied().unwrap_or_default();
            words.push(word);
            forms.push(form.as_str());
            for (field, boost) in [TITLE_BOOST, HEADINGS_BOOST, 1.0].into_iter().enumerate() {
                worths[field].push(statistics.worth(with[field], boost * term.weight));
            }
        }
    }
    let [title, headings, body] = worths;
    let mut sql = QueryBuilder::<Postgres>::new("WITH matched AS (SELECT a.word, p.document, p.ordinal");
    for (field, name) in ["title", "headings", "body"].into_iter().enumerate() {
        let (constant, per_term) = statistics.norm(field);
        sql.push(if field == 0 { ", " } else { " + " });
        sql.push(format_args!("max(a.{name} * p.{name}::real / (p.{name}::real + "));
        sql.push_bind(constant).push("::real + ").push_bind(per_term);
        sql.push(format_args!("::real * p.{name}_length::real))"));
    }
    sql.push(" AS score FROM unnest(").push_bind(statistics.scopes.clone());
    sql.push("::bigint[]) AS s(scope) CROSS JOIN unnest(").push_bind(words);
    sql.push("::integer[], ").push_bind(forms.iter().map(|form| (*form).to_owned()).collect::<Vec<_>>());
    sql.push("::text[], ").push_bind(title).push("::real[], ").push_bind(headings);
    sql.push("::real[], ").push_bind(body).push("::real[]) AS a(word, form, title, headings, body)");
    sql.push(" JOIN millhand.postings p ON p.scope = s.scope AND p.term = a.form");
    filter.push_join(&mut sql, "p");
    sql.push(
        " GROUP BY a.word, p.document, p.ordinal)
         SELECT document, ordinal, sum(score)::real AS score FROM matched GROUP BY document, ordinal
         ORDER BY score DESC, document, ordinal LIMIT ",
    );
    sql.push_bind(i64::try_from(depth).unwrap_or(i64::MAX));
    let rows: Vec<(i64, i32, f32)> = sql.build_query_as().fetch_all(tx).await?;
    Ok(rows.into_iter().map(|(document, ordinal, score)| (score, At { document, ordinal })).collect())
}
