//! With many passages: the graph finds what comparing all finds, also behind filters that leave few.

use millhand_common::adapters::pgvector::PgvectorOptions;
use millhand_common::conformance::index::{FakeEmbedder, ask, by, collection, document, some_tenant};
use millhand_common::model::{CollectionName, TenantId};
use millhand_common::ports::{Index, IndexDocument, SearchQuery};

use super::{built, database, options};

const DOCUMENTS: usize = 60;
const PASSAGES: usize = 100;

fn text(n: usize) -> String {
    let things =
        ["granite", "timber", "copper", "slate", "oaken", "bronze", "marble", "clay", "straw", "lime"];
    let (a, b, c) = (n % 10, n / 10 % 10, n / 100 % 10);
    format!("{} {} {} number {n}", things[a], things[b], things[c])
}

fn documents(all: &CollectionName) -> Vec<IndexDocument> {
    let document = |d: usize| {
        let texts: Vec<String> = (0..PASSAGES).map(|p| text(d * PASSAGES + p)).collect();
        let texts: Vec<&str> = texts.iter().map(String::as_str).collect();
        let mut document = document(all, &format!("d{d}"), &texts, by(1, 0));
        for passage in &mut document.passages {
            passage.vector = Some(FakeEmbedder::vector(&passage.text));
        }
        document
    };
    (0..DOCUMENTS).map(document).collect()
}

async fn ids(index: &dyn Index, tenant: &TenantId, query: &SearchQuery) -> Vec<String> {
    let found = index.search(tenant, query).await.unwrap();
    found.into_iter().map(|passage| passage.passage_id.to_string()).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_graph_finds_what_comparing_all_finds() {
    let (database, _server) = database().await;
    let (tenant, stranger, all) = (some_tenant(), some_tenant(), collection("all"));
    let exact = built(&database, options()).await;
    let graph = PgvectorOptions { exact_up_to: 10, ..options() };
    let (graph, _) = database.index(graph).await.unwrap();
    for document in documents(&all) {
        exact.upsert(&tenant, vec![document]).await.unwrap();
    }
    // One document among thousands of another tenant's.
    exact.upsert(&stranger, documents(&all).into_iter().take(1).collect()).await.unwrap();

    let question = |text: &str| SearchQuery {
        texts: Vec::new(),
        vector: Some(FakeEmbedder::vector(text)),
        limit: 10,
        ..ask("", &all)
    };
    let (mut same, mut asked) = (0, 0);
    for text in ["granite wall", "timber and copper", "oaken bell number 4711", "lime", "straw roof on clay"]
    {
        let expected = ids(&exact, &tenant, &question(text)).await;
        assert_eq!(expected.len(), 10);
        let found = ids(&graph, &tenant, &question(text)).await;
        asked += expected.len();
        same += expected.iter().filter(|id| found.contains(id)).count();
    }
    assert!(asked * 9 <= same * 10, "{same} of {asked}: a graph may miss some, not many");

    // Behind a tenant or a filter that leaves few, nothing that may be shown is left out.
    let found = ids(&graph, &stranger, &SearchQuery { limit: 1000, ..question("granite wall") }).await;
    assert_eq!(found.len(), PASSAGES);
    let filter = serde_json::from_value(serde_json::json!({"name": ["d7", "d31"]})).unwrap();
    let filtered = SearchQuery { filter, limit: 1000, ..question("granite wall") };
    assert_eq!(ids(&graph, &tenant, &filtered).await.len(), 2 * PASSAGES);
    assert_eq!(ids(&graph, &tenant, &filtered).await, ids(&exact, &tenant, &filtered).await);
}
