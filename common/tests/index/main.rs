//! The embedded index is held to what every index must do, and to what only a folder can be asked.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod disk;

use std::path::Path;
use std::sync::Arc;

use millhand_common::adapters::embedded::{EmbeddedDocuments, EmbeddedIndex, Opened};
use millhand_common::conformance::index::FakeEmbedder;
use millhand_common::ports::{Embedder, Index};
use tempfile::TempDir;

fn embedder() -> Option<Arc<dyn Embedder>> {
    Some(Arc::new(FakeEmbedder))
}

fn open_at(folder: &Path) -> (EmbeddedIndex, Opened) {
    EmbeddedIndex::open(folder, Some(FakeEmbedder::NAME.to_owned())).unwrap()
}

async fn open() -> (Arc<dyn Index>, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    let (index, opened) = open_at(&dir.path().join("index"));
    assert!(matches!(opened, Opened::NeedsRebuild(_)));
    let documents = EmbeddedDocuments::open(&dir.path().join("documents")).unwrap();
    index.rebuild_from(&documents, embedder()).await.unwrap();
    (Arc::new(index), dir)
}

millhand_common::index_conformance!(open);
