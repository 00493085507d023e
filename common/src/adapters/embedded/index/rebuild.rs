//! Building the index anew from the documents.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::{EmbeddedIndex, io_error};
use crate::model::TenantId;
use crate::ports::{
    Documents, DocumentsError, Embedder, Index, IndexDocument, IndexError, IndexPassage, ModelError,
    NewDocument,
};

/// Documents read, embedded and committed together.
const PAGE: usize = 32;
/// Texts in one call of the embedder.
const EMBEDDED_TOGETHER: usize = 64;
/// A call of the embedder ends by then.
const EMBED_TIMEOUT: Duration = Duration::from_secs(60);

/// Why the index is not built; it is empty or in part then, and the next open says so.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    #[error("documents cannot be read")]
    Documents(#[from] DocumentsError),
    #[error("passages cannot be embedded")]
    Embedder(#[from] ModelError),
    #[error("passages cannot be indexed")]
    Index(#[from] IndexError),
}

impl EmbeddedIndex {
    /// Indexes every current document; answers how many. Writes may go on meanwhile: the fence of each
    /// name decides. With `embedder`, which must be the one named at open, vectors are made anew.
    /// May be dropped: the next open then asks for a rebuild again.
    pub async fn rebuild_from(
        &self,
        documents: &dyn Documents,
        embedder: Option<Arc<dyn Embedder>>,
    ) -> Result<u64, RebuildError> {
        let mut count = 0;
        let mut after = None;
        loop {
            let page = documents.export(after, PAGE).await?;
            let Some((_, last)) = page.last() else { break };
            after = Some(last.document.id);
            count += page.len() as u64;
            let mut by_tenant: Vec<(TenantId, Vec<IndexDocument>)> = Vec::new();
            for (tenant, document) in page {
                let mut document = index_document(document);
                if let Some(embedder) = &embedder {
                    embed(embedder.as_ref(), &mut document).await?;
                }
                match by_tenant.last_mut() {
                    Some((last, documents)) if *last == tenant => documents.push(document),
                    _ => by_tenant.push((tenant, vec![document])),
                }
            }
            for (tenant, documents) in by_tenant {
                self.upsert(&tenant, documents).await?;
            }
        }
        self.manifest.set_complete(embedder.is_some()).map_err(|err| RebuildError::Index(io_error(&err)))?;
        tracing::info!(documents = count, folder = %self.folder.display(), "index built anew");
        Ok(count)
    }
}

/// What an index takes of a stored document, without vectors.
fn index_document(new: NewDocument) -> IndexDocument {
    let NewDocument { document, canonical, passages, writer } = new;
    let passages = passages.into_iter().map(|passage| IndexPassage {
        span: passage.span,
        text: passage.span.of(&canonical.text).unwrap_or_default().to_owned(),
        headings: passage.headings,
        vector: None,
    });
    IndexDocument {
        collection: document.collection,
        id: document.id,
        name: document.name,
        title: document.title,
        source: document.source,
        metadata: document.metadata,
        writer,
        passages: passages.collect(),
    }
}

async fn embed(embedder: &dyn Embedder, document: &mut IndexDocument) -> Result<(), ModelError> {
    for passages in document.passages.chunks_mut(EMBEDDED_TOGETHER) {
        let texts: Vec<String> = passages.iter().map(|passage| passage.text.clone()).collect();
        let vectors = embedder.embed(&texts, Instant::now() + EMBED_TIMEOUT).await?;
        if vectors.len() != texts.len() {
            return Err(ModelError::Malformed(format!(
                "{} vectors for {} texts",
                vectors.len(),
                texts.len()
            )));
        }
        for (passage, vector) in passages.iter_mut().zip(vectors) {
            passage.vector = Some(vector);
        }
    }
    Ok(())
}
