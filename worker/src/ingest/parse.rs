//! From the bytes of a document to its canonical text. Pure; runs in the child process.

use millhand_common::model::CanonicalText;
use serde::{Deserialize, Serialize};

use super::kind::{Kind, SUPPORTED};
use super::{decode, docx, html, markdown, pdf, plain};

/// Most text that one document may have.
pub const MAX_TEXT_BYTES: usize = 64 << 20;

/// Why a document was not ingested; shown to whoever uploaded it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[serde(rename_all = "snake_case")]
pub enum ParseError {
    #[error("{0} is not supported; supported are {SUPPORTED}")]
    Unsupported(String),
    #[error("not a readable {format}: {reason}")]
    Unreadable { format: String, reason: String },
    #[error("not text in a known encoding; supported are {SUPPORTED}")]
    Undecodable,
    #[error("no text found")]
    Empty,
    #[error("no text found (a scanned PDF?)")]
    EmptyPdf,
    #[error("the PDF is protected by a password")]
    Encrypted,
    #[error("has more than 64 MiB of text")]
    TooMuchText,
    #[error("a part of it unpacks to more than {0} MiB")]
    Bomb(u64),
    #[error("took longer than {0} s")]
    TookTooLong(u64),
    #[error("needed more than 512 MiB of memory")]
    OutOfMemory,
    #[error("the parser crashed on this document")]
    Crashed,
    /// Nothing is known of the document: the parser itself cannot run here.
    #[error("the parser could not be run: {0}")]
    Unavailable(String),
}

impl ParseError {
    /// Whether the same document may be parsed later.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Unavailable(_) => true,
            Self::Unsupported(_)
            | Self::Unreadable { .. }
            | Self::Undecodable
            | Self::Empty
            | Self::EmptyPdf
            | Self::Encrypted
            | Self::TooMuchText
            | Self::Bomb(_)
            | Self::TookTooLong(_)
            | Self::OutOfMemory
            | Self::Crashed => false,
        }
    }

    pub(super) fn unreadable(format: &str, reason: impl ToString) -> Self {
        Self::Unreadable { format: format.to_owned(), reason: reason.to_string() }
    }
}

/// The canonical text of a document.
///
/// # Errors
/// When its kind is not supported, it cannot be read, or it has no text.
pub fn parse(name: &str, content_type: Option<&str>, bytes: &[u8]) -> Result<CanonicalText, ParseError> {
    let kind = Kind::detect(name, content_type, bytes)?;
    let charset = content_type.and_then(decode::charset_of);
    let canonical = match kind {
        Kind::Plain => plain::parse(bytes, charset)?,
        Kind::Markdown => markdown::parse(bytes, charset)?,
        Kind::Html => html::parse(bytes, charset)?,
        Kind::Pdf => pdf::parse(bytes)?,
        Kind::Docx => docx::parse(bytes)?,
    };
    if canonical.text.trim().is_empty() {
        return Err(if kind == Kind::Pdf { ParseError::EmptyPdf } else { ParseError::Empty });
    }
    if canonical.text.len() > MAX_TEXT_BYTES {
        return Err(ParseError::TooMuchText);
    }
    Ok(canonical)
}
