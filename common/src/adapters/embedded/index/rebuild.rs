//! Building the index anew from the documents.

use std::sync::Arc;

use super::{EmbeddedIndex, io_error};
use crate::ports::{Documents, Embedder};
use crate::search::{RebuildError, fill};

impl EmbeddedIndex {
    /// Indexes every current document; answers how many. Writes may go on meanwhile: the fence of each
    /// name decides. With `embedder`, which must be the one named at open, vectors are made anew.
    /// May be dropped: the next open then asks for a rebuild again.
    pub async fn rebuild_from(
        &self,
        documents: &dyn Documents,
        embedder: Option<Arc<dyn Embedder>>,
    ) -> Result<u64, RebuildError> {
        let count = fill(self, documents, embedder.as_deref()).await?;
        self.manifest.set_complete(embedder.is_some()).map_err(|err| RebuildError::Index(io_error(&err)))?;
        tracing::info!(documents = count, folder = %self.folder.display(), "index built anew");
        Ok(count)
    }
}
