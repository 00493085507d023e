//! Words that stand together in the question and in a passage.

use std::collections::HashMap;

use sqlx::PgConnection;

use super::At;
use super::postings::positions;
use super::search::Scored;
use super::words::{Occurrences, Statistics};
use crate::ports::IndexError;
use crate::search::{PHRASE_BOOST, PHRASE_SLOP};
use crate::text::analyze::QueryTerm;

/// Passages that are looked at for phrases, the best by their words alone. What a phrase adds moves a
/// passage by some places, not by hundreds.
const CANDIDATES: usize = 300;
/// Forms of a word, the likeliest ones, that make a phrase.
const FORMS: usize = 2;

/// Where the words stand in the body of a passage, and how long that is.
#[derive(Default)]
struct Body<'a> {
    length: i32,
    positions: HashMap<&'a str, Vec<u32>>,
}

/// Adds what phrases are worth to the best of `found`.
pub(super) async fn add(
    tx: &mut PgConnection,
    statistics: &Statistics,
    occurrences: &Occurrences,
    pairs: &[(&QueryTerm, &QueryTerm, u32)],
    found: &mut Scored,
) -> Result<(), IndexError> {
    let count = CANDIDATES.min(found.len());
    let candidates = &mut found[..count];
    let mut forms: Vec<&str> =
        pairs.iter().flat_map(|(first, second, _)| likeliest(first).chain(likeliest(second))).collect();
    forms.sort_unstable();
    forms.dedup();
    let (documents, ordinals): (Vec<i64>, Vec<i32>) =
        candidates.iter().map(|(_, at)| (at.document, at.ordinal)).unzip();
    // OFFSET 0 keeps the inner query a look-up by the whole key. As a join it is expected to give one row,
    // and then every posting of the documents is read for it: 50 to 140 ms instead of 3.
    let rows: Vec<(i64, i32, String, Vec<u8>, i32)> = sqlx::query_as(
        "SELECT c.document, c.ordinal, f.form, p.positions, p.body_length
         FROM unnest($1::bigint[], $2::integer[]) AS c(document, ordinal)
         JOIN millhand.indexed d ON d.id = c.document
         CROSS JOIN unnest($3::text[]) AS f(form)
         CROSS JOIN LATERAL (
            SELECT p.positions, p.body_length FROM millhand.postings p
            WHERE p.scope = d.scope AND p.term = f.form AND p.document = c.document AND p.ordinal = c.ordinal
               AND 0 < p.body OFFSET 0
         ) AS p",
    )
    .bind(&documents)
    .bind(&ordinals)
    .bind(&forms)
    .fetch_all(tx)
    .await?;
    let mut bodies: HashMap<At, Body<'_>> = HashMap::new();
    for (document, ordinal, term, stored, length) in rows {
        let Some(form) = forms.iter().find(|form| **form == term) else { continue };
        let body = bodies.entry(At { document, ordinal }).or_default();
        body.length = length;
        body.positions.insert(form, positions(&stored).collect());
    }
    for (score, at) in candidates {
        if let Some(body) = bodies.get(at) {
            *score += pairs.iter().map(|pair| worth(statistics, occurrences, *pair, body)).sum::<f32>();
        }
    }
    Ok(())
}

fn likeliest(term: &QueryTerm) -> impl Iterator<Item = &str> {
    term.forms.iter().take(FORMS).map(String::as_str)
}

/// What one pair is worth in a passage: the best over the forms of its words.
fn worth(
    statistics: &Statistics,
    occurrences: &Occurrences,
    (first, second, apart): (&QueryTerm, &QueryTerm, u32),
    body: &Body<'_>,
) -> f32 {
    const BODY: usize = 2;
    let (constant, per_term) = statistics.norm(BODY);
    let with = |form: &str| occurrences.get(form).map_or(0, |fields| fields[BODY]);
    let mut best = 0.0f32;
    for one in likeliest(first) {
        for two in likeliest(second) {
            let (Some(left), Some(right)) = (body.positions.get(one), body.positions.get(two)) else {
                continue;
            };
            let count = together(left, right, apart) as f32;
            // A phrase is as rare as its words are.
            let rarity =
                statistics.worth(with(one), PHRASE_BOOST) + statistics.worth(with(two), PHRASE_BOOST);
            best = best.max(rarity * count / (count + constant + per_term * body.length as f32));
        }
    }
    best
}

/// How often the second word stands `apart` behind the first, or nearly.
fn together(first: &[u32], second: &[u32], apart: u32) -> usize {
    let nearly = |from: u32| {
        let (low, high) = (from + apart - PHRASE_SLOP.min(apart), from + apart + PHRASE_SLOP);
        let at = second.partition_point(|position| *position < low);
        second.get(at).is_some_and(|position| *position <= high)
    };
    first.iter().filter(|from| nearly(**from)).count()
}

#[cfg(test)]
mod tests {
    use super::together;

    #[test]
    fn words_are_together_when_they_follow_each_other_or_nearly() {
        assert_eq!(together(&[0, 10], &[1, 30], 1), 1);
        assert_eq!(together(&[0], &[2], 1), 1);
        assert_eq!(together(&[0], &[3], 1), 0);
        assert_eq!(together(&[5], &[4], 1), 0);
        assert_eq!(together(&[0, 4, 8], &[3, 7, 11], 3), 3);
        assert_eq!(together(&[], &[1], 1), 0);
    }
}
