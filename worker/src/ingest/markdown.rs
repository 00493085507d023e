//! Markdown: what a reader of the rendered page sees, with list markers and code fences kept.
//!
//! The canonical text leaves out markup (`**`, link targets, table rules), because quotations from it
//! are shown to people. Line breaks stay where the source has them, so that a place in a block is
//! also a line of the file.

use std::mem;

use millhand_common::model::{CanonicalText, Origin};
use pulldown_cmark::{CodeBlockKind, Event, Options, Parser, Tag, TagEnd};

use super::canonical::{Builder, Gap, clean, fenced};
use super::decode::decode;
use super::html;
use super::parse::ParseError;
use super::table::row;

pub(super) fn parse(bytes: &[u8], charset: Option<&str>) -> Result<CanonicalText, ParseError> {
    let (source, damage) = decode(bytes, charset)?;
    // Before parsing, so that line breaks of old systems are seen; counted again when blocks are made.
    let source = source.replace("\r\n", "\n").replace('\r', "\n");
    let mut writer = Writer { source: &source, lines: LineCounter::default(), ..Writer::default() };
    for (event, range) in Parser::new_ext(&source, options()).into_offset_iter() {
        writer.event(event, range.start);
    }
    writer.end_block();
    let mut builder = writer.builder;
    if let Some(damage) = damage {
        builder.warn(damage);
    }
    Ok(builder.finish())
}

fn options() -> Options {
    Options::ENABLE_TABLES
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_DEFINITION_LIST
        | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS
        | Options::ENABLE_HEADING_ATTRIBUTES
}

#[derive(Default)]
struct Writer<'a> {
    source: &'a str,
    builder: Builder,
    lines: LineCounter,
    text: String,
    /// Source line on which the open block starts.
    line: Option<u32>,
    lists: Vec<Option<u64>>,
    marker: Option<String>,
    /// The last block was an item of the list that is still open.
    after_item: bool,
    /// Language of the open code block.
    language: String,
    cells: Option<Vec<String>>,
    after_row: bool,
    html: Option<String>,
    front_matter: bool,
}

impl Writer<'_> {
    fn event(&mut self, event: Event<'_>, at: usize) {
        match event {
            Event::Start(tag) => self.start(tag, at),
            Event::End(tag) => self.end(tag),
            Event::Text(text) | Event::Code(text) => self.push(&text, at),
            Event::InlineMath(math) | Event::DisplayMath(math) => self.push(&math, at),
            Event::Html(source) => self.html.get_or_insert_default().push_str(&source),
            // The words between inline tags come as text; the tags say nothing, but for line breaks.
            Event::InlineHtml(tag) if tag.to_ascii_lowercase().starts_with("<br") => self.push("\n", at),
            Event::InlineHtml(_) => {}
            Event::FootnoteReference(label) => self.push(&format!("[{label}]"), at),
            Event::SoftBreak | Event::HardBreak => self.push("\n", at),
            Event::Rule => self.end_block(),
            Event::TaskListMarker(done) => self.push(if done { "[x] " } else { "[ ] " }, at),
        }
    }

    fn push(&mut self, text: &str, at: usize) {
        if self.line.is_none() {
            self.line = Some(self.lines.line_of(self.source, at));
        }
        self.text.push_str(text);
    }

    fn start(&mut self, tag: Tag<'_>, at: usize) {
        match tag {
            Tag::List(start) => {
                self.end_block();
                self.after_item &= !self.lists.is_empty();
                self.lists.push(start);
            }
            Tag::Item => {
                self.end_block();
                self.marker = Some(match self.lists.last_mut() {
                    Some(Some(next)) => {
                        *next += 1;
                        format!("{}. ", *next - 1)
                    }
                    _ => "- ".to_owned(),
                });
            }
            Tag::CodeBlock(kind) => {
                self.end_block();
                self.language = match kind {
                    CodeBlockKind::Fenced(info) => info.split_whitespace().next().unwrap_or("").to_owned(),
                    CodeBlockKind::Indented => String::new(),
                };
                self.push("", at);
            }
            Tag::MetadataBlock(_) => self.front_matter = true,
            Tag::TableHead | Tag::TableRow => {
                self.line = Some(self.lines.line_of(self.source, at));
                self.cells = Some(Vec::new());
            }
            Tag::Table(_) => {
                self.end_block();
                self.after_row = false;
            }
            Tag::FootnoteDefinition(label) => {
                self.end_block();
                self.push(&format!("[{label}] "), at);
            }
            Tag::Paragraph if self.text.ends_with("] ") => {}
            Tag::Paragraph
            | Tag::Heading { .. }
            | Tag::BlockQuote(_)
            | Tag::HtmlBlock
            | Tag::DefinitionList
            | Tag::DefinitionListTitle
            | Tag::DefinitionListDefinition => self.end_block(),
            Tag::TableCell
            | Tag::Emphasis
            | Tag::Strong
            | Tag::Strikethrough
            | Tag::Superscript
            | Tag::Subscript
            | Tag::Link { .. }
            | Tag::Image { .. } => {}
        }
    }

    fn end(&mut self, tag: TagEnd) {
        match tag {
            TagEnd::Heading(level) => {
                let (text, origin) = (mem::take(&mut self.text), self.line.take().map(Origin::Line));
                self.builder.heading(level as u8, &text, origin);
                self.after_item = false;
            }
            TagEnd::List(_) => {
                self.end_block();
                self.lists.pop();
            }
            TagEnd::Item => {
                self.end_block();
                self.marker = None;
            }
            TagEnd::CodeBlock => {
                self.text = fenced(&self.language, &self.text);
                self.end_block();
            }
            TagEnd::TableCell => {
                let cell = mem::take(&mut self.text);
                if let Some(cells) = &mut self.cells {
                    cells.push(cell);
                }
            }
            TagEnd::TableHead | TagEnd::TableRow => {
                let text = row(&self.cells.take().unwrap_or_default());
                let gap = if self.after_row { Gap::Line } else { Gap::Paragraph };
                let written = self.builder.block(gap, &text, self.line.take().map(Origin::Line));
                self.after_row |= written.is_some();
                self.after_item = false;
            }
            TagEnd::HtmlBlock => {
                if let Some(source) = self.html.take() {
                    html::parse_piece(&source, &mut self.builder, None);
                    self.after_item = false;
                }
            }
            TagEnd::MetadataBlock(_) => self.end_front_matter(),
            TagEnd::Paragraph
            | TagEnd::BlockQuote(_)
            | TagEnd::FootnoteDefinition
            | TagEnd::DefinitionList
            | TagEnd::DefinitionListTitle
            | TagEnd::DefinitionListDefinition
            | TagEnd::Table => self.end_block(),
            TagEnd::Emphasis
            | TagEnd::Strong
            | TagEnd::Strikethrough
            | TagEnd::Superscript
            | TagEnd::Subscript
            | TagEnd::Link
            | TagEnd::Image => {}
        }
    }

    /// The title that front matter names; the rest of it is text like any other.
    fn end_front_matter(&mut self) {
        self.front_matter = false;
        let title = self.text.lines().find_map(|line| line.strip_prefix("title:"));
        if let Some(title) = title {
            let title = clean(title).0.trim().trim_matches(['"', '\'']).to_owned();
            self.builder.title(&title);
        }
        self.end_block();
    }

    fn end_block(&mut self) {
        if self.front_matter {
            return;
        }
        let (text, origin) = (mem::take(&mut self.text), self.line.take().map(Origin::Line));
        if text.trim().is_empty() {
            return;
        }
        if self.lists.is_empty() {
            self.builder.block(Gap::Paragraph, &text, origin);
            self.after_item = false;
            return;
        }
        let indent = "  ".repeat((self.lists.len() - 1).min(8));
        // A fence is one at the start of its line only.
        let marker = self.marker.take().filter(|_| !text.starts_with("```"));
        let first = marker.unwrap_or_else(|| "  ".to_owned());
        let text = text.replace('\n', &format!("\n{indent}  "));
        let gap = if self.after_item { Gap::Line } else { Gap::Paragraph };
        self.builder.block(gap, &format!("{indent}{first}{text}"), origin);
        self.after_item = true;
    }
}

