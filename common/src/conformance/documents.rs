//! What every [`Documents`] must do. Each clause takes a tenant of its own, so that all can share one
//! server.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::model::{
    CanonicalText, CollectionName, Document, DocumentId, Heading, Origin, OriginPart, PassageSpan, Scalar, Span,
    TenantId, Timestamp, UploadId,
};
use crate::ports::{DocumentLookup, Documents, NewDocument, Write, Writer};

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

pub async fn an_upload_is_what_was_put_until_it_is_dropped(documents: Arc<dyn Documents>) {
    let (tenant, stranger) = (some_tenant(), some_tenant());
    let id = UploadId::new();
    let bytes = Bytes::from((0..=255u8).cycle().take(300_000).collect::<Vec<_>>());
    documents.put_upload(&tenant, id, Bytes::from_static(b"first try")).await.unwrap();
    documents.put_upload(&tenant, id, bytes.clone()).await.unwrap();
    assert_eq!(documents.upload(&tenant, id).await.unwrap(), Some(bytes));
    assert_eq!(documents.upload(&stranger, id).await.unwrap(), None);
    documents.drop_upload(&stranger, id).await.unwrap();
    assert!(documents.upload(&tenant, id).await.unwrap().is_some());
    documents.drop_upload(&tenant, id).await.unwrap();
    documents.drop_upload(&tenant, id).await.unwrap();
    assert_eq!(documents.upload(&tenant, id).await.unwrap(), None);
}

pub async fn old_uploads_are_dropped_and_young_ones_are_not(documents: Arc<dyn Documents>) {
    let tenant = some_tenant();
    let id = UploadId::new();
    documents.put_upload(&tenant, id, Bytes::from_static("原件".as_bytes())).await.unwrap();
    documents.drop_uploads_before(Timestamp::now() - Duration::from_secs(3600)).await.unwrap();
    assert!(documents.upload(&tenant, id).await.unwrap().is_some());
    let dropped = documents.drop_uploads_before(Timestamp::now() + Duration::from_secs(3600)).await.unwrap();
    assert!(1 <= dropped);
    assert_eq!(documents.upload(&tenant, id).await.unwrap(), None);
}

pub async fn a_collection_is_made_once_and_counts_its_documents(documents: Arc<dyn Documents>) {
    let tenant = some_tenant();
    let (first, second) = (collection("a-手册"), collection("b"));
    assert!(documents.create_collection(&tenant, &first).await.unwrap());
    assert!(!documents.create_collection(&tenant, &first).await.unwrap());
    for name in ["one", "two"] {
        documents.put(&tenant, some_document(&second, name, "text", by(1, 0))).await.unwrap();
    }
    documents.put(&tenant, some_document(&second, "two", "again", by(2, 0))).await.unwrap();
    let expected = vec![(first.clone(), 0), (second.clone(), 2)];
    assert_eq!(documents.collections(&tenant).await.unwrap(), expected);
    assert!(!documents.create_collection(&tenant, &second).await.unwrap());
    assert_eq!(documents.collections(&some_tenant()).await.unwrap(), []);
    assert_eq!(documents.list(&tenant, &collection("c"), 10, None).await.unwrap(), None);
    assert_eq!(documents.list(&tenant, &first, 10, None).await.unwrap().unwrap().data, []);
}

pub async fn a_document_is_listed_and_read_as_it_was_put(documents: Arc<dyn Documents>) {
    let tenant = some_tenant();
    let manual = collection("手册");
    let new = some_document(&manual, "指南/Anfänge.md", "Häuser 与 房子\n\n第二段 🙂", by(7, 2));
    let id = new.document.id;
    assert_eq!(documents.put(&tenant, new.clone()).await.unwrap(), Write::Written);
    let got = documents.get(&tenant, &manual, id).await.unwrap();
    assert_eq!(got, DocumentLookup::Found(new.document.clone()));
    let text = documents.text(&tenant, &manual, id).await.unwrap();
    assert_eq!(text, DocumentLookup::Found(new.canonical.text.clone()));
    let list = documents.list(&tenant, &manual, 10, None).await.unwrap().unwrap();
    assert_eq!((list.data, list.next), (vec![new.document], None));
    let elsewhere = documents.get(&tenant, &collection("other"), id).await.unwrap();
    assert_eq!(elsewhere, DocumentLookup::Unknown);
    let unknown = documents.text(&tenant, &manual, DocumentId::new()).await.unwrap();
    assert_eq!(unknown, DocumentLookup::Unknown);
}

