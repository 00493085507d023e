//! Filters are part of the query itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use proptest::prelude::*;
use proptest::test_runner::{Config, TestRunner};
use serde_json::{Value, json};

use super::{ask, by, collection, document, some_tenant, sorted_names};
use crate::model::{CollectionName, Filter, FilterValue, Scalar, TenantId};
use crate::ports::{Index, IndexDocument, SearchQuery};

fn filter(json: Value) -> Filter {
    serde_json::from_value(json).expect("a clause names only valid filters")
}

fn filtered(collection: &CollectionName, json: Value) -> SearchQuery {
    SearchQuery { filter: filter(json), limit: 100, ..ask("mill", collection) }
}

fn described(
    collection: &CollectionName,
    name: &str,
    source: Option<&str>,
    metadata: Value,
) -> IndexDocument {
    let metadata = serde_json::from_value(metadata).expect("flat metadata");
    let source = source.map(str::to_owned);
    IndexDocument { source, metadata, ..document(collection, name, &["a mill"], by(1, 0)) }
}

async fn holds(index: &Arc<dyn Index>, tenant: &TenantId, cases: &[(SearchQuery, &[&str])]) {
    for (query, expected) in cases {
        assert_eq!(sorted_names(index, tenant, query).await, *expected, "{:?}", query.filter);
    }
}

pub async fn documents_are_chosen_by_name_and_source(index: Arc<dyn Index>) {
    let (tenant, all) = (some_tenant(), collection("all"));
    let documents = vec![
        described(&all, "指南/one.md", Some("https://example.org/来源"), json!({})),
        described(&all, "two.md", Some("two.md"), json!({"name": "指南/one.md"})),
        described(&all, "three.md", None, json!({})),
    ];
    index.upsert(&tenant, documents).await.unwrap();
    let q = |json| filtered(&all, json);
    holds(
        &index,
        &tenant,
        &[
            (q(json!({})), &["three.md", "two.md", "指南/one.md"]),
            (q(json!({"name": "指南/one.md"})), &["指南/one.md"]),
            (q(json!({"name": "one.md"})), &[]),
            (q(json!({"name": ["two.md", "three.md", "four.md"]})), &["three.md", "two.md"]),
            (q(json!({"source": "https://example.org/来源"})), &["指南/one.md"]),
            (q(json!({"source": "two.md"})), &["two.md"]),
            (q(json!({"source": ""})), &[]),
            (q(json!({"metadata.name": "指南/one.md"})), &["two.md"]),
        ],
    )
    .await;
}

pub async fn metadata_is_matched_by_type_and_value(index: Arc<dyn Index>) {
    let (tenant, all) = (some_tenant(), collection("all"));
    let documents = vec![
        described(&all, "number", None, json!({"year": 2026, "part": 1.0})),
        described(&all, "string", None, json!({"year": "2026", "part": "1.0"})),
        described(&all, "bool", None, json!({"year": true, "part": 1.5})),
        described(&all, "word", None, json!({"year": "true", "part": -0.25})),
        described(&all, "none", None, json!({})),
    ];
    index.upsert(&tenant, documents).await.unwrap();
    let q = |json| filtered(&all, json);
    holds(
        &index,
        &tenant,
        &[
            (q(json!({"metadata.year": 2026})), &["number"]),
            (q(json!({"metadata.year": 2026.0})), &["number"]),
            (q(json!({"metadata.year": "2026"})), &["string"]),
            (q(json!({"metadata.year": true})), &["bool"]),
            (q(json!({"metadata.year": false})), &[]),
            (q(json!({"metadata.year": "true"})), &["word"]),
            (q(json!({"metadata.part": 1})), &["number"]),
            (q(json!({"metadata.part": -0.25})), &["word"]),
            (q(json!({"metadata.year": ["2026", 2026, true]})), &["bool", "number", "string"]),
            (q(json!({"metadata.years": 2026})), &[]),
        ],
    )
    .await;
}

pub async fn all_conditions_must_hold_and_one_of_a_list(index: Arc<dyn Index>) {
    let (tenant, all) = (some_tenant(), collection("all"));
    let long = "long ".repeat(2000);
    let documents = vec![
        described(&all, "a", Some("web"), json!({"lang": "en", "draft": false, "note": long})),
        described(&all, "b", Some("web"), json!({"lang": "zh", "draft": false})),
        described(&all, "c", Some("disk"), json!({"lang": "en", "draft": true})),
    ];
    index.upsert(&tenant, documents).await.unwrap();
    let q = |json| filtered(&all, json);
    holds(
        &index,
        &tenant,
        &[
            (q(json!({"source": "web", "metadata.lang": "en"})), &["a"]),
            (
                q(json!({"source": "web", "metadata.lang": ["en", "zh"], "metadata.draft": false})),
                &["a", "b"],
            ),
            (q(json!({"source": "disk", "metadata.draft": false})), &[]),
            (q(json!({"name": ["a", "c"], "metadata.lang": "en"})), &["a", "c"]),
            (q(json!({"name": []})), &[]),
            (q(json!({"name": ["a"], "metadata.lang": []})), &[]),
            (q(json!({"metadata.note": long})), &["a"]),
            (q(json!({"metadata.note": "long "})), &[]),
        ],
    )
    .await;
}

