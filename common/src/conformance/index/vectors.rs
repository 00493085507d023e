//! Vectors beside words.

use std::sync::Arc;

use super::{FakeEmbedder, ask, by, collection, document, names, put, search, some_tenant, sorted_names};
use crate::model::{CollectionName, Filter, PassageId};
use crate::ports::{Index, IndexDocument, IndexError, SearchQuery};

const DIMENSIONS: usize = FakeEmbedder::DIMENSIONS;

/// Of a direction given by its first numbers, in the space of all vectors.
fn towards(start: &[f32]) -> Vec<f32> {
    let mut vector = vec![0.0; DIMENSIONS];
    vector[..start.len()].copy_from_slice(start);
    vector
}

fn embedded(
    collection: &CollectionName,
    name: &str,
    passages: &[(&str, Vec<f32>)],
    version: u64,
) -> IndexDocument {
    let texts: Vec<&str> = passages.iter().map(|(text, _)| *text).collect();
    let mut document = document(collection, name, &texts, by(version, 0));
    for (passage, (_, vector)) in document.passages.iter_mut().zip(passages) {
        passage.vector = Some(vector.clone());
    }
    document
}

fn near(vector: &[f32], text: &str, collection: &CollectionName) -> SearchQuery {
    SearchQuery { vector: Some(vector.to_vec()), ..ask(text, collection) }
}

pub async fn meaning_finds_what_shares_no_word(index: Arc<dyn Index>) {
    let (tenant, all) = (some_tenant(), collection("all"));
    let documents = vec![
        embedded(&all, "far", &[("timber roof", towards(&[-1.0, 0.3]))], 1),
        embedded(&all, "near", &[("copper door", towards(&[9.0, 3.0]))], 1),
        embedded(&all, "middle", &[("slate floor", towards(&[0.1, 0.1]))], 1),
    ];
    index.upsert(&tenant, documents).await.unwrap();
    let query = near(&towards(&[0.3, 0.1]), "entirely unrelated", &all);
    assert_eq!(names(&index, &tenant, &query).await, ["near", "middle", "far"]);
    let silent = SearchQuery { texts: Vec::new(), ..query };
    assert_eq!(names(&index, &tenant, &silent).await, ["near", "middle", "far"]);
}

/// The second best by words and by meaning is better than the best of one that is the worst of the
/// other.
pub async fn words_and_meaning_are_put_together(index: Arc<dyn Index>) {
    let (tenant, all) = (some_tenant(), collection("all"));
    let documents = vec![
        embedded(&all, "words", &[("granite granite granite granite", towards(&[-1.0]))], 1),
        embedded(&all, "both", &[("granite granite copper door", towards(&[1.0, 0.4]))], 1),
        embedded(&all, "meaning", &[("timber roof copper door", towards(&[1.0]))], 1),
        embedded(&all, "neither", &[("granite roof copper door", towards(&[-1.0, 0.1]))], 1),
    ];
    index.upsert(&tenant, documents).await.unwrap();
    let found = names(&index, &tenant, &near(&towards(&[1.0]), "granite", &all)).await;
    assert_eq!(found[0], "both", "{found:?}");
    assert_eq!(found[3], "neither", "{found:?}");
    assert_eq!(names(&index, &tenant, &ask("granite", &all)).await, ["words", "both", "neither"]);
}

pub async fn documents_without_vectors_are_found_by_words(index: Arc<dyn Index>) {
    let (tenant, all) = (some_tenant(), collection("all"));
    put(&index, &tenant, document(&all, "plain", &["granite wall"], by(1, 0))).await;
    let query = near(&towards(&[1.0]), "granite", &all);
    assert_eq!(names(&index, &tenant, &query).await, ["plain"]);
    put(&index, &tenant, embedded(&all, "embedded", &[("copper door", towards(&[1.0]))], 1)).await;
    assert_eq!(sorted_names(&index, &tenant, &query).await, ["embedded", "plain"]);
}

pub async fn the_nearest_are_those_of_a_naive_scan(index: Arc<dyn Index>) {
    let (tenant, all) = (some_tenant(), collection("all"));
    let things = ["granite", "timber", "copper", "slate", "oaken", "bronze", "marble", "clay", "straw"];
    let text = |n: usize| format!("{} {} number {n}", things[n % 9], things[(n * n / 7 + 3) % 9]);
    let (mut documents, mut vectors) = (Vec::new(), Vec::new());
    for n in 0..40 {
        let texts: Vec<String> = (0..5).map(|m| text(n * 5 + m)).collect();
        let passages: Vec<_> = texts.iter().map(|text| (text.as_str(), FakeEmbedder::vector(text))).collect();
        let new = embedded(&all, &format!("d{n}"), &passages, 1);
        for (ordinal, (_, vector)) in (0u32..).zip(passages) {
            vectors.push((PassageId { document: new.id, ordinal }, vector));
        }
        documents.push(new);
    }
    index.upsert(&tenant, documents).await.unwrap();
    for question in ["granite wall", "oak and bronze", "number 77", "石头"] {
        let vector = FakeEmbedder::vector(question);
        let mut scan: Vec<(f32, PassageId)> =
            vectors.iter().map(|(id, stored)| (cosine(&vector, stored), *id)).collect();
        scan.sort_by(|a, b| b.0.total_cmp(&a.0));
        let query = SearchQuery { texts: Vec::new(), limit: 12, ..near(&vector, "", &all) };
        let found = search(&index, &tenant, &query).await;
        assert_eq!(found.len(), 12);
        for (passage, (score, _)) in found.iter().zip(&scan) {
            let (_, stored) = vectors.iter().find(|(id, _)| *id == passage.passage_id).unwrap();
            assert!((cosine(&vector, stored) - score).abs() < 1e-3, "{question}: {passage:?}, not {score}");
            assert!((passage.score - score).abs() < 1e-3, "{question}: {passage:?}, not {score}");
        }
    }
}

