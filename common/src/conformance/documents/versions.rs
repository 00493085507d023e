//! Versions of a name: the newest writer wins, the replaced stays readable, the deleted stays away.

use std::sync::Arc;

use super::{by, collection, orders, some_document, some_tenant};
use crate::ports::{DocumentLookup, Documents, NewDocument, Write};

pub async fn a_replaced_version_is_not_listed_and_stays_readable_until_forgotten(
    documents: Arc<dyn Documents>,
) {
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
    assert!(
        candidates.contains(&(tenant.clone(), old_id)) && !candidates.contains(&(tenant.clone(), new_id))
    );
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
            let expected =
                if newest.is_none_or(|newest| newest <= writer) { Write::Written } else { Write::Stale };
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

pub async fn deleting_a_replaced_version_spares_its_successor(documents: Arc<dyn Documents>) {
    let tenant = some_tenant();
    let manual = collection("manual");
    let (old, new) =
        (some_document(&manual, "a", "old", by(1, 0)), some_document(&manual, "a", "new", by(2, 0)));
    documents.put(&tenant, old.clone()).await.unwrap();
    documents.put(&tenant, new.clone()).await.unwrap();
    let deleted = documents.delete(&tenant, &manual, old.document.id, 9).await.unwrap();
    assert_eq!(deleted, DocumentLookup::Found(old.document.clone()));
    let gone = documents.text(&tenant, &manual, old.document.id).await.unwrap();
    assert_eq!(gone, DocumentLookup::Deleted);
    let text = documents.text(&tenant, &manual, new.document.id).await.unwrap();
    assert_eq!(text, DocumentLookup::Found("new".to_owned()));
    let third = some_document(&manual, "a", "third", by(3, 0));
    assert_eq!(documents.put(&tenant, third).await.unwrap(), Write::Written);
}
