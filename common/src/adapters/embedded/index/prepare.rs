//! What a document becomes in the index.

use tantivy::TantivyDocument;
use tantivy::tokenizer::{TextAnalyzer, Token, TokenStream, Tokenizer};

use super::schema::{FIELDS, ID_HIGH, ID_LOW, Key, ORDINAL, field};
use crate::model::{Passage, PassageId, Scalar, TenantId};
use crate::ports::{IndexDocument, Writer};
use crate::text::analyze::{self, Language, Term};

/// A document ready to be written.
pub(super) struct Prepared {
    pub(super) scope: Key,
    pub(super) name: Key,
    pub(super) writer: Writer,
    pub(super) passages: Vec<(TantivyDocument, Option<Vec<f32>>)>,
}

/// A passage at least this long tells its language by itself; a shorter one has its document's.
const SURE_BYTES: usize = 200;
/// Bytes of a document from which its language is told.
const SAMPLE_BYTES: usize = 4096;

pub(super) fn document(tenant: &TenantId, document: IndexDocument) -> Prepared {
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
    let document_language = Language::detect(&sample);
    let title = if title.is_empty() { name.clone() } else { title };
    let (id_high, id_low) = id.uuid().as_u64_pair();

    let passages = (0u32..).zip(passages).map(|(ordinal, passage)| {
        let language = if SURE_BYTES <= passage.text.len() {
            Language::detect(&passage.text)
        } else {
            document_language
        };
        let mut doc = TantivyDocument::default();
        doc.add_bytes(FIELDS.scope, scope.bytes());
        doc.add_bytes(FIELDS.name, name_key.bytes());
        for filter in &filters {
            doc.add_bytes(FIELDS.filter, filter.bytes());
        }
        doc.add_text(FIELDS.title, tagged(document_language, &title));
        if name != title {
            doc.add_text(FIELDS.title, tagged(document_language, &name));
        }
        for heading in &passage.headings {
            doc.add_text(FIELDS.headings, tagged(document_language, heading));
        }
        doc.add_text(FIELDS.body, tagged(language, &passage.text));
        doc.add_bytes(FIELDS.language, language.code().as_bytes());
        doc.add_u64(field(ID_HIGH), id_high);
        doc.add_u64(field(ID_LOW), id_low);
        doc.add_u64(field(ORDINAL), u64::from(ordinal));
        let headings = passage.headings.iter().filter(|heading| **heading != title);
        let stored = Passage {
            collection: collection.clone(),
            document_id: id,
            document: name.clone(),
            passage_id: PassageId { document: id, ordinal },
            title: headings.fold(title.clone(), |path, heading| format!("{path} › {heading}")),
            text: passage.text,
            span: passage.span,
            score: 0.0,
        };
        let stored = serde_json::to_vec(&stored).expect("plain data with a finite score is always JSON");
        doc.add_bytes(FIELDS.stored, &stored);
        (doc, passage.vector)
    });
    Prepared { scope, name: name_key, writer, passages: passages.collect() }
}

/// tantivy hands its analyser nothing but the text, so the text brings its language along.
fn tagged(language: Language, text: &str) -> String {
    format!("{}\0{text}", language.code())
}

/// [`analyze::terms`] as tantivy calls it.
pub(super) fn analyser() -> TextAnalyzer {
    TextAnalyzer::from(Analyser)
}

#[derive(Clone)]
struct Analyser;

impl Tokenizer for Analyser {
    type TokenStream<'a> = Terms;

    fn token_stream<'a>(&'a mut self, text: &'a str) -> Terms {
        let (code, text) = text.split_once('\0').unwrap_or(("und", text));
        let terms = analyze::terms(text, Language::from_code(code));
        Terms { terms: terms.into_iter(), token: Token::default() }
    }
}

struct Terms {
    terms: std::vec::IntoIter<Term>,
    token: Token,
}

impl TokenStream for Terms {
    fn advance(&mut self) -> bool {
        let Some(term) = self.terms.next() else { return false };
        self.token = Token {
            offset_from: term.span.from,
            offset_to: term.span.to,
            position: term.position as usize,
            text: term.text,
            position_length: 1,
        };
        true
    }

    fn token(&self) -> &Token {
        &self.token
    }

    fn token_mut(&mut self) -> &mut Token {
        &mut self.token
    }
}