fn cosine(one: &[f32], other: &[f32]) -> f32 {
    let product = |one: &[f32], other: &[f32]| one.iter().zip(other).map(|(x, y)| x * y).sum::<f32>();
    let lengths = (product(one, one) * product(other, other)).sqrt();
    if lengths == 0.0 { 0.0 } else { product(one, other) / lengths }
}

pub async fn vectors_obey_tenants_collections_and_filters(index: Arc<dyn Index>) {
    let (one, two) = (some_tenant(), some_tenant());
    let (all, other) = (collection("all"), collection("other"));
    let direction = towards(&[1.0, 1.0]);
    for tenant in [&one, &two] {
        for (place, name) in [(&all, "a"), (&all, "b"), (&other, "c")] {
            put(&index, tenant, embedded(place, name, &[("copper door", direction.clone())], 1)).await;
        }
    }
    put(&index, &two, embedded(&all, "theirs", &[("copper door", direction.clone())], 1)).await;
    let query = near(&direction, "", &all);
    assert_eq!(sorted_names(&index, &one, &query).await, ["a", "b"]);
    let filter: Filter = serde_json::from_value(serde_json::json!({"name": ["b", "c", "theirs"]})).unwrap();
    let filtered = SearchQuery { filter, ..query.clone() };
    assert_eq!(names(&index, &one, &filtered).await, ["b"]);
    let both = SearchQuery { collections: vec![all.clone(), other], ..filtered };
    assert_eq!(sorted_names(&index, &one, &both).await, ["b", "c"]);
}

pub async fn replaced_and_deleted_vectors_are_not_found(index: Arc<dyn Index>) {
    let (tenant, all) = (some_tenant(), collection("all"));
    let (east, west) = (towards(&[1.0]), towards(&[-1.0]));
    put(&index, &tenant, embedded(&all, "a", &[("x", east.clone()), ("y", east.clone())], 1)).await;
    put(&index, &tenant, embedded(&all, "b", &[("z", east.clone())], 1)).await;
    put(&index, &tenant, embedded(&all, "a", &[("w", west)], 2)).await;
    let query = near(&east, "", &all);
    let texts: Vec<_> =
        search(&index, &tenant, &query).await.into_iter().map(|passage| passage.text).collect();
    assert_eq!(texts, ["z", "w"]);
    index.delete(&tenant, &all, "b", by(3, 0)).await.unwrap();
    assert_eq!(names(&index, &tenant, &query).await, ["a"]);
    index.delete_collection(&tenant, &all, by(4, 0)).await.unwrap();
    assert_eq!(names(&index, &tenant, &query).await, [""; 0]);
    // The room of those that went is used again without mixing them up.
    put(&index, &tenant, embedded(&all, "c", &[("v", east.clone())], 5)).await;
    assert_eq!(names(&index, &tenant, &query).await, ["c"]);
}

pub async fn a_vector_without_direction_does_no_harm(index: Arc<dyn Index>) {
    let (tenant, all) = (some_tenant(), collection("all"));
    let documents = vec![
        embedded(&all, "zero", &[("granite wall", towards(&[0.0]))], 1),
        embedded(&all, "east", &[("copper door", towards(&[1.0]))], 1),
    ];
    index.upsert(&tenant, documents).await.unwrap();
    let found = names(&index, &tenant, &near(&towards(&[1.0]), "", &all)).await;
    assert_eq!(found[0], "east");
    let found = names(&index, &tenant, &near(&towards(&[0.0]), "granite", &all)).await;
    assert_eq!(found[0], "zero");
}

pub async fn other_dimensions_are_refused(index: Arc<dyn Index>) {
    let (tenant, all) = (some_tenant(), collection("all"));
    put(&index, &tenant, embedded(&all, "a", &[("granite", towards(&[1.0]))], 1)).await;
    let refused = |result: Result<(), IndexError>| match result {
        Err(IndexError::Dimensions { got, expected }) => assert_eq!((got, expected), (3, DIMENSIONS)),
        other => panic!("not refused for its dimensions: {other:?}"),
    };
    let short = embedded(&all, "b", &[("copper", vec![1.0, 0.0, 0.0])], 1);
    refused(index.upsert(&tenant, vec![short]).await.map(drop));
    refused(index.search(&tenant, &near(&[1.0, 0.0, 0.0], "granite", &all)).await.map(drop));
    assert_eq!(names(&index, &tenant, &ask("granite copper", &all)).await, ["a"]);
}
