//! Writes obey the fence (version, epoch) of their name and collection, in whatever order they come.

use std::sync::Arc;

use super::super::documents::orders;
use super::{ask, by, collection, document, names, put, search, some_tenant, sorted_names};
use crate::model::{CollectionName, TenantId};
use crate::ports::{Index, SearchQuery, Write, Writer};

fn expected(newest: Option<Writer>, writer: Writer) -> Write {
    if newest.is_none_or(|newest| newest <= writer) { Write::Written } else { Write::Stale }
}

/// What is found of one document.
async fn texts_of(
    index: &Arc<dyn Index>,
    tenant: &TenantId,
    collection: &CollectionName,
    name: &str,
) -> Vec<String> {
    let filter = serde_json::from_value(serde_json::json!({ "name": name })).unwrap();
    let query = SearchQuery { filter, ..ask("mill", collection) };
    search(index, tenant, &query).await.into_iter().map(|passage| passage.text).collect()
}

pub async fn the_newest_writer_wins_in_whatever_order_writes_come(index: Arc<dyn Index>) {
    let (tenant, fenced) = (some_tenant(), collection("fenced"));
    for (n, order) in orders(&[by(1, 1), by(1, 2), by(2, 0), by(3, 5)]).into_iter().enumerate() {
        let name = format!("document {n}");
        let mut newest = None;
        for writer in order {
            let text = format!("mill version {}.{}", writer.version, writer.epoch);
            let answer = put(&index, &tenant, document(&fenced, &name, &[&text], writer)).await;
            assert_eq!(answer, expected(newest, writer), "{writer:?} after {newest:?}");
            newest = newest.max(Some(writer));
        }
        assert_eq!(texts_of(&index, &tenant, &fenced, &name).await, ["mill version 3.5"]);
    }
}

pub async fn a_deletion_takes_its_place_among_the_writes(index: Arc<dyn Index>) {
    let (tenant, fenced) = (some_tenant(), collection("fenced"));
    let writers = [by(1, 3), by(2, 1), by(4, 1)];
    for (case, deletion) in [by(3, 0), by(5, 0)].into_iter().enumerate() {
        for (n, order) in orders(&[writers[0], writers[1], writers[2], deletion]).into_iter().enumerate() {
            let name = format!("document {case} {n}");
            let mut newest = None;
            for writer in order {
                let answer = if writer == deletion {
                    index.delete(&tenant, &fenced, &name, writer).await.unwrap()
                } else {
                    let text = format!("mill version {}", writer.version);
                    put(&index, &tenant, document(&fenced, &name, &[&text], writer)).await
                };
                assert_eq!(answer, expected(newest, writer), "{writer:?} after {newest:?}");
                newest = newest.max(Some(writer));
            }
            let left: &[&str] = if deletion < by(4, 1) { &["mill version 4"] } else { &[] };
            assert_eq!(texts_of(&index, &tenant, &fenced, &name).await, left);
        }
    }
}

pub async fn an_attempt_that_runs_again_writes_its_version_again(index: Arc<dyn Index>) {
    let (tenant, all) = (some_tenant(), collection("all"));
    let mut new = document(&all, "a", &["the first attempt"], by(4, 1));
    assert_eq!(put(&index, &tenant, new.clone()).await, Write::Written);
    assert_eq!(put(&index, &tenant, new.clone()).await, Write::Written);
    assert_eq!(names(&index, &tenant, &ask("first attempt", &all)).await, ["a"]);
    new.writer.epoch = 2;
    assert_eq!(put(&index, &tenant, new).await, Write::Written);
    assert_eq!(names(&index, &tenant, &ask("first attempt", &all)).await, ["a"]);
}

pub async fn a_replaced_document_is_not_found(index: Arc<dyn Index>) {
    let (tenant, all) = (some_tenant(), collection("all"));
    let old = document(&all, "a", &["a tide mill", "an old miller", "the mill pond"], by(1, 0));
    let new = document(&all, "a", &["a wind mill"], by(2, 0));
    let id = new.id;
    put(&index, &tenant, old).await;
    put(&index, &tenant, document(&all, "b", &["a pond"], by(1, 0))).await;
    put(&index, &tenant, new).await;
    assert_eq!(names(&index, &tenant, &ask("tide miller", &all)).await, [""; 0]);
    assert_eq!(names(&index, &tenant, &ask("pond", &all)).await, ["b"]);
    let found = search(&index, &tenant, &ask("mill", &all)).await;
    assert_eq!(found.iter().map(|passage| passage.document_id).collect::<Vec<_>>(), [id]);
}

