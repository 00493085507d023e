//! Where sentences begin and end, in English, Chinese and scripts with terminators of their own.
//!
//! First lines are put together to blocks (a paragraph, a list item, a heading, a table row), then
//! each block is cut after its terminators. A soft-wrapped line does not end a sentence.

use crate::model::Span;

/// A line narrower than this, in columns, was not wrapped: its break was meant.
const WRAP_COLUMNS: usize = 40;

/// The sentences of `text` in order: half-open byte spans without surrounding white space, which do
/// not overlap and together cover everything that is not white space.
#[must_use]
pub fn sentences(text: &str) -> Vec<Span> {
    let mut spans = Vec::new();
    for block in blocks(text) {
        cut(text, block, &mut spans);
    }
    spans
}

/// The blocks of `text`: as [`sentences`], but not cut after terminators.
#[must_use]
pub fn blocks(text: &str) -> Vec<Span> {
    let mut blocks: Vec<Span> = Vec::new();
    let mut open: Option<Line<'_>> = None;
    let mut open_fence: Option<&str> = None;
    let mut at = 0;
    for raw in text.split_inclusive('\n') {
        let line = Line::new(raw, at);
        at += raw.len();
        if line.text.is_empty() {
            open = None;
            continue;
        }
        let code = match (open_fence, fence(line.text)) {
            (None, None) => false,
            (None, opening) => {
                open_fence = opening;
                true
            }
            (Some(opening), mark) => {
                // As long as the opening one or longer, with nothing after it.
                if mark.is_some_and(|mark| mark == line.text && mark.starts_with(opening)) {
                    open_fence = None;
                }
                true
            }
        };
        match (blocks.last_mut(), open) {
            (Some(block), Some(before)) if !code && line.continues(before) => block.to = line.span().to,
            _ => blocks.push(line.span()),
        }
        // Code lines stand alone, so nothing is joined to them.
        open = (!code).then_some(line);
    }
    blocks
}

/// The run of at least three backticks or tildes at the start of a line.
fn fence(line: &str) -> Option<&str> {
    let mark = line.chars().next().filter(|&c| c == '`' || c == '~')?;
    let length = line.chars().take_while(|&c| c == mark).count();
    (length >= 3).then(|| &line[..length])
}

#[derive(Clone, Copy)]
struct Line<'a> {
    text: &'a str,
    from: usize,
}

impl<'a> Line<'a> {
    fn new(raw: &'a str, at: usize) -> Self {
        let start = raw.trim_start();
        Self { text: start.trim_end(), from: at + raw.len() - start.len() }
    }

    fn span(self) -> Span {
        Span::new(self.from, self.from + self.text.len())
    }

    /// Whether this line goes on with the paragraph or list item that `before` belongs to.
    fn continues(self, before: Self) -> bool {
        if self.stands_alone() || before.stands_alone() || marker(self.text).is_some() {
            return false;
        }
        let wrapped = columns(before.text) >= WRAP_COLUMNS;
        wrapped || self.text.starts_with(char::is_lowercase) || before.text.ends_with([',', '，', '、'])
    }

    /// Headings, table rows and rules.
    fn stands_alone(self) -> bool {
        let hashes = self.text.bytes().take_while(|&b| b == b'#').count();
        (1..=6).contains(&hashes) && self.text[hashes..].starts_with([' ', '\t'])
            || self.text.starts_with('|')
            || self.text.contains(" | ")
            || self.text.len() >= 3 && self.text.bytes().all(|b| matches!(b, b'-' | b'=' | b'*' | b'_' | b' '))
    }
}

/// Length of the list marker at the start of `line` (`- `, `12. `, `a) `, `（一）`, `1、`), if any.
fn marker(line: &str) -> Option<usize> {
    let mut chars = line.chars();
    let first = chars.next()?;
    if matches!(first, '-' | '*' | '+' | '•' | '·' | '‣' | '◦' | '–') && chars.next() == Some(' ') {
        return Some(first.len_utf8() + 1);
    }
    let open = usize::from(matches!(first, '(' | '（')) * first.len_utf8();
    let number: usize = line[open..].chars().take_while(|&c| is_ordinal(c)).map(char::len_utf8).sum();
    let letter = number == 0 && line[open..].starts_with(|c: char| c.is_ascii_alphabetic());
    // Longer numbers are years and amounts at the start of a wrapped line.
    let short = line[open..].chars().take_while(|&c| is_ordinal(c)).count() <= 3;
    let body = open + if letter { 1 } else { number };
    if body == open || !short {
        return None;
    }
    let mut rest = line[body..].chars();
    match (rest.next()?, letter) {
        (close @ ('）' | '、' | '．'), _) => Some(body + close.len_utf8()),
        (')', _) | ('.', false) if rest.next() == Some(' ') => Some(body + 2),
        _ => None,
    }
}

fn is_ordinal(c: char) -> bool {
    c.is_ascii_digit() || "一二三四五六七八九十百".contains(c)
}

