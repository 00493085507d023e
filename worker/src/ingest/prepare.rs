//! Everything that is done to one document before it is written.

use std::time::Instant;

use millhand_common::model::{
    CanonicalText, CollectionName, Document, IngestItem, JobError, PassageSpan, Timestamp,
};
use millhand_common::ports::{Embedder, IndexDocument, IndexPassage, ModelError, NewDocument};

use super::kind::Kind;
use super::parse::ParseError;
use super::split::split;
use super::{IngestDeps, count, documents_failure, retry, writer};
use crate::attempt::{Attempt, Failure};

/// Texts sent to the embedder in one call: below the limit of every provider known (96 and up).
const EMBED_TOGETHER: usize = 64;

/// A document as storage and index take it.
pub(super) struct Prepared {
    pub(super) document: NewDocument,
    pub(super) entry: IndexDocument,
}

/// Parses, splits and embeds a document. The inner error is the document's own and final.
pub(super) async fn prepare(
    attempt: &Attempt,
    deps: &IngestDeps,
    collection: &CollectionName,
    item: &IngestItem,
) -> Result<Result<Prepared, String>, Failure> {
    let Read { canonical, passages, content_type } = match read(attempt, deps, item).await? {
        Ok(read) => read,
        Err(err) => return Ok(Err(err.to_string())),
    };
    let title = if canonical.title.is_empty() { stem(&item.name) } else { canonical.title.clone() };
    let mut entries: Vec<IndexPassage> = passages.iter().map(|passage| entry(&canonical, passage)).collect();
    if let Some(embedder) = &deps.embedder
        && let Err(err) = embed(embedder.as_ref(), &title, &mut entries, attempt.deadline()).await
    {
        return match err {
            ModelError::Rejected(_) | ModelError::Filtered(_) | ModelError::TooLarge(_) => {
                Ok(Err(err.to_string()))
            }
            ModelError::Unauthorized | ModelError::NoCredit(_) => {
                Err(Failure::Fatal(JobError::new("embedder_failed", err.to_string(), false)))
            }
            ModelError::RateLimited { retry_after, .. } | ModelError::Overloaded { retry_after } => {
                let error = JobError::new("embedder_unavailable", err.to_string(), true);
                Err(Failure::Retry { error, after: retry_after })
            }
            ModelError::Unavailable(_) | ModelError::TimedOut | ModelError::Malformed(_) => {
                Err(retry("embedder_unavailable", err))
            }
        };
    }
    let document = Document {
        id: item.document_id,
        collection: collection.clone(),
        name: item.name.clone(),
        title: title.clone(),
        content_type,
        bytes: item.bytes,
        passages: count(passages.len()),
        source: item.source.clone(),
        metadata: item.metadata.clone(),
        created_at: Timestamp::now(),
    };
    let entry = IndexDocument {
        collection: collection.clone(),
        id: item.document_id,
        name: item.name.clone(),
        title,
        source: item.source.clone(),
        metadata: item.metadata.clone(),
        writer: writer(attempt),
        passages: entries,
    };
    let document = NewDocument { document, canonical, passages, writer: writer(attempt) };
    Ok(Ok(Prepared { document, entry }))
}

struct Read {
    canonical: CanonicalText,
    passages: Vec<PassageSpan>,
    content_type: String,
}

/// The canonical text and its passages.
async fn read(
    attempt: &Attempt,
    deps: &IngestDeps,
    item: &IngestItem,
) -> Result<Result<Read, ParseError>, Failure> {
    let place = deps.parser.place().await;
    let upload =
        deps.documents.upload(&attempt.job().spec.tenant, item.upload).await.map_err(documents_failure)?;
    let Some(bytes) = upload else {
        // Uploads are dropped at the terminal state and when they are orphans: neither comes back.
        return Ok(Err(ParseError::unreadable("upload", "its bytes are no longer stored")));
    };
    let canonical = match place.parse(&item.name, item.content_type.as_deref(), &bytes).await {
        Ok(canonical) => canonical,
        Err(err) if err.is_transient() => return Err(retry("parser_unavailable", err)),
        Err(err) => return Ok(Err(err)),
    };
    // Large texts take a while.
    let content_type = content_type_of(item, &bytes);
    let split = tokio::task::spawn_blocking(move || {
        let passages = split(&canonical);
        Read { canonical, passages, content_type }
    });
    Ok(split.await.map_err(|_| ParseError::Crashed))
}

/// As declared, else as found.
fn content_type_of(item: &IngestItem, bytes: &[u8]) -> String {
    match &item.content_type {
        Some(declared) if declared != "application/octet-stream" => declared.clone(),
        _ => Kind::detect(&item.name, None, bytes)
            .map_or("application/octet-stream", Kind::content_type)
            .to_owned(),
    }
}

fn entry(canonical: &CanonicalText, passage: &PassageSpan) -> IndexPassage {
    IndexPassage {
        span: passage.span,
        text: passage.span.of(&canonical.text).unwrap_or_default().to_owned(),
        headings: passage.headings.clone(),
        vector: None,
    }
}

async fn embed(
    embedder: &dyn Embedder,
    title: &str,
    entries: &mut [IndexPassage],
    deadline: Instant,
) -> Result<(), ModelError> {
    for batch in entries.chunks_mut(EMBED_TOGETHER) {
        let texts: Vec<String> = batch.iter().map(|entry| with_path(title, entry)).collect();
        let vectors = embedder.embed(&texts, deadline).await?;
        if vectors.len() != batch.len() {
            return Err(ModelError::Malformed(format!(
                "{} vectors for {} texts",
                vectors.len(),
                batch.len()
            )));
        }
        for (entry, vector) in batch.iter_mut().zip(vectors) {
            entry.vector = Some(vector);
        }
    }
    Ok(())
}

/// A passage with what stands above it, without which many passages could be about anything.
fn with_path(title: &str, entry: &IndexPassage) -> String {
    let path: Vec<&str> = std::iter::once(title).chain(entry.headings.iter().map(String::as_str)).collect();
    format!("{}\n{}", path.join(" › "), entry.text)
}

/// The name of a file without folders and extension.
fn stem(name: &str) -> String {
    let file = name.rsplit(['/', '\\']).next().unwrap_or(name);
    match file.rsplit_once('.') {
        Some((stem, extension)) if !stem.is_empty() && extension.len() <= 8 => stem.to_owned(),
        _ => file.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::stem;

    #[test]
    fn a_document_without_a_title_is_called_by_its_file() {
        assert_eq!(stem("manuals/保修手册.v2.pdf"), "保修手册.v2");
        assert_eq!(stem(".env"), ".env");
        assert_eq!(stem("README"), "README");
    }
}