/// What a person means by a condition, told without the spelling that indexes use.
fn matches(document: &IndexDocument, filter: &Filter) -> bool {
    let same = |one: &Scalar, other: &Scalar| match (one, other) {
        (Scalar::Number(one), Scalar::Number(other)) => one.as_f64() == other.as_f64(),
        (one, other) => one == other,
    };
    filter.conditions().all(|(field, wanted)| {
        let has = match field {
            "name" => Some(Scalar::Text(document.name.clone())),
            "source" => document.source.clone().map(Scalar::Text),
            metadata => document.metadata.get(metadata.trim_start_matches("metadata.")).cloned(),
        };
        has.is_some_and(|has| wanted.values().iter().any(|wanted| same(&has, wanted)))
    })
}

fn scalars() -> impl Strategy<Value = Scalar> {
    // Few values, so that conditions meet; of all types, so that they could be mixed up.
    prop_oneof![
        prop::sample::select(vec!["1", "true", "", "web", "来源", "a"])
            .prop_map(|s| Scalar::Text(s.to_owned())),
        any::<bool>().prop_map(Scalar::Bool),
        (-1i64..3).prop_map(|n| Scalar::Number(n.into())),
        prop::sample::select(vec![0.5, 1.0, -1.0, 1e300])
            .prop_map(|n| Scalar::Number(serde_json::Number::from_f64(n).expect("finite"))),
    ]
}

fn conditions() -> impl Strategy<Value = Filter> {
    let field = prop::sample::select(vec!["name", "source", "metadata.a", "metadata.b", "metadata.source"]);
    let value = prop_oneof![
        scalars().prop_map(FilterValue::One),
        prop::collection::vec(scalars(), 0..4).prop_map(FilterValue::Any),
    ];
    prop::collection::btree_map(field.prop_map(str::to_owned), value, 0..4)
        .prop_map(|conditions| Filter::try_from(conditions).expect("only known fields"))
}

fn corpora() -> impl Strategy<Value = Vec<(Option<String>, BTreeMap<String, Scalar>)>> {
    let source = prop::option::of(prop::sample::select(vec!["1", "web", "来源", ""]).prop_map(str::to_owned));
    let key = prop::sample::select(vec!["a", "b", "source"]).prop_map(str::to_owned);
    let metadata = prop::collection::btree_map(key, scalars(), 0..3);
    prop::collection::vec((source, metadata), 1..12)
}

pub async fn filters_find_exactly_what_a_scan_finds(index: Arc<dyn Index>) {
    let runtime = tokio::runtime::Handle::current();
    let cases = (corpora(), prop::collection::vec(conditions(), 20));
    let mut runner = TestRunner::new(Config { cases: 24, failure_persistence: None, ..Config::default() });
    let run = tokio::task::block_in_place(|| {
        runner.run(&cases, |(corpus, filters)| {
            runtime.block_on(async {
                let (tenant, all) = (some_tenant(), collection("all"));
                let names = ["a", "1", "web", "来源", "true"];
                let documents = corpus.into_iter().enumerate().map(|(n, (source, metadata))| {
                    let name =
                        names.get(n).map_or_else(|| format!("document {n}"), |name| (*name).to_owned());
                    IndexDocument { source, metadata, ..document(&all, &name, &["a mill"], by(1, 0)) }
                });
                let documents: Vec<_> = documents.collect();
                index.upsert(&tenant, documents.clone()).await.unwrap();
                for filter in filters {
                    let scan = documents.iter().filter(|document| matches(document, &filter));
                    let mut expected: Vec<_> = scan.map(|document| document.name.clone()).collect();
                    expected.sort();
                    let query = SearchQuery { filter, limit: 100, ..ask("mill", &all) };
                    let found = sorted_names(&index, &tenant, &query).await;
                    prop_assert_eq!(found, expected, "{:?}", query.filter);
                }
                Ok(())
            })
        })
    });
    run.expect("an index and a scan agree");
}