/// Width as a terminal shows it: East Asian characters take two columns.
fn columns(text: &str) -> usize {
    text.chars().map(|c| if is_wide(c) { 2 } else { 1 }).sum()
}

fn is_wide(c: char) -> bool {
    matches!(c, '\u{1100}'..='\u{115F}' | '\u{2E80}'..='\u{A4CF}' | '\u{AC00}'..='\u{D7A3}'
        | '\u{F900}'..='\u{FAFF}' | '\u{FE30}'..='\u{FE4F}' | '\u{FF00}'..='\u{FF60}' | '\u{20000}'..='\u{3FFFD}')
}

/// Cuts one block after its terminators.
fn cut(text: &str, block: Span, spans: &mut Vec<Span>) {
    let body = &text[block.from..block.to];
    let mut start = 0;
    let mut at = marker(body).unwrap_or(0);
    while let Some(c) = body[at..].chars().next() {
        if !is_terminator(c) {
            at += c.len_utf8();
            continue;
        }
        let marks = run(body, at, is_terminator);
        let end = run(body, marks, is_closer);
        if ends_sentence(body, start, at, marks, end) {
            let sentence = &body[start..end];
            let lead = sentence.len() - sentence.trim_start().len();
            spans.push(Span::new(block.from + start + lead, block.from + end));
            start = end;
        }
        at = end;
    }
    let rest = &body[start..];
    let lead = rest.len() - rest.trim_start().len();
    if lead < rest.len() {
        spans.push(Span::new(block.from + start + lead, block.to));
    }
}

/// Where the run of characters for which `is` holds ends.
fn run(text: &str, from: usize, is: fn(char) -> bool) -> usize {
    text[from..].find(|c| !is(c)).map_or(text.len(), |len| from + len)
}

/// Terminators that need no space after them.
fn is_full_stop(c: char) -> bool {
    matches!(c, '。' | '！' | '？' | '；' | '｡' | '．' | '।' | '॥' | '؟' | '۔' | '։' | '።')
}

fn is_terminator(c: char) -> bool {
    is_full_stop(c) || matches!(c, '.' | '!' | '?' | '…' | '‼' | '⁇' | '⁈' | '⁉')
}

fn is_closer(c: char) -> bool {
    matches!(
        c,
        '"' | '\'' | '”' | '’' | ')' | ']' | '}' | '»' | '›' | '）' | '］' | '｝' | '】' | '》' | '〉' | '」' | '』' | '〕'
    )
}

/// Whether the terminators at `marks_from..marks_to`, with closing quotes and brackets up to `end`,
/// end the sentence that began at `start`.
fn ends_sentence(text: &str, start: usize, marks_from: usize, marks_to: usize, end: usize) -> bool {
    let marks = &text[marks_from..marks_to];
    let after = &text[end..];
    let Some(next) = after.chars().next() else { return true };
    if marks.chars().any(is_full_stop) {
        // `。”，` and the like: the quotation ends, the sentence around it goes on.
        return !matches!(next, '，' | '、' | '：' | ',' | '；' | '。');
    }
    let following = after.trim_start().chars().next();
    let Some(following) = following else { return true };
    if !next.is_whitespace() {
        // Western marks in text without spaces: `好!然后`, `……她走了`; but `3.1`, `a.b`, `v2.版本`.
        let before = text[..marks_from].chars().next_back();
        return is_wide(next) && !matches!(next, '，' | '、' | '：' | '；') && before.is_some_and(is_wide)
            && next.is_alphanumeric();
    }
    if following.is_lowercase() || matches!(following, ',' | ';' | ':' | ')' | '，' | '、') {
        return false;
    }
    marks != "." || !is_abbreviation(text, start, marks_from, following)
}

/// Words that are followed by a full stop and a capital letter within a sentence.
const ABBREVIATIONS: &[&str] = &[
    "mr", "mrs", "ms", "dr", "prof", "sr", "jr", "st", "vs", "fig", "figs", "eq", "eqs", "sec", "ch", "no", "nos",
    "vol", "pp", "ed", "eds", "al", "cf", "approx", "dept", "gen", "gov", "sen", "rep", "capt", "lt", "col", "sgt",
    "rev", "hon", "mt", "ft", "ave", "blvd", "jan", "feb", "mar", "apr", "jun", "jul", "aug", "sep", "sept", "oct",
    "nov", "dec", "e.g", "i.e", "u.s", "u.k", "ph.d", "a.k.a", "ca", "viz", "resp", "incl", "tel", "ref", "art", "para",
];

/// Abbreviations that also end sentences: a sentence goes on after them only before a number.
const NUMBERED: &[&str] = &["no", "nos", "art", "sec", "ch", "fig", "figs", "ref", "para", "mar", "dec", "ed"];

