//! Cuts a canonical text into passages: what search finds and citations point into. Pure.

use std::ops::Range;

use millhand_common::model::{CanonicalText, Heading, Origin, PassageSpan, Span};
use millhand_common::text::sentence::sentences;

use super::tokens::{count, fitting};

/// A passage is worth ending at a paragraph from here on.
const MIN_TOKENS: usize = 220;
/// No passage is longer. Small enough that a few fit any model, large enough to stand alone.
const MAX_TOKENS: usize = 350;
/// Headings of this level and above begin a passage.
const SECTION_LEVEL: u8 = 2;

/// The passages of a text: in order, without overlap, covering everything but white space. None is
/// cut within a sentence or table row that fits a passage, and none goes over a main heading.
#[must_use]
pub fn split(canonical: &CanonicalText) -> Vec<PassageSpan> {
    let atoms = atoms(canonical);
    let mut passages = Vec::new();
    let mut path = Path::new(canonical);
    let mut origins = Origins { canonical, next: 0 };
    for section in sections(&atoms) {
        for range in fill(&atoms[section]) {
            let (Some(first), Some(last)) = (range.first(), range.last()) else { continue };
            let span = Span::new(first.span.from, last.span.to);
            passages.push(PassageSpan { span, headings: path.at(span.from), origin: origins.at(span.from) });
        }
    }
    passages
}

/// What is not cut any further.
#[derive(Clone, Debug)]
struct Atom {
    span: Span,
    tokens: usize,
    /// Begins a paragraph, list, table or code block: a good place to cut before.
    begins_block: bool,
    begins_section: bool,
    /// Belongs to what follows it.
    heading: bool,
}

fn atoms(canonical: &CanonicalText) -> Vec<Atom> {
    let text = &canonical.text;
    let mut headings = canonical.headings.iter().peekable();
    let mut atoms: Vec<Atom> = Vec::new();
    let mut fence: Option<usize> = None;
    for span in sentences(text) {
        while headings.next_if(|heading| heading.span.to <= span.from).is_some() {}
        let heading: Option<&&Heading> = headings.peek().filter(|heading| heading.span.from < span.to);
        let before = atoms.last().map_or(0, |atom| atom.span.to);
        let in_code = fence.is_some();
        fence = after_fence(fence, &text[span.from..span.to]);
        let begins_block = !in_code && text[before..span.from].matches('\n').count() != 1;
        // A heading of several sentences begins once.
        let begins_section =
            heading.is_some_and(|heading| heading.level <= SECTION_LEVEL && heading.span.from >= before);
        for (n, piece) in pieces(text, span).into_iter().enumerate() {
            atoms.push(Atom {
                span: piece,
                tokens: count(&text[piece.from..piece.to]),
                begins_block: begins_block && n == 0,
                begins_section: begins_section && n == 0,
                heading: heading.is_some(),
            });
        }
    }
    atoms
}

/// Length of the code fence that is open after a line.
fn after_fence(open: Option<usize>, line: &str) -> Option<usize> {
    let ticks = line.bytes().take_while(|&b| b == b'`').count();
    match open {
        None => (ticks >= 3).then_some(ticks),
        Some(open) if ticks >= open && ticks == line.len() => None,
        open => open,
    }
}

/// The span as it is, or in parts that each fit a passage: a line, a clause, a word, or what fits.
fn pieces(text: &str, span: Span) -> Vec<Span> {
    let mut pieces = Vec::new();
    let mut from = span.from;
    while from < span.to {
        let rest = &text[from..span.to];
        let fits = fitting(rest, MAX_TOKENS);
        let end = if fits == rest.len() { fits } else { cut(&rest[..fits]) };
        let piece = rest[..end].trim_end();
        if !piece.is_empty() {
            pieces.push(Span::new(from, from + piece.len()));
        }
        from += end;
        from += text[from..span.to].len() - text[from..span.to].trim_start().len();
    }
    pieces
}

