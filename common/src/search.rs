//! What every index shares, whatever it stands on: what a document becomes in it, what a match is
//! worth, how words and vectors are put together, and how it is built anew. So that a question finds
//! the same passages in each.

mod fusion;
mod key;
mod passage;
mod rebuild;
mod vectors;
mod words;

pub use fusion::{DEPTH, best_first, fused};
pub use key::Key;
pub use passage::{Prepared, PreparedPassage, Tagged, prepare};
pub use rebuild::{RebuildError, fill};
pub use vectors::{one_call, text_of};
pub use words::{HEADINGS_BOOST, MAX_LANGUAGES, PHRASE_BOOST, PHRASE_SLOP, TITLE_BOOST, neighbours, rarest};

/// What opening an index found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Opened {
    Ready,
    /// It cannot be used until it is built anew from the documents. Says why.
    NeedsRebuild(String),
}