pub async fn a_deletion_is_effective_at_once_and_leaves_a_tombstone(index: Arc<dyn Index>) {
    let (tenant, all) = (some_tenant(), collection("all"));
    put(&index, &tenant, document(&all, "a", &["a tide mill"], by(1, 1))).await;
    assert_eq!(index.delete(&tenant, &all, "a", by(3, 0)).await.unwrap(), Write::Written);
    assert_eq!(names(&index, &tenant, &ask("mill", &all)).await, [""; 0]);
    let late = document(&all, "a", &["a late mill"], by(2, 9));
    assert_eq!(put(&index, &tenant, late).await, Write::Stale);
    assert_eq!(names(&index, &tenant, &ask("mill", &all)).await, [""; 0]);
    // A name never written has a tombstone too: the write may still be on its way.
    index.delete(&tenant, &all, "b", by(3, 0)).await.unwrap();
    assert_eq!(put(&index, &tenant, document(&all, "b", &["mill"], by(2, 0))).await, Write::Stale);
    let newer = document(&all, "a", &["a new mill"], by(4, 1));
    assert_eq!(put(&index, &tenant, newer).await, Write::Written);
    assert_eq!(names(&index, &tenant, &ask("mill", &all)).await, ["a"]);
}

pub async fn a_deleted_collection_refuses_older_writes(index: Arc<dyn Index>) {
    let (tenant, all, other) = (some_tenant(), collection("all"), collection("other"));
    put(&index, &tenant, document(&all, "a", &["mill"], by(2, 1))).await;
    put(&index, &tenant, document(&other, "a", &["mill"], by(2, 1))).await;
    index.delete_collection(&tenant, &all, by(5, 0)).await.unwrap();
    index.delete_collection(&tenant, &all, by(4, 0)).await.unwrap();
    assert_eq!(names(&index, &tenant, &ask("mill", &all)).await, [""; 0]);
    assert_eq!(names(&index, &tenant, &ask("mill", &other)).await, ["a"]);
    for (name, writer) in [("a", by(4, 7)), ("b", by(4, 0))] {
        let late = document(&all, name, &["mill"], writer);
        assert_eq!(put(&index, &tenant, late).await, Write::Stale);
    }
    assert_eq!(put(&index, &tenant, document(&all, "a", &["mill"], by(7, 1))).await, Write::Written);
    assert_eq!(put(&index, &tenant, document(&all, "b", &["mill"], by(4, 8))).await, Write::Stale);
    assert_eq!(names(&index, &tenant, &ask("mill", &all)).await, ["a"]);
}

pub async fn deleting_a_collection_spares_what_newer_jobs_wrote(index: Arc<dyn Index>) {
    let (tenant, all) = (some_tenant(), collection("all"));
    put(&index, &tenant, document(&all, "old", &["mill"], by(2, 1))).await;
    put(&index, &tenant, document(&all, "newer", &["mill"], by(9, 1))).await;
    index.delete_collection(&tenant, &all, by(5, 0)).await.unwrap();
    assert_eq!(names(&index, &tenant, &ask("mill", &all)).await, ["newer"]);
    assert_eq!(put(&index, &tenant, document(&all, "newer", &["x"], by(8, 0))).await, Write::Stale);
}

pub async fn each_document_of_a_batch_has_its_own_answer(index: Arc<dyn Index>) {
    let (tenant, all, other) = (some_tenant(), collection("all"), collection("other"));
    put(&index, &tenant, document(&all, "b", &["mill kept"], by(5, 0))).await;
    let batch = vec![
        document(&all, "z", &["mill"], by(3, 0)),
        document(&all, "b", &["mill late"], by(3, 0)),
        document(&other, "b", &["mill"], by(3, 0)),
        document(&all, "twice", &["mill first"], by(3, 0)),
        document(&all, "twice", &["mill second"], by(3, 0)),
        document(&all, "a", &["mill"], by(3, 0)),
    ];
    let answers = index.upsert(&tenant, batch).await.unwrap();
    let expected =
        [Write::Written, Write::Stale, Write::Written, Write::Written, Write::Written, Write::Written];
    assert_eq!(answers, expected);
    assert_eq!(sorted_names(&index, &tenant, &ask("mill", &all)).await, ["a", "b", "twice", "z"]);
    assert_eq!(names(&index, &tenant, &ask("late first", &all)).await, [""; 0]);
    assert_eq!(sorted_names(&index, &tenant, &ask("kept second", &all)).await, ["b", "twice"]);
    assert_eq!(index.upsert(&tenant, Vec::new()).await.unwrap(), []);
}

pub async fn concurrent_writers_leave_the_newest(index: Arc<dyn Index>) {
    let (tenant, all) = (some_tenant(), collection("all"));
    // Each batch holds the same names in another order.
    let write = |version: u64| {
        let (index, tenant, all) = (Arc::clone(&index), tenant.clone(), all.clone());
        async move {
            let names = (0..5).map(|n| format!("d{}", (n + version) % 5));
            let text = format!("mill version{version}");
            let batch = names.map(|name| document(&all, &name, &[&text], by(version, 0))).collect();
            index.upsert(&tenant, batch).await.unwrap();
        }
    };
    futures::future::join_all((1..=12).map(write)).await;
    let found = search(&index, &tenant, &ask("mill", &all)).await;
    assert_eq!(found.len(), 5);
    assert!(found.iter().all(|passage| passage.text == "mill version12"), "{found:?}");
}
