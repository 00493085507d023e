//! How text becomes terms: the one analysis that every index and the extractive answerer share.
//!
//! A term is a folded word, reduced to its stem where the language has one. Chinese and Japanese are
//! cut by dictionary, Korean by its spaces and particles, and by pairs of letters besides. Identifiers such as
//! `dpkg-buildpackage` are a term as a whole and by their parts. Traditional and simplified Chinese
//! stay as they are written. Stop words are marked, not dropped: a question may consist of them.

mod language;
mod segment;
mod stop_words;
mod tokens;

use whatlang::Lang;

pub use language::{Language, fold};

use crate::model::Span;
use tokens::{Token, TokenKind};

/// Grows whenever a text may become other terms than before: indexes of another version are built
/// anew.
pub const ANALYSER_VERSION: u32 = 2;

/// Terms longer than this, in bytes, are not words; an index may leave them out.
const MAX_TERM_BYTES: usize = 256;

/// A term of a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    pub text: String,
    /// The bytes of the analysed text it stands for.
    pub span: Span,
    /// Counts words, and letters of East Asian scripts, from 0; a word and its parts overlap.
    pub position: u32,
    /// Carries grammar rather than meaning.
    pub stop: bool,
    /// Inside another term, or across two: for finding more, not for counting words.
    pub part: bool,
}

/// A term of a question with all forms it may have in the documents.
#[derive(Clone, Debug, PartialEq)]
pub struct QueryTerm {
    /// As asked, folded.
    pub text: String,
    /// What may stand in the index, the likeliest first; never empty, no form twice.
    pub forms: Vec<String>,
    /// Bytes of the question.
    pub span: Span,
    pub position: u32,
    /// What a match is worth: 1 for a word, less for parts of one.
    pub weight: f32,
}

/// The terms of a text of language `lang`, in order of position.
#[must_use]
pub fn terms(text: &str, lang: Language) -> Vec<Term> {
    let tokens = tokens::tokens(text);
    let stops = stop_spans(text, &tokens, lang);
    let term = |token: Token| {
        let (term, _) = form(text, token, lang);
        let stop = is_stop(token, &stops);
        Term { text: term, span: token.span, position: token.position, stop, part: token.part }
    };
    tokens.into_iter().filter(|token| token.span.len() <= MAX_TERM_BYTES).map(term).collect()
}

/// The terms of a question, with their forms under its own language and under each of `langs`, the
/// languages present in an index: a few words are too little to tell a language by. Stop words are
/// left out unless nothing else is there.
#[must_use]
pub fn query_terms(text: &str, langs: &[Language]) -> Vec<QueryTerm> {
    let own = Language::detect(text);
    let tokens = tokens::tokens(text);
    let stops = stop_spans(text, &tokens, own);
    let mut kept: Vec<Token> = tokens.iter().copied().filter(|token| !is_stop(*token, &stops)).collect();
    if kept.is_empty() {
        kept = tokens;
    }
    let mut out: Vec<QueryTerm> = Vec::new();
    for token in kept.into_iter().filter(|token| token.span.len() <= MAX_TERM_BYTES) {
        let (first, folded) = form(text, token, own);
        let mut forms = vec![first];
        for lang in langs {
            let (other, _) = form(text, token, *lang);
            if !forms.contains(&other) {
                forms.push(other);
            }
        }
        let weight = weight(text, token);
        match out.iter_mut().find(|term| term.forms == forms) {
            Some(same) => same.weight = same.weight.max(weight),
            None => out.push(QueryTerm {
                text: folded,
                forms,
                span: token.span,
                position: token.position,
                weight,
            }),
        }
    }
    out
}

fn weight(text: &str, token: Token) -> f32 {
    match token.kind {
        // Korean words carry particles, so pairs of syllables do most of the finding.
        TokenKind::Bigram if text[token.span.from..].starts_with(is_hangul) => 0.5,
        TokenKind::Bigram => 0.25,
        TokenKind::Word if token.part => 0.5,
        TokenKind::Word | TokenKind::Identifier => 1.0,
    }
}

fn is_hangul(c: char) -> bool {
    language::Script::of(c) == Some(language::Script::Hangul)
}

/// The term of a token, and its folded text.
fn form(text: &str, token: Token, lang: Language) -> (String, String) {
    let word = &text[token.span.from..token.span.to];
    let word_lang = lang.of_word(word);
    let folded = language::fold_with(word, word_lang).into_owned();
    let term = match token.kind {
        TokenKind::Word => language::stem(&folded, word_lang),
        TokenKind::Identifier => identifier(&folded),
        TokenKind::Bigram => folded.clone(),
    };
    (if term.is_empty() { folded.clone() } else { term }, folded)
}

/// `1,000` and `1000` are one number, all hyphens are one sign.
fn identifier(folded: &str) -> String {
    let groups = |word: &str| {
        let mut parts = word.split(',');
        parts.next().is_some_and(|first| (1..=3).contains(&first.len()))
            && parts.all(|part| part.get(..3).is_some_and(|group| group.bytes().all(|b| b.is_ascii_digit())))
    };
    if folded.contains(',') && groups(folded) {
        folded.replace(',', "")
    } else {
        folded.replace('\u{2011}', "-")
    }
}

/// The spans of stop words, in order.
fn stop_spans(text: &str, tokens: &[Token], lang: Language) -> Vec<Span> {
    let stop = |token: &Token| {
        let word = &text[token.span.from..token.span.to];
        let word_lang: Option<Lang> = lang.of_word(word);
        word_lang.is_some_and(|lang| stop_words::is_stop_word(&language::fold_with(word, Some(lang)), lang))
    };
    tokens
        .iter()
        .filter(|token| token.kind == TokenKind::Word && !token.part && stop(token))
        .map(|token| token.span)
        .collect()
}

/// A pair of letters is as empty as the stop word it touches.
fn is_stop(token: Token, stops: &[Span]) -> bool {
    let next = stops.partition_point(|stop| stop.to <= token.span.from);
    match (token.kind, stops.get(next)) {
        (TokenKind::Word, Some(stop)) => *stop == token.span,
        (TokenKind::Bigram, Some(stop)) => stop.from < token.span.to,
        _ => false,
    }
}

#[cfg(test)]
mod tests;