/// Counts lines up to rising offsets.
#[derive(Default)]
struct LineCounter {
    at: usize,
    lines: u32,
}

impl LineCounter {
    /// The line, from 1, of a byte offset; one before the last asked for answers the last.
    fn line_of(&mut self, source: &str, offset: usize) -> u32 {
        if offset > self.at {
            let breaks = source.as_bytes()[self.at..offset].iter().filter(|&&b| b == b'\n').count();
            self.lines += u32::try_from(breaks).unwrap_or(u32::MAX);
            self.at = offset;
        }
        self.lines + 1
    }
}

#[cfg(test)]
mod tests {
    use millhand_common::model::Origin;

    use crate::ingest::parse::parse;

    const GUIDE: &str = "---
title: \"安装 Guide\"
version: 3
---

Setext
======

Some **bold** text with a [link](https://example.org) and `code`,
wrapped by hand.

* one
* two
  with a second line

  1. inner

| Part | Years |
|------|-------|
| Motor | **5** |
| 电池 | |

```sh
cargo build

cargo run
```

> 引用一段话。

Line<br>break[^n].

<div hidden>secret</div>

[^n]: A note.
";

    #[test]
    fn markup_goes_and_structure_stays() {
        let made = parse("guide.md", None, GUIDE.as_bytes()).unwrap();
        insta::assert_snapshot!(made.text, @r#"
        title: "安装 Guide"
        version: 3

        Setext

        Some bold text with a link and code,
        wrapped by hand.

        - one
        - two
          with a second line
          1. inner

        Part | Years
        Motor | 5
        电池

        ```sh
        cargo build

        cargo run
        ```

        引用一段话。

        Line
        break[n].

        [n] A note.
        "#);
        assert_eq!(made.title, "安装 Guide");
        assert_eq!(made.warnings, ["hidden text removed"]);
        let line_of = |text: &str| {
            let at = made.text.find(text).unwrap();
            made.origins.iter().rfind(|part| part.span.from <= at).map(|part| part.origin)
        };
        assert_eq!(line_of("Setext"), Some(Origin::Line(6)));
        assert_eq!(line_of("Some"), Some(Origin::Line(9)));
        assert_eq!(line_of("电池"), Some(Origin::Line(21)));
    }

    #[test]
    fn windows_line_ends_change_nothing() {
        let windows = GUIDE.replace('\n', "\r\n");
        let (unix, windows) =
            (parse("a.md", None, GUIDE.as_bytes()), parse("a.md", None, windows.as_bytes()));
        assert_eq!(unix, windows);
    }
}