pub async fn a_tenant_sees_nothing_of_another(documents: Arc<dyn Documents>) {
    let (owner, stranger) = (some_tenant(), some_tenant());
    let shared = collection("shared");
    let new = some_document(&shared, "secret", "text", by(1, 0));
    let id = new.document.id;
    documents.put(&owner, new).await.unwrap();
    assert_eq!(documents.list(&stranger, &shared, 10, None).await.unwrap(), None);
    assert_eq!(documents.get(&stranger, &shared, id).await.unwrap(), DocumentLookup::Unknown);
    assert_eq!(documents.text(&stranger, &shared, id).await.unwrap(), DocumentLookup::Unknown);
    assert_eq!(documents.delete(&stranger, &shared, id, 9).await.unwrap(), DocumentLookup::Unknown);
    assert!(!documents.delete_collection(&stranger, &shared, 9).await.unwrap());
    documents.forget(&stranger, id).await.unwrap();
    assert!(matches!(documents.text(&owner, &shared, id).await.unwrap(), DocumentLookup::Found(_)));
}

pub async fn pages_of_a_list_hold_every_name_once(documents: Arc<dyn Documents>) {
    let tenant = some_tenant();
    let many = collection("many");
    let mut names: Vec<String> = (0..23).map(|n| format!("文件 {n}")).collect();
    for name in &names {
        documents.put(&tenant, some_document(&many, name, name, by(1, 0))).await.unwrap();
    }
    names.sort();
    for limit in [1, 7, 23, 100] {
        let (mut seen, mut after) = (Vec::new(), None::<String>);
        loop {
            let page = documents.list(&tenant, &many, limit, after.as_deref()).await.unwrap().unwrap();
            assert!(page.data.len() <= limit);
            seen.extend(page.data.into_iter().map(|document| document.name));
            after = page.next;
            if after.is_none() {
                break;
            }
        }
        assert_eq!(seen, names, "limit {limit}");
    }
}

pub async fn a_replaced_version_is_not_listed_and_stays_readable_until_forgotten(documents: Arc<dyn Documents>) {
    let tenant = some_tenant();
    let manual = collection("manual");
    let (old, new) =
        (some_document(&manual, "a", "old", by(1, 0)), some_document(&manual, "a", "new", by(2, 0)));
    let (old_id, new_id) = (old.document.id, new.document.id);
    documents.put(&tenant, old).await.unwrap();
    documents.put(&tenant, new).await.unwrap();
    let listed = documents.list(&tenant, &manual, 10, None).await.unwrap().unwrap().data;
    assert_eq!(listed.iter().map(|document| document.id).collect::<Vec<_>>(), [new_id]);
    let text = documents.text(&tenant, &manual, old_id).await.unwrap();
    assert_eq!(text, DocumentLookup::Found("old".to_owned()));
    let candidates = documents.replaced(1_000_000).await.unwrap();
    assert!(candidates.contains(&(tenant.clone(), old_id)) && !candidates.contains(&(tenant.clone(), new_id)));
    documents.forget(&tenant, new_id).await.unwrap();
    documents.forget(&tenant, old_id).await.unwrap();
    assert_eq!(documents.text(&tenant, &manual, old_id).await.unwrap(), DocumentLookup::Deleted);
    assert!(matches!(documents.text(&tenant, &manual, new_id).await.unwrap(), DocumentLookup::Found(_)));
    assert!(!documents.replaced(1_000_000).await.unwrap().contains(&(tenant, old_id)));
}

