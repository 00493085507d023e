//! What a document becomes in the tables.

use std::collections::BTreeMap;

use pgvector::Vector;

use crate::ports::Writer;
use crate::search::{Key, Prepared, PreparedPassage, Tagged};
use crate::text::analyze::Language;

/// A document ready to be written.
pub(super) struct Document {
    pub(super) scope: Key,
    pub(super) name: Key,
    pub(super) writer: Writer,
    pub(super) filters: Vec<Key>,
    pub(super) passages: Vec<Passage>,
}

pub(super) struct Passage {
    pub(super) language: Language,
    pub(super) lengths: Lengths,
    /// The passage as JSON.
    pub(super) stored: Vec<u8>,
    pub(super) postings: BTreeMap<String, Posting>,
    /// Of length 1.
    pub(super) vector: Option<Vector>,
}

/// Terms in each field.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Lengths {
    pub(super) title: i32,
    pub(super) headings: i32,
    pub(super) body: i32,
}

/// How often one term stands in each field.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Posting {
    pub(super) title: i16,
    pub(super) headings: i16,
    pub(super) body: i16,
    /// In the body, as the table keeps them.
    pub(super) positions: Vec<u8>,
}

impl From<Prepared> for Document {
    fn from(prepared: Prepared) -> Self {
        let Prepared { scope, name, writer, filters, passages } = prepared;
        Self { scope, name, writer, filters, passages: passages.into_iter().map(Passage::from).collect() }
    }
}

impl From<PreparedPassage> for Passage {
    fn from(prepared: PreparedPassage) -> Self {
        let PreparedPassage { passage, language, title, headings, body, vector } = prepared;
        let mut postings: BTreeMap<String, Posting> = BTreeMap::new();
        let mut count = |texts: &[Tagged], add: fn(&mut Posting, u32)| {
            let mut length = 0;
            for term in texts.iter().flat_map(Tagged::terms) {
                add(postings.entry(term.text).or_default(), term.position);
                length += 1;
            }
            length
        };
        let lengths = Lengths {
            title: count(&title, |posting, _| posting.title = posting.title.saturating_add(1)),
            headings: count(&headings, |posting, _| posting.headings = posting.headings.saturating_add(1)),
            body: count(&[body], |posting, position| {
                posting.body = posting.body.saturating_add(1);
                posting.positions.extend(position.to_be_bytes());
            }),
        };
        let stored = serde_json::to_vec(&passage).expect("plain data with a finite score is always JSON");
        Self { language, lengths, stored, postings, vector: vector.map(|vector| unit(&vector)) }
    }
}

/// The positions that [`Posting::positions`] holds.
pub(super) fn positions(bytes: &[u8]) -> impl Iterator<Item = u32> {
    bytes.chunks_exact(4).map(|four| u32::from_be_bytes([four[0], four[1], four[2], four[3]]))
}

/// Of length 1, or of none when it has no direction.
pub(super) fn unit(vector: &[f32]) -> Vector {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    let scale = if length.is_normal() { 1.0 / length } else { 0.0 };
    Vector::from(vector.iter().map(|x| x * scale).collect::<Vec<f32>>())
}
