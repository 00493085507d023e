//! Documents: one immutable version each, a canonical text, and passages as spans of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{CollectionName, DocumentId, Scalar, Span, Timestamp};

/// One immutable version of a document, without its text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Document {
    pub id: DocumentId,
    pub collection: CollectionName,
    /// Unique within its collection: adding the same name replaces.
    pub name: String,
    pub title: String,
    pub content_type: String,
    /// Size of the original.
    pub bytes: u64,
    pub passages: u32,
    #[serde(default)]
    pub source: Option<String>,
    #[serde(default)]
    pub metadata: BTreeMap<String, Scalar>,
    pub created_at: Timestamp,
}

/// What a parser makes of an original: the text to which all spans refer, and what is known of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CanonicalText {
    pub text: String,
    /// From the document itself; empty when it names none.
    #[serde(default)]
    pub title: String,
    /// In order of their spans.
    #[serde(default)]
    pub headings: Vec<Heading>,
    /// Where parts of the text stood in the original, in order; parts do not overlap.
    #[serde(default)]
    pub origins: Vec<OriginPart>,
    /// What a reader should know, e.g. that hidden text was left out.
    #[serde(default)]
    pub warnings: Vec<String>,
}

/// A heading: `level` 1 is the highest.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Heading {
    pub level: u8,
    pub span: Span,
}

/// A part of the canonical text and its place in the original.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OriginPart {
    pub span: Span,
    pub origin: Origin,
}

/// A place in an original, counted from 1.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Origin {
    Page(u32),
    Line(u32),
}

/// A passage of a document: what search finds and citations point into.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PassageSpan {
    /// Bytes of the canonical text; passages do not overlap.
    pub span: Span,
    /// The headings above the passage, highest first, as text.
    pub headings: Vec<String>,
    /// Where the passage starts in the original.
    #[serde(default)]
    pub origin: Option<Origin>,
}
