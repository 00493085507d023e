//! Cuts a text into words: Chinese by jieba's dictionary and its model of unknown words, all else by
//! ICU (Japanese, Thai, Khmer, Lao and Burmese by dictionary, the rest by the rules of UAX 29).

use std::sync::LazyLock;

use icu_segmenter::options::WordBreakInvariantOptions;
use icu_segmenter::{WordSegmenter, WordSegmenterBorrowed};
use jieba_rs::Jieba;

use super::language::Script;
use crate::model::Span;

/// The dictionary is compiled into the binary; its pages are read when first used.
static ICU: LazyLock<WordSegmenterBorrowed<'static>> =
    LazyLock::new(|| WordSegmenter::new_dictionary(WordBreakInvariantOptions::default()));

/// Takes some 30 MB and a tenth of a second, so a process that sees no Chinese never makes it. ICU's
/// own Chinese is no substitute: it cuts 软件包管理器 as 软件, 包管, 理, 器.
static JIEBA: LazyLock<Jieba> = LazyLock::new(Jieba::new);

/// The words of a text, in order; what is between them has no letter or digit.
pub(super) fn words(text: &str) -> Vec<Span> {
    let mut out = Vec::new();
    let mut rest = 0;
    for run in chinese_runs(text) {
        by_icu(text, Span::new(rest, run.from), &mut out);
        by_jieba(text, run, &mut out);
        rest = run.to;
    }
    by_icu(text, Span::new(rest, text.len()), &mut out);
    out
}

/// Runs of ideographs that touch no kana: with kana beside them they are Japanese.
fn chinese_runs(text: &str) -> Vec<Span> {
    let mut runs = Vec::new();
    let mut run: Option<usize> = None;
    let mut after_kana = false;
    let ends = text.char_indices().map(|(at, c)| (at, Script::of(c))).chain([(text.len(), None)]);
    for (at, script) in ends {
        if script == Some(Script::Han) {
            run.get_or_insert(at);
            continue;
        }
        let kana = script == Some(Script::Kana);
        if let Some(from) = run.take()
            && !kana
            && !after_kana
        {
            runs.push(Span::new(from, at));
        }
        after_kana = kana;
    }
    runs
}

fn by_jieba(text: &str, run: Span, out: &mut Vec<Span>) {
    let mut from = run.from;
    for token in JIEBA.cut(&text[run.from..run.to], true) {
        out.push(Span::new(from, from + token.word.len()));
        from += token.word.len();
    }
}

/// Hangul is cut from Latin letters and digits, which the rules leave together.
fn by_icu(text: &str, part: Span, out: &mut Vec<Span>) {
    let piece = &text[part.from..part.to];
    let mut start = 0;
    for end in ICU.segment_str(piece) {
        let word = &piece[start..end];
        let at = part.from + start;
        start = end;
        if !word.chars().any(char::is_alphanumeric) {
            continue;
        }
        let mut from = at;
        if !word.is_ascii() {
            let hangul = |c: char| Script::of(c) == Some(Script::Hangul);
            let mut before = word.starts_with(hangul);
            for (n, c) in word.char_indices() {
                if hangul(c) != before {
                    out.push(Span::new(from, at + n));
                    from = at + n;
                    before = !before;
                }
            }
        }
        out.push(Span::new(from, at + word.len()));
    }
}
