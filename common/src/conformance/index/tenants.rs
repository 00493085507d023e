//! Who finds what.

use std::sync::Arc;

use super::{ask, by, collection, document, names, put, some_tenant, sorted_names};
use crate::ports::{Index, SearchQuery};

pub async fn a_tenant_finds_nothing_of_another(index: Arc<dyn Index>) {
    let (one, two) = (some_tenant(), some_tenant());
    let shared = collection("shared-手册");
    for (tenant, text) in [(&one, "the tide mill of one"), (&two, "the tide mill of two")] {
        put(&index, tenant, document(&shared, "same name", &[text], by(1, 0))).await;
    }
    for (tenant, text) in [(&one, "the tide mill of one"), (&two, "the tide mill of two")] {
        let found = index.search(tenant, &ask("tide mill", &shared)).await.unwrap();
        assert_eq!(found.iter().map(|passage| passage.text.as_str()).collect::<Vec<_>>(), [text]);
    }
    assert_eq!(names(&index, &some_tenant(), &ask("tide mill", &shared)).await, [""; 0]);
}

pub async fn a_tenant_changes_nothing_of_another(index: Arc<dyn Index>) {
    let (owner, stranger) = (some_tenant(), some_tenant());
    let shared = collection("shared");
    put(&index, &owner, document(&shared, "secret", &["the tide mill"], by(1, 0))).await;
    index.delete(&stranger, &shared, "secret", by(9, 0)).await.unwrap();
    index.delete_collection(&stranger, &shared, by(9, 0)).await.unwrap();
    put(&index, &stranger, document(&shared, "secret", &["another thing"], by(10, 0))).await;
    assert_eq!(names(&index, &owner, &ask("tide mill", &shared)).await, ["secret"]);
    // The stranger's fences are the stranger's.
    put(&index, &owner, document(&shared, "secret", &["the wind mill"], by(2, 0))).await;
    assert_eq!(names(&index, &owner, &ask("wind", &shared)).await, ["secret"]);
}

pub async fn only_the_collections_asked_are_searched(index: Arc<dyn Index>) {
    let tenant = some_tenant();
    let (north, south, east) = (collection("north"), collection("south"), collection("east"));
    for place in [&north, &south, &east] {
        let text = format!("a mill in the {place}");
        put(&index, &tenant, document(place, place.as_str(), &[&text], by(1, 0))).await;
    }
    assert_eq!(names(&index, &tenant, &ask("mill", &south)).await, ["south"]);
    let both = SearchQuery { collections: vec![north.clone(), south.clone()], ..ask("mill", &north) };
    assert_eq!(sorted_names(&index, &tenant, &both).await, ["north", "south"]);
    let none = SearchQuery { collections: Vec::new(), ..ask("mill", &north) };
    assert_eq!(names(&index, &tenant, &none).await, [""; 0]);
    let unknown = ask("mill", &collection("west"));
    assert_eq!(names(&index, &tenant, &unknown).await, [""; 0]);
}

pub async fn an_empty_index_finds_nothing(index: Arc<dyn Index>) {
    index.ready().await.unwrap();
    let tenant = some_tenant();
    let nowhere = collection("nowhere");
    assert_eq!(names(&index, &tenant, &ask("mill", &nowhere)).await, [""; 0]);
    put(&index, &tenant, document(&nowhere, "empty", &[], by(1, 0))).await;
    assert_eq!(names(&index, &tenant, &ask("mill", &nowhere)).await, [""; 0]);
    let silent = SearchQuery { texts: Vec::new(), ..ask("", &nowhere) };
    assert_eq!(names(&index, &tenant, &silent).await, [""; 0]);
}
