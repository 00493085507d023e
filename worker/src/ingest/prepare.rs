//! Everything that is done to one document before it is written.

use millhand_common::model::{CanonicalText, CollectionName, Document, IngestItem, PassageSpan, Timestamp};
use millhand_common::ports::{IndexDocument, IndexPassage, NewDocument};

use super::kind::Kind;
use super::parse::ParseError;
use super::split::split;
use super::{IngestDeps, count, documents_failure, retry, writer};
use crate::attempt::{Attempt, Failure};

/// A document as storage and index take it, without vectors.
pub(super) struct Prepared {
    pub(super) document: NewDocument,
    pub(super) entry: IndexDocument,
}

/// Parses and splits a document. The inner error is the document's own and final.
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
    let entries = passages.iter().map(|passage| entry(&canonical, passage)).collect();
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