/// Where to cut a window of text: the last good place in its second half.
fn cut(window: &str) -> usize {
    let after =
        |is: fn(char) -> bool| window.char_indices().rfind(|&(_, c)| is(c)).map(|(at, c)| at + c.len_utf8());
    let places = [
        after(|c| c == '\n'),
        after(|c| matches!(c, '，' | '、' | '：' | '；' | ';' | ':')),
        after(char::is_whitespace),
    ];
    places.into_iter().flatten().find(|&at| at >= window.len() / 2).unwrap_or(window.len())
}

/// Atoms from one main heading to the next; a heading with nothing under it stays with the next.
fn sections(atoms: &[Atom]) -> Vec<Range<usize>> {
    let mut sections: Vec<Range<usize>> = Vec::new();
    let mut start = 0;
    for (at, atom) in atoms.iter().enumerate() {
        if atom.begins_section && atoms[start..at].iter().any(|atom| !atom.heading) {
            sections.push(start..at);
            start = at;
        }
    }
    sections.push(start..atoms.len());
    sections
}

/// Distributes the atoms of a section over passages.
fn fill(mut atoms: &[Atom]) -> Vec<&[Atom]> {
    let mut passages = Vec::new();
    while !atoms.is_empty() {
        let rest: usize = atoms.iter().map(|atom| atom.tokens).sum();
        let end = if rest <= MAX_TOKENS {
            atoms.len()
        } else {
            // Two halves rather than a full passage and a scrap.
            let limit = if rest < MAX_TOKENS + MIN_TOKENS { rest / 2 + MAX_TOKENS / 8 } else { MAX_TOKENS };
            end_of_passage(atoms, limit)
        };
        passages.push(&atoms[..end]);
        atoms = &atoms[end..];
    }
    passages
}

/// How many of the atoms make a passage of at most `limit` tokens; at least one.
fn end_of_passage(atoms: &[Atom], limit: usize) -> usize {
    let mut tokens = 0;
    let mut best = (0, 1);
    for (at, pair) in atoms.windows(2).enumerate() {
        tokens += pair[0].tokens;
        if tokens > limit {
            break;
        }
        // Nothing is worse than a heading at the end; a block that ends early is no reason to stop.
        let quality = match (pair[0].heading, pair[1].begins_block && tokens * 3 >= limit * 2) {
            (true, _) => 0,
            (false, false) => 1,
            (false, true) => 2,
        };
        if quality >= best.0 {
            best = (quality, at + 1);
        }
    }
    best.1
}

/// The headings above a place, read front to back.
struct Path<'a> {
    canonical: &'a CanonicalText,
    next: usize,
    open: Vec<&'a Heading>,
}

impl<'a> Path<'a> {
    fn new(canonical: &'a CanonicalText) -> Self {
        Self { canonical, next: 0, open: Vec::new() }
    }

    /// Headings that begin at or before `at`. The title of the document is not repeated: it stands
    /// before the path wherever that is shown.
    fn at(&mut self, at: usize) -> Vec<String> {
        while let Some(heading) =
            self.canonical.headings.get(self.next).filter(|heading| heading.span.from <= at)
        {
            self.open.retain(|above| above.level < heading.level);
            self.open.push(heading);
            self.next += 1;
        }
        let texts = self.open.iter().filter_map(|heading| heading.span.of(&self.canonical.text));
        texts.filter(|text| *text != self.canonical.title).map(str::to_owned).collect()
    }
}

/// Places in the original, read front to back.
struct Origins<'a> {
    canonical: &'a CanonicalText,
    next: usize,
}