pub async fn an_attempt_that_runs_again_writes_its_version_again(documents: Arc<dyn Documents>) {
    let tenant = some_tenant();
    let manual = collection("manual");
    let mut new = some_document(&manual, "a", "first attempt", by(4, 1));
    documents.put(&tenant, new.clone()).await.unwrap();
    new.writer.epoch = 2;
    new.canonical.text = "second attempt".to_owned();
    assert_eq!(documents.put(&tenant, new.clone()).await.unwrap(), Write::Written);
    assert_eq!(documents.put(&tenant, new.clone()).await.unwrap(), Write::Written);
    let text = documents.text(&tenant, &manual, new.document.id).await.unwrap();
    assert_eq!(text, DocumentLookup::Found("second attempt".to_owned()));
    assert!(!documents.replaced(1_000_000).await.unwrap().contains(&(tenant, new.document.id)));
}

pub async fn the_newest_writer_wins_in_whatever_order_writes_come(documents: Arc<dyn Documents>) {
    let tenant = some_tenant();
    let fenced = collection("fenced");
    for (n, order) in orders(&[by(1, 1), by(1, 2), by(2, 0), by(3, 5)]).into_iter().enumerate() {
        let name = format!("document {n}");
        let mut newest = None;
        for writer in order {
            let text = format!("{}.{}", writer.version, writer.epoch);
            let answer = documents.put(&tenant, some_document(&fenced, &name, &text, writer)).await.unwrap();
            let expected = if newest.is_none_or(|newest| newest <= writer) { Write::Written } else { Write::Stale };
            assert_eq!(answer, expected, "{writer:?} after {newest:?}");
            newest = newest.max(Some(writer));
        }
        let listed = documents.list(&tenant, &fenced, 100, None).await.unwrap().unwrap().data;
        let id = listed.iter().find(|document| document.name == name).unwrap().id;
        let text = documents.text(&tenant, &fenced, id).await.unwrap();
        assert_eq!(text, DocumentLookup::Found("3.5".to_owned()));
    }
}

pub async fn a_deleted_document_comes_back_only_by_a_newer_write(documents: Arc<dyn Documents>) {
    let tenant = some_tenant();
    let manual = collection("manual");
    let new = some_document(&manual, "a", "text", by(1, 1));
    let id = new.document.id;
    documents.put(&tenant, new.clone()).await.unwrap();
    let deleted = documents.delete(&tenant, &manual, id, 3).await.unwrap();
    assert_eq!(deleted, DocumentLookup::Found(new.document.clone()));
    assert_eq!(documents.delete(&tenant, &manual, id, 4).await.unwrap(), DocumentLookup::Deleted);
    assert_eq!(documents.get(&tenant, &manual, id).await.unwrap(), DocumentLookup::Deleted);
    assert_eq!(documents.text(&tenant, &manual, id).await.unwrap(), DocumentLookup::Deleted);
    assert_eq!(documents.list(&tenant, &manual, 10, None).await.unwrap().unwrap().data, []);
    let late = NewDocument { writer: by(2, 9), ..new.clone() };
    assert_eq!(documents.put(&tenant, late).await.unwrap(), Write::Stale);
    assert_eq!(documents.get(&tenant, &manual, id).await.unwrap(), DocumentLookup::Deleted);
    let newer = some_document(&manual, "a", "again", by(5, 1));
    assert_eq!(documents.put(&tenant, newer.clone()).await.unwrap(), Write::Written);
    let listed = documents.list(&tenant, &manual, 10, None).await.unwrap().unwrap().data;
    assert_eq!(listed, [newer.document]);
}

