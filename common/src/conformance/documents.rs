//! What every [`Documents`](crate::ports::Documents) must do.
//!
//! An adapter's test calls [`documents_conformance!`](crate::documents_conformance), which makes one
//! test of each clause.
#![allow(clippy::unwrap_used, reason = "a clause fails by panicking")]

use std::collections::BTreeMap;

use crate::model::{
    CanonicalText, CollectionName, Document, DocumentId, Heading, Origin, OriginPart, PassageSpan, Scalar,
    Span, TenantId, Timestamp,
};
use crate::ports::{NewDocument, Writer};

pub mod lists;
pub mod uploads;
pub mod versions;

/// A tenant no other clause uses.
#[must_use]
pub fn some_tenant() -> TenantId {
    format!("t-{}", DocumentId::new().uuid()).parse().expect("letters, digits and hyphens")
}

/// A collection of that name.
#[must_use]
pub fn collection(name: &str) -> CollectionName {
    name.parse().expect("a clause names only valid collections")
}

/// A document whose passages are the paragraphs of `text`.
#[must_use]
pub fn some_document(collection: &CollectionName, name: &str, text: &str, writer: Writer) -> NewDocument {
    let mut passages = Vec::new();
    let mut from = 0;
    for paragraph in text.split("\n\n") {
        let span = Span::new(from, from + paragraph.len());
        passages.push(PassageSpan {
            span,
            headings: vec!["章 one".to_owned()],
            origin: Some(Origin::Page(1)),
        });
        from = span.to + 2;
    }
    let document = Document {
        id: DocumentId::new(),
        collection: collection.clone(),
        name: name.to_owned(),
        title: format!("Title of {name}"),
        content_type: "text/plain".to_owned(),
        bytes: text.len() as u64,
        passages: u32::try_from(passages.len()).unwrap_or(u32::MAX),
        source: Some("https://example.org/来源".to_owned()),
        metadata: BTreeMap::from([
            ("year".to_owned(), Scalar::Number(2026.into())),
            ("draft".to_owned(), Scalar::Bool(true)),
        ]),
        created_at: Timestamp::from_millis(1_795_546_500_123),
    };
    let canonical = CanonicalText {
        text: text.to_owned(),
        title: "Own title".to_owned(),
        headings: vec![Heading { level: 1, span: Span::new(0, 0) }],
        origins: vec![OriginPart { span: Span::new(0, text.len()), origin: Origin::Line(1) }],
        warnings: vec!["hidden text was left out".to_owned()],
    };
    NewDocument { document, canonical, passages, writer }
}

/// Writers of version `version` at epoch `epoch`.
#[must_use]
pub fn by(version: u64, epoch: u64) -> Writer {
    Writer { version, epoch }
}

/// Every order of `items`.
pub(super) fn orders<T: Clone>(items: &[T]) -> Vec<Vec<T>> {
    if items.is_empty() {
        return vec![Vec::new()];
    }
    let mut all = Vec::new();
    for n in 0..items.len() {
        let mut rest = items.to_vec();
        let first = rest.remove(n);
        all.extend(orders(&rest).into_iter().map(|order| [vec![first.clone()], order].concat()));
    }
    all
}

/// Makes one test of each clause: `documents_conformance!(open)`, where `open` is an async function
/// that returns an `Arc<dyn Documents>` on empty storage of its own, and what that stands on.
#[macro_export]
macro_rules! documents_conformance {
    ($open:path) => {
        $crate::documents_conformance! { @ $open,
            uploads: an_upload_is_what_was_put_until_it_is_dropped,
            uploads: old_uploads_are_dropped_and_young_ones_are_not,
            lists: a_collection_is_made_once_and_counts_its_documents,
            lists: a_document_is_listed_and_read_as_it_was_put,
            lists: a_tenant_sees_nothing_of_another,
            lists: pages_of_a_list_hold_every_name_once,
            lists: an_export_holds_every_current_document_once,
            lists: concurrent_writers_lose_nothing,
            lists: any_character_is_kept,
            versions: a_replaced_version_is_not_listed_and_stays_readable_until_forgotten,
            versions: an_attempt_that_runs_again_writes_its_version_again,
            versions: the_newest_writer_wins_in_whatever_order_writes_come,
            versions: a_deleted_document_comes_back_only_by_a_newer_write,
            versions: a_deleted_collection_refuses_older_writes_and_is_made_again_by_newer_ones,
            versions: deleting_a_collection_spares_what_newer_jobs_wrote,
            versions: deleting_a_replaced_version_spares_its_successor,
        }
    };
    (@ $open:path, $($module:ident : $clause:ident),* $(,)?) => {
        $(
            #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $clause() {
                let (documents, _stands_on) = $open().await;
                $crate::conformance::documents::$module::$clause(documents).await;
            }
        )*
    };
}