fn is_abbreviation(text: &str, start: usize, dot: usize, following: char) -> bool {
    let sentence = &text[start..dot];
    let word = sentence.rsplit(|c: char| c.is_whitespace() || matches!(c, '(' | '[' | '"' | '“')).next();
    let Some(word) = word.filter(|word| !word.is_empty()) else { return true };
    let lower = word.to_lowercase();
    if NUMBERED.contains(&lower.as_str()) {
        return following.is_numeric();
    }
    // An initial: `J. Smith`; but `plan B.` and `I.` end sentences often enough to look at the case.
    let mut chars = word.chars();
    let initial = matches!((chars.next(), chars.next()), (Some(c), None) if c.is_uppercase() && c != 'I');
    ABBREVIATIONS.contains(&lower.as_str()) || initial && following.is_uppercase()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(text: &str) -> Vec<&str> {
        sentences(text).into_iter().map(|span| span.of(text).unwrap()).collect()
    }

    #[test]
    fn english_prose_is_cut_at_its_sentences_only() {
        let text = "Dr. Smith moved to St. Louis in Jan. 2019, e.g. for work. He paid $3.50 for v2.1.0 of the tool! \
                    “Is it any good?” he asked. See https://example.org/a.b?c=d for more... Nobody did. \
                    J. R. Tolkien, et al. wrote it (in the U.S. at least). See Fig. 3 and No. 7.";
        assert_eq!(
            of(text),
            [
                "Dr. Smith moved to St. Louis in Jan. 2019, e.g. for work.",
                "He paid $3.50 for v2.1.0 of the tool!",
                "“Is it any good?” he asked.",
                "See https://example.org/a.b?c=d for more...",
                "Nobody did.",
                "J. R. Tolkien, et al. wrote it (in the U.S. at least).",
                "See Fig. 3 and No. 7.",
            ]
        );
        assert_eq!(of("Was it you? No. It was not."), ["Was it you?", "No.", "It was not."]);
    }

    #[test]
    fn chinese_prose_needs_no_spaces() {
        let text = "保修期为两年。电池除外！你问：“电池呢？”，答案是六个月；详见第3.2节。她想了想……然后走了。“好的。”他说。";
        assert_eq!(
            of(text),
            [
                "保修期为两年。",
                "电池除外！",
                "你问：“电池呢？”，答案是六个月；",
                "详见第3.2节。",
                "她想了想……",
                "然后走了。",
                "“好的。”",
                "他说。",
            ]
        );
    }

    #[test]
    fn a_soft_wrap_goes_on_and_every_other_line_break_ends() {
        let text = "# Warranty terms\nThe warranty covers every part of the machine\nfor two years. Batteries are not\n\
                    covered.\n\n- first item\n- second item that is long enough to be wrapped\n  onto a new line\n\
                    1. step one\n2. step two\n\n| Part | Years |\n| Motor | 5 |\nA | B\nC | D\n\n第一章 总则\n本规定适用于所有员工。";
        assert_eq!(
            of(text),
            [
                "# Warranty terms",
                "The warranty covers every part of the machine\nfor two years.",
                "Batteries are not\ncovered.",
                "- first item",
                "- second item that is long enough to be wrapped\n  onto a new line",
                "1. step one",
                "2. step two",
                "| Part | Years |",
                "| Motor | 5 |",
                "A | B",
                "C | D",
                "第一章 总则",
                "本规定适用于所有员工。",
            ]
        );
    }

    #[test]
    fn wrapped_chinese_goes_on_and_chinese_list_items_do_not() {
        let text = "本公司对其生产的所有电动工具提供为期两年的质量\n保证。\n（一）主机\n（二）电池\n1、充电器";
        assert_eq!(
            of(text),
            ["本公司对其生产的所有电动工具提供为期两年的质量\n保证。", "（一）主机", "（二）电池", "1、充电器"]
        );
    }

    #[test]
    fn every_line_of_a_code_block_stands_alone() {
        let text = "Run this:\n```sh\ncargo build --release --locked --package millhand\ncargo test\n```\nThen go on.";
        assert_eq!(
            of(text),
            [
                "Run this:",
                "```sh",
                "cargo build --release --locked --package millhand",
                "cargo test",
                "```",
                "Then go on."
            ]
        );
    }

    proptest! {
        #[test]
        fn sentences_cover_everything_but_white_space(text in "[a-zA-Z0-9 .!?,;:\"'()\n#|*\u{3002}\u{ff01}\u{ff1b}\u{201d}\u{2026}\u{4e00}-\u{4e20}-]{0,200}") {
            let spans = sentences(&text);
            let mut at = 0;
            for span in spans {
                prop_assert!(span.from >= at && !span.is_empty());
                prop_assert!(text[at..span.from].trim().is_empty());
                let sentence = span.of(&text).unwrap();
                prop_assert_eq!(sentence.trim(), sentence);
                at = span.to;
            }
            prop_assert!(text[at..].trim().is_empty());
        }
    }
}
