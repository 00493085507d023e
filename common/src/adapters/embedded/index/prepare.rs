//! What a passage becomes in tantivy.

use tantivy::TantivyDocument;
use tantivy::tokenizer::{TextAnalyzer, Token, TokenStream, Tokenizer};

use super::schema::{FIELDS, ID_HIGH, ID_LOW, ORDINAL, field};
use crate::model::TenantId;
use crate::ports::{IndexDocument, Writer};
use crate::search::{Key, PreparedPassage, Tagged, prepare};
use crate::text::analyze::{self, Language, Term};

/// A document ready to be written.
pub(super) struct Prepared {
    pub(super) scope: Key,
    pub(super) name: Key,
    pub(super) writer: Writer,
    pub(super) passages: Vec<(TantivyDocument, Option<Vec<f32>>)>,
}

pub(super) fn document(tenant: &TenantId, document: IndexDocument) -> Prepared {
    let document = prepare(tenant, document);
    let (scope, name, filters) = (document.scope, document.name, document.filters);
    let passage = |prepared: PreparedPassage| {
        let PreparedPassage { passage, language, title, headings, body, vector } = prepared;
        let (id_high, id_low) = passage.document_id.uuid().as_u64_pair();
        let mut doc = TantivyDocument::default();
        doc.add_bytes(FIELDS.scope, scope.bytes());
        doc.add_bytes(FIELDS.name, name.bytes());
        for filter in &filters {
            doc.add_bytes(FIELDS.filter, filter.bytes());
        }
        for title in &title {
            doc.add_text(FIELDS.title, tagged(title));
        }
        for heading in &headings {
            doc.add_text(FIELDS.headings, tagged(heading));
        }
        doc.add_text(FIELDS.body, tagged(&body));
        doc.add_bytes(FIELDS.language, language.code().as_bytes());
        doc.add_u64(field(ID_HIGH), id_high);
        doc.add_u64(field(ID_LOW), id_low);
        doc.add_u64(field(ORDINAL), u64::from(passage.passage_id.ordinal));
        let stored = serde_json::to_vec(&passage).expect("plain data with a finite score is always JSON");
        doc.add_bytes(FIELDS.stored, &stored);
        (doc, vector)
    };
    let passages = document.passages.into_iter().map(passage).collect();
    Prepared { scope, name, writer: document.writer, passages }
}

/// tantivy hands its analyser nothing but the text, so the text brings its language along.
fn tagged(text: &Tagged) -> String {
    format!("{}\0{}", text.language.code(), text.text)
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
