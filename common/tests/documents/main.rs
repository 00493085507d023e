//! The embedded documents are held to what all documents must be, and to what only a folder can be
//! asked.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod disk;

use std::path::Path;
use std::sync::Arc;

use millhand_common::adapters::embedded::EmbeddedDocuments;
use millhand_common::ports::Documents;
use tempfile::TempDir;

fn open_at(path: &Path) -> Arc<dyn Documents> {
    Arc::new(EmbeddedDocuments::open(path).unwrap())
}

async fn open() -> (Arc<dyn Documents>, TempDir) {
    let dir = tempfile::tempdir().unwrap();
    (open_at(dir.path()), dir)
}

millhand_common::documents_conformance!(open);
