//! Collections, lists, exports, and who sees them.

use std::sync::Arc;

use super::{by, collection, some_document, some_tenant};
use crate::model::{DocumentId, Scalar};
use crate::ports::{DocumentLookup, Documents, Write};

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

pub async fn an_export_holds_every_current_document_once(documents: Arc<dyn Documents>) {
    let tenant = some_tenant();
    let (one, two) = (collection("one"), collection("二"));
    let mut expected = Vec::new();
    for n in 0..9u64 {
        let new =
            some_document(if n % 2 == 0 { &one } else { &two }, &format!("d{n}"), "甲\n\nb", by(n + 1, n));
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
        async move {
            documents.put(&tenant, some_document(&busy, &format!("d{n}"), "text", by(1, 0))).await.unwrap()
        }
    };
    futures::future::join_all((0..40).map(put)).await;
    documents.ready().await.unwrap();
    assert_eq!(documents.collections(&tenant).await.unwrap(), [(busy, 40)]);
}

/// Also a NUL, which some databases cannot keep in a text.
pub async fn any_character_is_kept(documents: Arc<dyn Documents>) {
    let tenant = some_tenant();
    let odd = collection("odd");
    let text = "a\u{0}b\r\n\u{feff}\u{202e}🙂\u{10ffff}'\\\"%_$1";
    let mut new = some_document(&odd, text, text, by(1, 0));
    new.document.source = Some(text.to_owned());
    new.document.metadata.insert(text.to_owned(), Scalar::Text(text.to_owned()));
    documents.put(&tenant, new.clone()).await.unwrap();
    let got = documents.get(&tenant, &odd, new.document.id).await.unwrap();
    assert_eq!(got, DocumentLookup::Found(new.document.clone()));
    let kept = documents.text(&tenant, &odd, new.document.id).await.unwrap();
    assert_eq!(kept, DocumentLookup::Found(text.to_owned()));
    assert_eq!(documents.list(&tenant, &odd, 9, None).await.unwrap().unwrap().data, [new.document]);
    assert_eq!(documents.list(&tenant, &odd, 9, Some(text)).await.unwrap().unwrap().data, []);
}
