//! What a folder keeps, and when it is built anew from the documents.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use async_trait::async_trait;

use millhand_common::adapters::embedded::{EmbeddedDocuments, EmbeddedIndex, Opened};
use millhand_common::conformance::documents::some_document;
use millhand_common::conformance::index::{FakeEmbedder, ask, by, collection, document, some_tenant};
use millhand_common::model::{CollectionName, Passage, PassageSpan, TenantId};
use millhand_common::ports::{Documents, Embedder, Index, ModelError, Reading, SearchQuery, Write};
use tempfile::TempDir;

use super::{embedder, open_at};

/// Documents, and the index made of them.
struct House {
    dir: TempDir,
    documents: EmbeddedDocuments,
    tenant: TenantId,
    all: CollectionName,
}

impl House {
    /// With `count` documents of two passages each, indexed.
    async fn with_documents(count: usize) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let documents = EmbeddedDocuments::open(&dir.path().join("documents")).unwrap();
        let house = Self { dir, documents, tenant: some_tenant(), all: collection("all") };
        for n in 0..count {
            let text = format!("mill number{n} by the sea\n\nthe pond of mill number{n}");
            let new = some_document(&house.all, &format!("d{n}"), &text, by(1, 0));
            house.documents.put(&house.tenant, new).await.unwrap();
        }
        let (index, _) = open_at(&house.folder());
        assert_eq!(index.rebuild_from(&house.documents, embedder()).await.unwrap(), count as u64);
        index.close().await;
        house
    }

    fn folder(&self) -> PathBuf {
        self.dir.path().join("index")
    }

    async fn found(&self, index: &EmbeddedIndex) -> Vec<Passage> {
        let query = SearchQuery {
            vector: Some(FakeEmbedder::vector("mill number3 by the sea")),
            limit: 100,
            ..ask("mill pond", &self.all)
        };
        index.search(&self.tenant, &query).await.unwrap()
    }

    /// Opens what must be built anew, builds it, and finds all as before.
    async fn is_built_anew_because(&self, reason: &str, before: &[Passage]) {
        let (index, opened) = open_at(&self.folder());
        match opened {
            Opened::NeedsRebuild(said) => assert!(said.contains(reason), "{said:?} is not for {reason:?}"),
            Opened::Ready => panic!("not noticed: {reason}"),
        }
        assert!(index.ready().await.is_err());
        index.rebuild_from(&self.documents, embedder()).await.unwrap();
        index.ready().await.unwrap();
        assert_eq!(self.found(&index).await, before);
        index.close().await;
        assert_eq!(open_at(&self.folder()).1, Opened::Ready);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_index_is_the_same_after_a_restart() {
    let house = House::with_documents(12).await;
    let (index, opened) = open_at(&house.folder());
    assert_eq!(opened, Opened::Ready);
    let before = house.found(&index).await;
    assert_eq!(before.len(), 24);
    index.delete(&house.tenant, &house.all, "d3", by(7, 0)).await.unwrap();
    drop(index);
    let (index, opened) = open_at(&house.folder());
    assert_eq!(opened, Opened::Ready);
    assert_eq!(house.found(&index).await.len(), 22);
    let late = document(&house.all, "d3", &["mill"], by(6, 9));
    assert_eq!(index.upsert(&house.tenant, vec![late]).await.unwrap(), [Write::Stale]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_changed_embedder_or_analyser_is_noticed() {
    let house = House::with_documents(6).await;
    let (index, _) = open_at(&house.folder());
    let before = house.found(&index).await;
    index.close().await;
    drop(index);
    let manifest = house.folder().join("manifest.json");
    let change = |from: &str, to: &str| {
        let text = fs::read_to_string(&manifest).unwrap();
        assert!(text.contains(from), "{text}");
        fs::write(&manifest, text.replacen(from, to, 1)).unwrap();
    };
    change(FakeEmbedder::NAME, "another-model");
    house.is_built_anew_because("another-model", &before).await;
    change("\"analyser\": ", "\"analyser\": 9");
    house.is_built_anew_because("analyser", &before).await;
    change("\"format\": ", "\"format\": 9");
    house.is_built_anew_because("format", &before).await;
    // Without an embedder there are no vectors to mix: only words are left.
    let (index, opened) = EmbeddedIndex::open(&house.folder(), None).unwrap();
    assert!(matches!(opened, Opened::NeedsRebuild(_)));
    index.rebuild_from(&house.documents, None).await.unwrap();
    drop(index);
    assert_eq!(EmbeddedIndex::open(&house.folder(), None).unwrap().1, Opened::Ready);
}

#[tokio::test(flavor = "multi_thread")]
async fn damage_is_noticed_and_repaired_from_the_documents() {
    let house = House::with_documents(6).await;
    let (index, _) = open_at(&house.folder());
    let before = house.found(&index).await;
    index.close().await;
    drop(index);
    let largest = |folder: &Path| {
        let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
        files.max_by_key(|file| fs::metadata(file).unwrap().len()).unwrap()
    };
    let text = house.folder().join("text");

    let mut bytes = fs::read(largest(&text)).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(largest(&text), bytes).unwrap();
    house.is_built_anew_because("damaged", &before).await;

    fs::remove_file(largest(&text)).unwrap();
    house.is_built_anew_because("damaged", &before).await;

    fs::write(house.folder().join("manifest.json"), "{").unwrap();
    house.is_built_anew_because("manifest", &before).await;

    fs::remove_dir_all(house.folder()).unwrap();
    house.is_built_anew_because("no index yet", &before).await;
}

/// Remembers what it is given; refuses the first call for its rate, and those of two texts.
#[derive(Default)]
struct Remembers(Mutex<Vec<String>>);

impl Remembers {
    fn hears(&self, texts: &[String]) -> bool {
        let mut seen = self.0.lock().unwrap();
        let is_first = seen.is_empty();
        match (is_first, texts) {
            (true, _) => seen.push("refused".to_owned()),
            (false, [text]) => seen.push(text.clone()),
            (false, _) => {}
        }
        is_first
    }
}

#[async_trait]
impl Embedder for Remembers {
    fn name(&self) -> &str {
        FakeEmbedder::NAME
    }

    async fn embed(&self, texts: &[String], deadline: Instant) -> Result<Reading<Vec<Vec<f32>>>, ModelError> {
        if self.hears(texts) {
            return Err(ModelError::RateLimited {
                retry_after: Some(Duration::ZERO),
                limits: Box::default(),
            });
        }
        if texts.len() > 1 {
            return Err(ModelError::TooLarge("two".to_owned()));
        }
        FakeEmbedder.embed(texts, deadline).await
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn vectors_are_made_anew_of_the_same_texts_in_calls_that_are_taken() {
    let house = House::with_documents(3).await;
    let (index, _) = open_at(&house.folder());
    let embedder = Arc::new(Remembers::default());
    index.rebuild_from(&house.documents, Some(embedder.clone())).await.unwrap();
    let mut wanted = vec!["refused".to_owned()];
    for (_, new) in house.documents.export(None, 10).await.unwrap() {
        let path = |passage: &PassageSpan| {
            std::iter::once(new.document.title.as_str())
                .chain(passage.headings.iter().map(String::as_str))
                .collect::<Vec<_>>()
                .join(" › ")
        };
        let text = |passage: &PassageSpan| {
            format!("{}\n{}", path(passage), passage.span.of(&new.canonical.text).unwrap())
        };
        wanted.extend(new.passages.iter().map(text));
    }
    assert_eq!(wanted.len(), 7);
    assert_eq!(*embedder.0.lock().unwrap(), wanted, "with title and headings, as at first");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unfinished_build_is_begun_again() {
    /// Fails after some texts, as a model that goes away does.
    struct Fails;

    #[async_trait]
    impl Embedder for Fails {
        fn name(&self) -> &str {
            FakeEmbedder::NAME
        }

        async fn embed(
            &self,
            texts: &[String],
            deadline: Instant,
        ) -> Result<Reading<Vec<Vec<f32>>>, ModelError> {
            if texts.iter().any(|text| text.contains("number40")) {
                return Err(ModelError::Unavailable("gone".to_owned()));
            }
            FakeEmbedder.embed(texts, deadline).await
        }
    }

    let house = House::with_documents(50).await;
    let (index, _) = open_at(&house.folder());
    let before = house.found(&index).await;
    drop(index);
    fs::remove_dir_all(house.folder()).unwrap();
    let (index, _) = open_at(&house.folder());
    assert!(index.rebuild_from(&house.documents, Some(Arc::new(Fails))).await.is_err());
    drop(index);
    house.is_built_anew_because("not built to its end", &before).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn writes_during_a_build_are_not_undone_by_it() {
    let house = House::with_documents(3).await;
    fs::remove_dir_all(house.folder()).unwrap();
    let (index, _) = open_at(&house.folder());
    index.delete(&house.tenant, &house.all, "d0", by(2, 0)).await.unwrap();
    let newer = document(&house.all, "d1", &["mill of today"], by(2, 0));
    index.upsert(&house.tenant, vec![newer]).await.unwrap();
    index.rebuild_from(&house.documents, None).await.unwrap();
    let mut texts: Vec<String> = house.found(&index).await.into_iter().map(|passage| passage.text).collect();
    texts.sort();
    assert_eq!(texts, ["mill number2 by the sea", "mill of today", "the pond of mill number2"]);
}
