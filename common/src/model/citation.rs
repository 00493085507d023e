//! Passages and the spans of an answer that rest on them.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::{CollectionName, DocumentId, PassageId};

/// A half-open range of byte offsets, `[from, to]` on the wire.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(from = "(usize, usize)", into = "(usize, usize)")]
pub struct Span {
    pub from: usize,
    pub to: usize,
}

impl Span {
    #[must_use]
    pub fn new(from: usize, to: usize) -> Self {
        Self { from, to }
    }

    /// The bytes of `text` in this span; `None` when it is out of range or cuts a character.
    #[must_use]
    pub fn of(self, text: &str) -> Option<&str> {
        text.get(self.from..self.to)
    }

    /// The same span `by` bytes further on.
    #[must_use]
    pub fn shifted(self, by: usize) -> Self {
        Self { from: self.from + by, to: self.to + by }
    }

    #[must_use]
    pub fn len(self) -> usize {
        self.to.saturating_sub(self.from)
    }

    #[must_use]
    pub fn is_empty(self) -> bool {
        self.len() == 0
    }
}

impl From<(usize, usize)> for Span {
    fn from((from, to): (usize, usize)) -> Self {
        Self { from, to }
    }
}

impl From<Span> for (usize, usize) {
    fn from(span: Span) -> Self {
        (span.from, span.to)
    }
}

/// A span of the answer tied to a span of a passage's document.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Citation {
    /// Bytes of `output.text`.
    #[schema(value_type = Vec<u64>)]
    pub answer_span: Span,
    #[schema(value_type = String)]
    pub collection: CollectionName,
    #[schema(value_type = String)]
    pub document_id: DocumentId,
    /// The document's name.
    pub document: String,
    #[schema(value_type = String)]
    pub passage_id: PassageId,
    /// Title of the document, with the headings above the passage.
    pub title: String,
    /// Bytes of the document's canonical text.
    #[schema(value_type = Vec<u64>)]
    pub span: Span,
    /// The canonical text at `span`, byte for byte.
    pub quote: String,
}

/// A piece of a document as search finds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Passage {
    pub collection: CollectionName,
    pub document_id: DocumentId,
    pub document: String,
    pub passage_id: PassageId,
    /// Title of the document, with the headings above the passage: `Title › Heading › Heading`.
    pub title: String,
    /// The canonical text at `span`.
    pub text: String,
    pub span: Span,
    /// Higher is better; comparable within one search only.
    pub score: f32,
}

/// A passage as events name it, without its text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct PassageRef {
    #[schema(value_type = String)]
    pub passage_id: PassageId,
    #[schema(value_type = String)]
    pub document_id: DocumentId,
    pub document: String,
    pub title: String,
    pub score: f32,
    #[schema(value_type = Vec<u64>)]
    pub span: Span,
}

impl From<&Passage> for PassageRef {
    fn from(passage: &Passage) -> Self {
        Self {
            passage_id: passage.passage_id,
            document_id: passage.document_id,
            document: passage.document.clone(),
            title: passage.title.clone(),
            score: passage.score,
            span: passage.span,
        }
    }
}
