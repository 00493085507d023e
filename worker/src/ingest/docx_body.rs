//! The text of `document.xml` and of the notes, which have the same form.

use std::mem;

use quick_xml::Reader;
use quick_xml::events::{BytesStart, Event};

use super::canonical::{Builder, Gap};
use super::docx::{attribute, local, resolve};
use super::docx_styles::{Styles, outline_level};
use super::table::row;

pub(super) struct Body<'a> {
    styles: &'a Styles,
    builder: Builder,
    paragraph: Paragraph,
    /// Mark of the note whose first paragraph comes next.
    note: Option<String>,
    /// Open tables, the innermost last.
    tables: Vec<Table>,
    /// Inside `w:t`, the only place where text is text.
    in_text: bool,
    /// The current run is hidden.
    vanished: bool,
    /// Depth inside elements that are left out.
    skipping: usize,
    last: Last,
}

#[derive(Default)]
struct Paragraph {
    text: String,
    level: Option<u8>,
    /// Depth in its list, from 0.
    list: Option<usize>,
}

#[derive(Default)]
struct Table {
    cells: Vec<String>,
    cell: String,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Last {
    Item,
    Row,
    Other,
}

impl<'a> Body<'a> {
    pub(super) fn new(styles: &'a Styles) -> Self {
        Self {
            styles,
            builder: Builder::default(),
            paragraph: Paragraph::default(),
            note: None,
            tables: Vec::new(),
            in_text: false,
            vanished: false,
            skipping: 0,
            last: Last::Other,
        }
    }

    /// Adds the text of one part of the document.
    pub(super) fn read(&mut self, xml: &str) -> Result<(), quick_xml::Error> {
        let mut reader = Reader::from_str(xml);
        loop {
            match reader.read_event()? {
                Event::Start(start) => self.start(&start),
                Event::Empty(start) => {
                    let skipping = self.skipping;
                    self.start(&start);
                    self.skipping = skipping;
                    self.in_text = false;
                    if skipping == 0 && local(&start) == "p" {
                        self.end_paragraph();
                    }
                }
                Event::End(end) => self.end(end.local_name().into_inner()),
                Event::Text(text) => self.text(&text.xml10_content()),
                Event::CData(text) => self.text(&text.xml10_content()),
                Event::GeneralRef(reference) => self.text(&resolve(&reference)),
                Event::Eof => return Ok(()),
                Event::Comment(_) | Event::Decl(_) | Event::PI(_) | Event::DocType(_) => {}
            }
        }
    }

    pub(super) fn finish(self) -> Builder {
        self.builder
    }

    fn start(&mut self, start: &BytesStart<'_>) {
        if self.skipping > 0 {
            self.skipping += 1;
            return;
        }
        match local(start) {
            // Text that was moved away, the older form of a shape, and readings above characters.
            "moveFrom" | "Fallback" | "rt" => self.skipping = 1,
            "p" => {
                // A text box stands within a paragraph: what came before it is a block of its own.
                self.end_paragraph();
                self.paragraph.text = self.note.take().unwrap_or_default();
            }
            "pStyle" => {
                self.paragraph.level = attribute(start, "val").and_then(|id| self.styles.level(&id));
            }
            "outlineLvl" => {
                self.paragraph.level =
                    self.paragraph.level.or_else(|| outline_level(attribute(start, "val").as_deref()));
            }
            "numPr" => self.paragraph.list = Some(0),
            "ilvl" => {
                let depth = attribute(start, "val").and_then(|value| value.parse().ok()).unwrap_or(0);
                self.paragraph.list = self.paragraph.list.map(|_| depth);
            }
            // List 0 takes a paragraph out of the list of its style.
            "numId" if attribute(start, "val").as_deref() == Some("0") => self.paragraph.list = None,
            "r" => self.vanished = false,
            "vanish" => {
                self.vanished = !matches!(attribute(start, "val").as_deref(), Some("0" | "false" | "off"));
            }
            "t" => self.in_text = true,
            "tab" if self.in_run() => self.paragraph.text.push('\t'),
            "br" | "cr" if self.in_run() => self.paragraph.text.push('\n'),
            "noBreakHyphen" => self.paragraph.text.push('-'),
            "footnoteReference" | "endnoteReference" => {
                if let Some(mark) = note_mark(start) {
                    self.paragraph.text.push_str(&mark);
                }
            }
            "footnote" | "endnote" => self.note = note_mark(start).map(|mark| mark + " "),
            "tbl" => {
                self.end_paragraph();
                self.tables.push(Table::default());
                self.last = if self.tables.len() == 1 { Last::Other } else { self.last };
            }
            _ => {}
        }
    }

    /// Tab stops are described by elements of the same name outside of runs, before any text.
    fn in_run(&self) -> bool {
        !self.paragraph.text.is_empty()
    }

    fn text(&mut self, text: &str) {
        if !self.in_text || self.skipping > 0 {
            return;
        }
        if self.vanished {
            if !text.trim().is_empty() {
                self.builder.hid();
            }
            return;
        }
        self.paragraph.text.push_str(text);
    }

    fn end(&mut self, name: &str) {
        if self.skipping > 0 {
            self.skipping -= 1;
            return;
        }
        match name {
            "t" => self.in_text = false,
            "p" => self.end_paragraph(),
            "tc" => {
                if let Some(table) = self.tables.last_mut() {
                    let cell = mem::take(&mut table.cell);
                    table.cells.push(cell);
                }
            }
            "tr" => self.end_row(),
            "tbl" => {
                self.tables.pop();
                self.last = if self.tables.is_empty() { Last::Other } else { self.last };
            }
            _ => {}
        }
    }

    fn end_row(&mut self) {
        let Some(table) = self.tables.last_mut() else { return };
        let text = row(&mem::take(&mut table.cells));
        // A table within a cell becomes text of that cell.
        let depth = self.tables.len();
        if depth >= 2
            && let Some(outer) = self.tables.get_mut(depth - 2)
        {
            outer.cell.push_str(&text);
            outer.cell.push(' ');
            return;
        }
        self.write(&text, Last::Row);
    }

    fn end_paragraph(&mut self) {
        let paragraph = mem::take(&mut self.paragraph);
        if paragraph.text.trim().is_empty() {
            return;
        }
        if let Some(table) = self.tables.last_mut() {
            table.cell.push_str(&paragraph.text);
            table.cell.push(' ');
            return;
        }
        match (paragraph.level, paragraph.list) {
            (Some(level), _) => {
                self.builder.heading(level, &paragraph.text, None);
                self.last = Last::Other;
            }
            (None, Some(depth)) => {
                let indent = "  ".repeat(depth.min(8));
                self.write(&format!("{indent}- {}", paragraph.text.trim()), Last::Item);
            }
            (None, None) => self.write(&paragraph.text, Last::Other),
        }
    }

    fn write(&mut self, text: &str, kind: Last) {
        let gap = if kind == self.last && kind != Last::Other { Gap::Line } else { Gap::Paragraph };
        if self.builder.block(gap, text, None).is_some() {
            self.last = kind;
        }
    }
}

/// How a note is named in the text; separators have a type, they are lines and no notes.
fn note_mark(start: &BytesStart<'_>) -> Option<String> {
    if attribute(start, "type").is_some() {
        return None;
    }
    attribute(start, "id").map(|id| format!("[{id}]"))
}