pub async fn a_deleted_collection_refuses_older_writes_and_is_made_again_by_newer_ones(
    documents: Arc<dyn Documents>,
) {
    let tenant = some_tenant();
    let manual = collection("manual");
    assert!(!documents.delete_collection(&tenant, &manual, 1).await.unwrap());
    let old = some_document(&manual, "a", "text", by(2, 1));
    documents.put(&tenant, old.clone()).await.unwrap();
    assert!(documents.delete_collection(&tenant, &manual, 5).await.unwrap());
    assert!(!documents.delete_collection(&tenant, &manual, 6).await.unwrap());
    assert_eq!(documents.collections(&tenant).await.unwrap(), []);
    assert_eq!(documents.list(&tenant, &manual, 10, None).await.unwrap(), None);
    let gone = documents.text(&tenant, &manual, old.document.id).await.unwrap();
    assert_eq!(gone, DocumentLookup::Deleted);
    for (name, writer) in [("a", by(4, 7)), ("b", by(4, 0))] {
        let late = some_document(&manual, name, "late", writer);
        assert_eq!(documents.put(&tenant, late).await.unwrap(), Write::Stale);
    }
    assert_eq!(documents.collections(&tenant).await.unwrap(), []);
    let newer = some_document(&manual, "a", "newer", by(7, 1));
    assert_eq!(documents.put(&tenant, newer).await.unwrap(), Write::Written);
    assert_eq!(documents.collections(&tenant).await.unwrap(), [(manual.clone(), 1)]);
    let late = some_document(&manual, "b", "late", by(4, 8));
    assert_eq!(documents.put(&tenant, late).await.unwrap(), Write::Stale);
}

pub async fn deleting_a_collection_spares_what_newer_jobs_wrote(documents: Arc<dyn Documents>) {
    let tenant = some_tenant();
    let manual = collection("manual");
    let (old, newer) =
        (some_document(&manual, "old", "x", by(2, 1)), some_document(&manual, "newer", "y", by(9, 1)));
    documents.put(&tenant, old).await.unwrap();
    documents.put(&tenant, newer.clone()).await.unwrap();
    assert!(documents.delete_collection(&tenant, &manual, 5).await.unwrap());
    let left = documents.list(&tenant, &manual, 10, None).await.unwrap().unwrap().data;
    assert_eq!(left, [newer.document]);
}

pub async fn an_export_holds_every_current_document_once(documents: Arc<dyn Documents>) {
    let tenant = some_tenant();
    let (one, two) = (collection("one"), collection("二"));
    let mut expected = Vec::new();
    for n in 0..9u64 {
        let new = some_document(if n % 2 == 0 { &one } else { &two }, &format!("d{n}"), "甲\n\nb", by(n + 1, n));
        documents.put(&tenant, new.clone()).await.unwrap();
        expected.push(new);
    }
    let replaced = some_document(&one, "d0", "replaced", by(20, 0));
    documents.put(&tenant, replaced.clone()).await.unwrap();
    expected[0] = replaced;
    documents.delete(&tenant, &two, expected[1].document.id, 21).await.unwrap();
    expected.remove(1);
    expected.sort_by_key(|new| new.document.id);
    for limit in [1, 4, 1000] {
        let (mut seen, mut after) = (Vec::new(), None);
        loop {
            let page = documents.export(after, limit).await.unwrap();
            let Some((_, last)) = page.last() else { break };
            after = Some(last.document.id);
            seen.extend(page.into_iter().filter(|(of, _)| *of == tenant).map(|(_, new)| new));
        }
        assert_eq!(seen, expected, "limit {limit}");
    }
}

pub async fn concurrent_writers_lose_nothing(documents: Arc<dyn Documents>) {
    let tenant = some_tenant();
    let busy = collection("busy");
    let put = |n: u64| {
        let (documents, tenant, busy) = (Arc::clone(&documents), tenant.clone(), busy.clone());
        async move { documents.put(&tenant, some_document(&busy, &format!("d{n}"), "text", by(1, 0))).await.unwrap() }
    };
    futures::future::join_all((0..40).map(put)).await;
    documents.ready().await.unwrap();
    assert_eq!(documents.collections(&tenant).await.unwrap(), [(busy, 40)]);
}
