//! Building an index anew from the documents.

use std::time::{Duration, Instant};

use super::{one_call, text_of};
use crate::model::TenantId;
use crate::ports::{
    Documents, DocumentsError, Embedder, Index, IndexDocument, IndexError, IndexPassage, ModelError,
    NewDocument,
};

/// Documents read, embedded and written together.
const PAGE: usize = 32;
/// A call of the embedder ends by then.
const EMBED_TIMEOUT: Duration = Duration::from_secs(60);
/// Pause before a call that was refused for its rate is made again, where the refusal says none.
const LIMITED_PAUSE: Duration = Duration::from_secs(5);

/// Why an index is not built; it is empty or in part then, and says so when it is opened again.
#[derive(Debug, thiserror::Error)]
pub enum RebuildError {
    #[error("documents cannot be read")]
    Documents(#[from] DocumentsError),
    #[error("passages cannot be embedded")]
    Embedder(#[from] ModelError),
    #[error("passages cannot be indexed")]
    Index(#[from] IndexError),
}

/// Writes every current document into `index`; answers how many. Writes may go on meanwhile: the fence
/// of each name decides. With `embedder` vectors are made anew. May be dropped: what is written stays.
pub async fn fill(
    index: &dyn Index,
    documents: &dyn Documents,
    embedder: Option<&dyn Embedder>,
) -> Result<u64, RebuildError> {
    let mut count = 0;
    let mut after = None;
    loop {
        let page = documents.export(after, PAGE).await?;
        let Some((_, last)) = page.last() else { return Ok(count) };
        after = Some(last.document.id);
        count += page.len() as u64;
        let mut by_tenant: Vec<(TenantId, Vec<IndexDocument>)> = Vec::new();
        for (tenant, document) in page {
            let mut document = index_document(document);
            if let Some(embedder) = embedder {
                embed(embedder, &mut document).await?;
            }
            match by_tenant.last_mut() {
                Some((last, documents)) if *last == tenant => documents.push(document),
                _ => by_tenant.push((tenant, vec![document])),
            }
        }
        for (tenant, documents) in by_tenant {
            index.upsert(&tenant, documents).await?;
        }
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
    let texts: Vec<String> =
        document.passages.iter().map(|passage| text_of(&document.title, passage)).collect();
    let (mut done, mut most) = (0, usize::MAX);
    while done < texts.len() {
        let call = &texts[done..][..one_call(&texts[done..]).min(most)];
        match embedder.embed(call, Instant::now() + EMBED_TIMEOUT).await {
            Ok(read) => {
                for (passage, vector) in document.passages[done..].iter_mut().zip(read.value) {
                    passage.vector = Some(vector);
                }
                done += call.len();
            }
            // What is built so far was paid for.
            Err(ModelError::RateLimited { retry_after, .. }) => {
                let pause = retry_after.unwrap_or(LIMITED_PAUSE);
                tracing::info!(pause_ms = pause.as_millis(), "the index waits for the embedder's quota");
                tokio::time::sleep(pause).await;
            }
            Err(ModelError::TooLarge(_)) if call.len() > 1 => most = call.len() / 2,
            Err(err) => return Err(err),
        }
    }
    Ok(())
}
