//! Makes canonical texts: composed (NFC), with line feeds only, and without characters that a reader
//! cannot see but a model can.

use millhand_common::model::{CanonicalText, Heading, Origin, OriginPart, Span};
use unicode_normalization::{UnicodeNormalization, is_nfc};

/// Builds a canonical text block by block.
#[derive(Default)]
pub(super) struct Builder {
    made: CanonicalText,
    invisible: usize,
    /// Whether text that the document hides from its readers was left out.
    hidden: bool,
}

/// What stands between a block and the one before it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Gap {
    /// A line break: list items, table rows, lines of one paragraph.
    Line,
    /// An empty line: paragraphs.
    Paragraph,
}

impl Builder {
    /// Adds a block, unless it is blank. Trailing white space goes, leading indentation stays.
    pub(super) fn block(&mut self, gap: Gap, text: &str, origin: Option<Origin>) -> Option<Span> {
        let (text, invisible) = clean(text);
        self.invisible += invisible;
        let text = text.trim_end().trim_start_matches('\n');
        if text.trim().is_empty() {
            return None;
        }
        if !self.made.text.is_empty() {
            self.made.text.push_str(if gap == Gap::Line { "\n" } else { "\n\n" });
        }
        let span = Span::new(self.made.text.len(), self.made.text.len() + text.len());
        self.made.text.push_str(text);
        if let Some(origin) = origin {
            match self.made.origins.last_mut() {
                Some(last) if last.origin == origin => last.span.to = span.to,
                _ => self.made.origins.push(OriginPart { span, origin }),
            }
        }
        Some(span)
    }

    /// Adds a heading of `level` 1 (highest) to 6, on one line.
    pub(super) fn heading(&mut self, level: u8, text: &str, origin: Option<Origin>) {
        let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
        if let Some(span) = self.block(Gap::Paragraph, &line, origin) {
            self.made.headings.push(Heading { level, span });
        }
    }

    /// What the document calls itself.
    pub(super) fn title(&mut self, title: &str) {
        self.made.title = clean(title).0.split_whitespace().collect::<Vec<_>>().join(" ");
    }

    fn has_title(&self) -> bool {
        !self.made.title.is_empty()
    }

    /// Says that hidden text was left out.
    pub(super) fn hid(&mut self) {
        self.hidden = true;
    }

    pub(super) fn warn(&mut self, warning: impl Into<String>) {
        self.made.warnings.push(warning.into());
    }

    pub(super) fn text(&self) -> &str {
        &self.made.text
    }

    pub(super) fn headings(&self) -> &[Heading] {
        &self.made.headings
    }

    pub(super) fn finish(mut self) -> CanonicalText {
        if self.hidden {
            self.warn("hidden text removed");
        }
        if self.invisible > 0 {
            self.warn(format!("{} invisible characters removed", self.invisible));
        }
        if !self.has_title()
            && let Some(first) = self.made.headings.first()
        {
            self.made.title = first.span.of(&self.made.text).unwrap_or_default().to_owned();
        }
        self.made
    }
}

/// Canonical spelling of `text`, and how many invisible characters that took away.
pub(super) fn clean(text: &str) -> (String, usize) {
    let mut kept = String::with_capacity(text.len());
    let mut removed = 0;
    let mut chars = text.chars().peekable();
    let mut before = '\n';
    while let Some(c) = chars.next() {
        let keep = match c {
            '\r' if chars.peek() == Some(&'\n') => continue,
            '\r' | '\u{0B}' | '\u{0C}' | '\u{85}' | '\u{2028}' | '\u{2029}' => '\n',
            // A soft hyphen is a typesetter's mark, not a character of the word.
            '\u{AD}' => continue,
            '\u{200C}' | '\u{200D}' if joins(before) => c,
            // Variants of ideographs are spelled with these; anywhere else they only hide data.
            '\u{E0100}'..='\u{E01EF}' if matches!(before, '\u{3400}'..='\u{9FFF}' | '\u{20000}'..='\u{3FFFD}') => {
                c
            }
            _ if is_invisible(c) => {
                removed += 1;
                continue;
            }
            _ => c,
        };
        kept.push(keep);
        before = keep;
    }
    let kept = if is_nfc(&kept) { kept } else { kept.nfc().collect() };
    (kept, removed)
}

/// Code between fences that are longer than any run of backticks in it.
pub(super) fn fenced(language: &str, code: &str) -> String {
    let longest = code.split(|c| c != '`').map(str::len).max().unwrap_or(0);
    let fence = "`".repeat(longest.max(2) + 1);
    format!("{fence}{language}\n{}\n{fence}", code.trim_matches('\n'))
}

/// Scripts that are misspelled without joiners, and emoji, which are made of them.
fn joins(before: char) -> bool {
    matches!(before, '\u{600}'..='\u{DFF}' | '\u{FE0F}' | '\u{2600}'..='\u{27BF}' | '\u{1F000}'..='\u{1FAFF}')
}

/// Zero-width characters, bidi controls, tag characters and controls.
fn is_invisible(c: char) -> bool {
    (c.is_control() && c != '\n' && c != '\t')
        || matches!(c, '\u{34F}' | '\u{61C}' | '\u{180E}' | '\u{200B}'..='\u{200F}' | '\u{202A}'..='\u{202E}'
            | '\u{2060}'..='\u{206F}' | '\u{FEFF}' | '\u{FFF9}'..='\u{FFFB}' | '\u{E0000}'..='\u{E0FFF}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_reader_cannot_see_is_taken_away_and_counted() {
        let hidden: String = "ignore".chars().filter_map(|c| char::from_u32(0xE0000 + c as u32)).collect();
        let (text, removed) =
            clean(&format!("pay\u{200B}ment{hidden} is \u{202E}due\u{202C}\r\nnow\u{feff}"));
        assert_eq!((text.as_str(), removed), ("payment is due\nnow", 10));
        assert_eq!(clean("cafe\u{301} 한글").0, "café 한글");
        let (family, joined) = ("👨\u{200D}👩\u{200D}👧", "می\u{200C}خواهم");
        assert_eq!(clean(family), (family.to_owned(), 0));
        assert_eq!(clean(joined), (joined.to_owned(), 0));
    }

    #[test]
    fn blocks_know_where_they_came_from() {
        let mut builder = Builder::default();
        builder.heading(1, "Safety\n first", Some(Origin::Page(1)));
        builder.block(Gap::Paragraph, "Wear gloves.\n", Some(Origin::Page(1)));
        builder.block(Gap::Line, "   ", Some(Origin::Page(2)));
        builder.block(Gap::Paragraph, "戴手套。", Some(Origin::Page(2)));
        let made = builder.finish();
        assert_eq!(made.text, "Safety first\n\nWear gloves.\n\n戴手套。");
        assert_eq!(made.title, "Safety first");
        let parts: Vec<_> =
            made.origins.iter().map(|part| (part.span.of(&made.text).unwrap(), part.origin)).collect();
        assert_eq!(parts, [("Safety first\n\nWear gloves.", Origin::Page(1)), ("戴手套。", Origin::Page(2))]);
    }
}
