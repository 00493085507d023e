//! What every [`Index`] must do.
//!
//! An adapter's test calls [`index_conformance!`](crate::index_conformance), which makes one test of
//! each clause.
#![allow(clippy::unwrap_used, reason = "a clause fails by panicking")]

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;

use crate::model::{CollectionName, DocumentId, Filter, Passage, Span, TenantId};
use crate::ports::{
    Embedder, Index, IndexDocument, IndexPassage, ModelError, Reading, SearchQuery, Write, Writer,
};

pub mod fences;
pub mod filters;
pub mod language;
pub mod ranking;
pub mod spans;
pub mod tenants;
pub mod vectors;

pub use super::documents::{by, collection, some_tenant};

/// A document whose passages are `paragraphs`, two line ends apart in its text.
#[must_use]
pub fn document(
    collection: &CollectionName,
    name: &str,
    paragraphs: &[&str],
    writer: Writer,
) -> IndexDocument {
    let mut from = 0;
    let passage = |text: &&str| {
        let span = Span::new(from, from + text.len());
        from = span.to + 2;
        IndexPassage { span, text: (*text).to_owned(), headings: Vec::new(), vector: None }
    };
    IndexDocument {
        collection: collection.clone(),
        id: DocumentId::new(),
        name: name.to_owned(),
        title: String::new(),
        source: None,
        metadata: BTreeMap::new(),
        writer,
        passages: paragraphs.iter().map(passage).collect(),
    }
}

/// A question to one collection.
#[must_use]
pub fn ask(text: &str, collection: &CollectionName) -> SearchQuery {
    SearchQuery {
        texts: vec![text.to_owned()],
        vector: None,
        collections: vec![collection.clone()],
        filter: Filter::default(),
        limit: 10,
    }
}

/// Writes one document.
pub async fn put(index: &Arc<dyn Index>, tenant: &TenantId, document: IndexDocument) -> Write {
    let answers = index.upsert(tenant, vec![document]).await.unwrap();
    assert_eq!(answers.len(), 1, "one answer per document");
    answers[0]
}

/// Searches, having checked what is true of every answer.
pub async fn search(index: &Arc<dyn Index>, tenant: &TenantId, query: &SearchQuery) -> Vec<Passage> {
    let found = index.search(tenant, query).await.unwrap();
    assert!(found.len() <= query.limit);
    let ids: HashSet<_> = found.iter().map(|passage| passage.passage_id.to_string()).collect();
    assert_eq!(ids.len(), found.len(), "no passage comes twice: {found:?}");
    for pair in found.windows(2) {
        assert!(pair[1].score <= pair[0].score + 1e-4, "best first: {found:?}");
    }
    for passage in &found {
        assert!(passage.score.is_finite(), "{passage:?}");
        assert!(query.collections.contains(&passage.collection), "{passage:?}");
        assert_eq!(passage.passage_id.document, passage.document_id);
        assert_eq!(passage.span.len(), passage.text.len());
    }
    found
}

/// The documents found, best first.
pub async fn names(index: &Arc<dyn Index>, tenant: &TenantId, query: &SearchQuery) -> Vec<String> {
    search(index, tenant, query).await.into_iter().map(|passage| passage.document).collect()
}

/// The documents found, by name.
pub async fn sorted_names(index: &Arc<dyn Index>, tenant: &TenantId, query: &SearchQuery) -> Vec<String> {
    let mut names = names(index, tenant, query).await;
    names.sort();
    names
}

/// Makes vectors without a model: the same text always gives the same one, and texts that share
/// groups of three letters are near each other.
pub struct FakeEmbedder;

impl FakeEmbedder {
    pub const NAME: &str = "fake-trigrams";
    pub const DIMENSIONS: usize = 32;

    #[must_use]
    pub fn vector(text: &str) -> Vec<f32> {
        let letters: Vec<char> = text.to_lowercase().chars().collect();
        let mut vector = vec![0.0; Self::DIMENSIONS];
        for group in letters.windows(3) {
            let hash =
                group.iter().fold(2_166_136_261u32, |hash, c| (hash ^ *c as u32).wrapping_mul(16_777_619));
            let sign = if hash & 1 == 0 { 1.0 } else { -1.0 };
            vector[(hash >> 8) as usize % Self::DIMENSIONS] += sign;
        }
        vector
    }
}

#[async_trait]
impl Embedder for FakeEmbedder {
    fn name(&self) -> &str {
        Self::NAME
    }

    async fn embed(
        &self,
        texts: &[String],
        _deadline: Instant,
    ) -> Result<Reading<Vec<Vec<f32>>>, ModelError> {
        Ok(Reading::uncounted(texts.iter().map(|text| Self::vector(text)).collect()))
    }
}

/// Makes one test of each clause: `index_conformance!(open)`, where `open` is an async function that
/// returns an empty, ready `Arc<dyn Index>` of its own for vectors of [`FakeEmbedder`], and what that
/// stands on.
#[macro_export]
macro_rules! index_conformance {
    ($open:path) => {
        $crate::index_conformance! { @ $open,
            tenants: a_tenant_finds_nothing_of_another,
            tenants: a_tenant_changes_nothing_of_another,
            tenants: only_the_collections_asked_are_searched,
            tenants: an_empty_index_finds_nothing,
            filters: documents_are_chosen_by_name_and_source,
            filters: metadata_is_matched_by_type_and_value,
            filters: all_conditions_must_hold_and_one_of_a_list,
            filters: filters_find_exactly_what_a_scan_finds,
            fences: the_newest_writer_wins_in_whatever_order_writes_come,
            fences: a_deletion_takes_its_place_among_the_writes,
            fences: an_attempt_that_runs_again_writes_its_version_again,
            fences: a_replaced_document_is_not_found,
            fences: a_deletion_is_effective_at_once_and_leaves_a_tombstone,
            fences: a_deleted_collection_refuses_older_writes,
            fences: deleting_a_collection_spares_what_newer_jobs_wrote,
            fences: each_document_of_a_batch_has_its_own_answer,
            fences: concurrent_writers_leave_the_newest,
            language: english_words_meet_in_all_their_forms,
            language: questions_of_each_language_find_their_document,
            language: identifiers_are_found_whole_and_by_parts,
            language: words_that_no_document_has_find_nothing,
            ranking: a_rare_word_says_more_than_a_common_one,
            ranking: more_of_a_word_scores_higher,
            ranking: shorter_passages_score_higher,
            ranking: more_words_of_the_question_score_higher,
            ranking: a_word_in_the_title_beats_a_heading_and_that_the_text,
            ranking: neighbours_in_the_question_are_better_as_neighbours,
            ranking: the_best_wording_of_a_question_counts,
            ranking: a_limit_cuts_the_same_list,
            ranking: a_pasted_page_asks_for_its_rare_words,
            spans: spans_are_bytes_of_the_canonical_text,
            spans: titles_carry_the_headings_above,
            spans: any_character_is_kept,
            vectors: meaning_finds_what_shares_no_word,
            vectors: words_and_meaning_are_put_together,
            vectors: documents_without_vectors_are_found_by_words,
            vectors: the_nearest_are_those_of_a_naive_scan,
            vectors: vectors_obey_tenants_collections_and_filters,
            vectors: replaced_and_deleted_vectors_are_not_found,
            vectors: a_vector_without_direction_does_no_harm,
            vectors: other_dimensions_are_refused,
        }
    };
    (@ $open:path, $($module:ident : $clause:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $clause() {
                let (index, _stands_on) = $open().await;
                $crate::conformance::index::$module::$clause(index).await;
            }
        )*
    };
}
