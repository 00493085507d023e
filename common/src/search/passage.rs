//! What a document becomes in an index.

use super::key::Key;
use crate::model::{Passage, PassageId, Scalar, TenantId};
use crate::ports::{IndexDocument, Writer};
use crate::text::analyze::{self, Language, Term};

/// A document ready to be written.
pub struct Prepared {
    pub scope: Key,
    pub name: Key,
    pub writer: Writer,
    /// What filters can ask for, one key per field and value.
    pub filters: Vec<Key>,
    pub passages: Vec<PreparedPassage>,
}

/// A passage with all that can be asked of it.
pub struct PreparedPassage {
    /// As it is found, with a score of 0.
    pub passage: Passage,
    pub language: Language,
    /// Title and name of its document.
    pub title: Vec<Tagged>,
    pub headings: Vec<Tagged>,
    pub body: Tagged,
    pub vector: Option<Vec<f32>>,
}

/// A text and the language it is analysed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tagged {
    pub language: Language,
    pub text: String,
}

impl Tagged {
    #[must_use]
    pub fn terms(&self) -> Vec<Term> {
        analyze::terms(&self.text, self.language)
    }
}

/// A passage at least this long tells its language by itself; a shorter one has its document's.
const SURE_BYTES: usize = 200;
/// Bytes of a document from which its language is told.
const SAMPLE_BYTES: usize = 4096;

/// Analyses a document. Takes milliseconds for a long one: not for a thread that serves.
#[must_use]
pub fn prepare(tenant: &TenantId, document: IndexDocument) -> Prepared {
    let IndexDocument { collection, id, name, title, source, metadata, writer, passages } = document;
    let scope = Key::scope(tenant, &collection);
    let name_key = Key::name(tenant, &collection, &name);
    let mut filters = vec![Key::filter("name", &Scalar::Text(name.clone()).key())];
    filters.extend(source.map(|source| Key::filter("source", &Scalar::Text(source).key())));
    filters.extend(metadata.iter().map(|(key, value)| Key::filter(&format!("metadata.{key}"), &value.key())));

    let mut sample = String::new();
    for passage in &passages {
        if SAMPLE_BYTES <= sample.len() {
            break;
        }
        sample.push_str(&passage.text);
        sample.push('\n');
    }
    let of_document = Language::detect(&sample);
    let title = if title.is_empty() { name.clone() } else { title };
    let tagged = |text: &str| Tagged { language: of_document, text: text.to_owned() };

    let passages = (0u32..).zip(passages).map(|(ordinal, passage)| {
        let language =
            if SURE_BYTES <= passage.text.len() { Language::detect(&passage.text) } else { of_document };
        let mut titles = vec![tagged(&title)];
        if name != title {
            titles.push(tagged(&name));
        }
        let path = passage.headings.iter().filter(|heading| **heading != title);
        let path = path.fold(title.clone(), |path, heading| format!("{path} › {heading}"));
        PreparedPassage {
            language,
            title: titles,
            headings: passage.headings.iter().map(|heading| tagged(heading)).collect(),
            body: Tagged { language, text: passage.text.clone() },
            passage: Passage {
                collection: collection.clone(),
                document_id: id,
                document: name.clone(),
                passage_id: PassageId { document: id, ordinal },
                title: path,
                text: passage.text,
                span: passage.span,
                score: 0.0,
            },
            vector: passage.vector,
        }
    });
    Prepared { scope, name: name_key, writer, filters, passages: passages.collect() }
}
