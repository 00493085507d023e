//! From a question to passages: words, vectors, and both together.

use std::collections::HashMap;
use std::collections::hash_map::Entry;

use tantivy::collector::TopDocs;
use tantivy::query::{BooleanQuery, EnableScoring, Occur, Query};
use tantivy::{DocAddress, DocId};

use super::query;
use super::schema::{ID_HIGH, ID_LOW, ORDINAL, ROW};
use super::snapshot::Snapshot;
use super::vectors::Vectors;
use super::{index_error, io_error};
use crate::model::{Passage, TenantId};
use crate::ports::{IndexError, SearchQuery};
use crate::search::{DEPTH, best_first, fused};

type Scored = Vec<(f32, DocAddress)>;

pub(super) fn search(
    snapshot: &Snapshot,
    vectors: &Vectors,
    dimensions: Option<usize>,
    tenant: &TenantId,
    query: &SearchQuery,
) -> Result<Vec<Passage>, IndexError> {
    let depth = DEPTH.max(query.limit);
    let allowed = query::allowed(tenant, query);
    let by_words = by_words(snapshot, allowed.as_ref(), query, depth).map_err(|err| index_error(&err))?;
    let by_meaning = match (&query.vector, dimensions) {
        (Some(vector), Some(expected)) if vector.len() != expected => {
            return Err(IndexError::Dimensions { got: vector.len(), expected });
        }
        (Some(vector), Some(_)) => by_meaning(snapshot, vectors, allowed.as_ref(), vector, depth)?,
        _ => Vec::new(),
    };
    best(snapshot, fused(by_words, by_meaning), query.limit).map_err(|err| index_error(&err))
}

fn by_words(
    snapshot: &Snapshot,
    allowed: &dyn Query,
    query: &SearchQuery,
    depth: usize,
) -> tantivy::Result<Scored> {
    let Some(words) = query::lexical(snapshot, query)? else { return Ok(Vec::new()) };
    let both = BooleanQuery::new(vec![(Occur::Must, allowed.box_clone()), (Occur::Must, words)]);
    snapshot.searcher.search(&both, &TopDocs::with_limit(depth).order_by_score())
}

/// Every allowed passage that has a vector, by cosine, the best `depth`.
fn by_meaning(
    snapshot: &Snapshot,
    vectors: &Vectors,
    allowed: &dyn Query,
    vector: &[f32],
    depth: usize,
) -> Result<Scored, IndexError> {
    let mut rows = rows(snapshot, allowed).map_err(|err| index_error(&err))?;
    rows.sort_unstable_by_key(|(row, _)| *row);
    let places: Vec<u64> = rows.iter().map(|(row, _)| *row).collect();
    let mut scored = Vec::with_capacity(rows.len());
    vectors
        .scan(&places, vector, |place, score| scored.push((score, rows[place].1)))
        .map_err(|err| io_error(&err))?;
    if depth < scored.len() {
        scored.select_nth_unstable_by(depth, |a, b| b.0.total_cmp(&a.0));
        scored.truncate(depth);
    }
    Ok(scored)
}

fn rows(snapshot: &Snapshot, allowed: &dyn Query) -> tantivy::Result<Vec<(u64, DocAddress)>> {
    let weight = allowed.weight(EnableScoring::disabled_from_searcher(&snapshot.searcher))?;
    let mut rows = Vec::new();
    for (ord, segment) in (0u32..).zip(snapshot.searcher.segment_readers()) {
        let column = segment.fast_fields().u64(ROW)?;
        let alive = segment.alive_bitset();
        weight.for_each_no_score(segment, &mut |docs: &[DocId]| {
            let docs = docs.iter().filter(|doc| alive.is_none_or(|alive| alive.is_alive(**doc)));
            rows.extend(docs.filter_map(|doc| Some((column.first(*doc)?, DocAddress::new(ord, *doc)))));
        })?;
    }
    Ok(rows)
}

/// The best passages; equal ones by their ids.
fn best(snapshot: &Snapshot, scored: Scored, limit: usize) -> tantivy::Result<Vec<Passage>> {
    let mut ids: HashMap<u32, [tantivy::columnar::Column<u64>; 3]> = HashMap::new();
    let mut ranked = Vec::with_capacity(scored.len());
    for (score, at) in scored {
        if let Entry::Vacant(unknown) = ids.entry(at.segment_ord) {
            let fast = snapshot.searcher.segment_reader(at.segment_ord).fast_fields();
            unknown.insert([fast.u64(ID_HIGH)?, fast.u64(ID_LOW)?, fast.u64(ORDINAL)?]);
        }
        let id = ids[&at.segment_ord].each_ref().map(|column| column.first(at.doc_id));
        ranked.push((score, (id, at)));
    }
    let passage = |(score, (_, at)): (f32, ([Option<u64>; 3], DocAddress))| {
        let mut passage: Passage = serde_json::from_slice(&snapshot.stored(at)?).map_err(|err| {
            tantivy::error::DataCorruption::comment_only(format!("a stored passage: {err}"))
        })?;
        passage.score = score;
        Ok(passage)
    };
    best_first(ranked, limit, |(id, _)| *id).into_iter().map(passage).collect()
}