impl Origins<'_> {
    fn at(&mut self, at: usize) -> Option<Origin> {
        let parts = &self.canonical.origins;
        while parts.get(self.next).is_some_and(|part| part.span.to <= at) {
            self.next += 1;
        }
        let part = parts.get(self.next).filter(|part| part.span.from <= at)?;
        Some(match part.origin {
            Origin::Page(page) => Origin::Page(page),
            // Within a part, lines of the text are lines of the original.
            Origin::Line(line) => {
                let breaks = self.canonical.text[part.span.from..at].matches('\n').count();
                Origin::Line(line.saturating_add(u32::try_from(breaks).unwrap_or(u32::MAX)))
            }
        })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::ingest::parse::parse;

    fn markdown(text: &str) -> CanonicalText {
        parse("guide.md", None, text.as_bytes()).unwrap()
    }

    fn text_of(canonical: &CanonicalText) -> Vec<&str> {
        split(canonical).into_iter().map(|passage| passage.span.of(&canonical.text).unwrap()).collect()
    }

    #[test]
    fn a_passage_stays_under_its_heading_and_knows_the_path_to_it() {
        let canonical = markdown(
            "# Guide\n\n## Install\n\nRun the installer.\n\n### Linux\n\nUse the package.\n\n## 保修\n\n### 电池\n\n电池保修六个月。\n",
        );
        let passages = split(&canonical);
        assert_eq!(
            text_of(&canonical),
            [
                "Guide\n\nInstall\n\nRun the installer.\n\nLinux\n\nUse the package.",
                "保修\n\n电池\n\n电池保修六个月。"
            ]
        );
        assert_eq!(canonical.title, "Guide");
        assert_eq!(passages[1].headings, ["保修"]);
        assert_eq!(passages[1].origin, Some(Origin::Line(11)));
    }

    #[test]
    fn long_text_is_cut_between_paragraphs_of_about_one_size() {
        let paragraph =
            "The machine counts every part that leaves the line and tells the operator about it. ".repeat(6);
        let canonical = markdown(&format!("# Line\n\n{}", format!("{paragraph}\n\n").repeat(12)));
        let passages = text_of(&canonical);
        assert!(passages.len() > 2);
        for passage in &passages {
            assert!((140..=MAX_TOKENS).contains(&count(passage)), "{} tokens", count(passage));
            assert!(passage.ends_with("about it."), "{passage}");
            assert!(passage.starts_with("The machine") || passage.starts_with("Line"));
        }
    }

    #[test]
    fn a_code_block_stays_whole_and_a_heading_is_not_left_alone() {
        let filler = "所有零件都有编号，请在订购时注明。".repeat(15);
        let code = "```sh\nfirst --one\n\nsecond --two\n\nthird --three\n```";
        let canonical = markdown(&format!("{filler}\n\n### Use\n\n{code}\n\n{filler}"));
        let passages = text_of(&canonical);
        assert!(passages.len() >= 2);
        assert!(passages.iter().any(|passage| passage.contains(&format!("Use\n\n{code}"))), "{passages:#?}");
    }

    #[test]
    fn a_sentence_longer_than_a_passage_is_cut_between_words() {
        let canonical = markdown(&"word ".repeat(1000));
        for passage in text_of(&canonical) {
            assert!(count(passage) <= MAX_TOKENS);
            assert!(passage.split(' ').all(|word| word == "word"));
        }
        let canonical = markdown(&"汉".repeat(1000));
        assert_eq!(text_of(&canonical).concat(), "汉".repeat(1000));
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn passages_cover_everything_but_white_space_in_order(
            blocks in prop::collection::vec("(#{1,3} [a-z\u{4e00}-\u{4e40}]{1,20}|- [a-z .]{1,60}|```|[a-zA-Z,.!?|*#\u{4e00}-\u{4e40}。，！？…0-9 ]{0,900}|a \\| b)(\n|\n\n)", 0..20),
            name in "(x.md|x.txt|x.html)",
        ) {
            if let Ok(canonical) = parse(&name, None, blocks.concat().as_bytes()) {
                let mut at = 0;
                for passage in split(&canonical) {
                    prop_assert!(passage.span.from >= at && !passage.span.is_empty());
                    prop_assert!(canonical.text[at..passage.span.from].trim().is_empty());
                    let text = passage.span.of(&canonical.text);
                    prop_assert!(text.is_some_and(|text| count(text) <= MAX_TOKENS + MAX_TOKENS / 4));
                    at = passage.span.to;
                }
                prop_assert!(canonical.text[at..].trim().is_empty());
                for heading in &canonical.headings {
                    prop_assert!(heading.span.of(&canonical.text).is_some());
                }
            }
        }
    }
}
