//! PDF: lines of characters with their place and size; [`super::reflow`] makes text of them.

use std::panic::{AssertUnwindSafe, catch_unwind};

use millhand_common::model::CanonicalText;
use pdf_extract::{Document, MediaBox, Object, OutputDev, OutputError, Transform, output_doc_page};

use super::canonical::Builder;
use super::parse::ParseError;
use super::reflow::{Line, reflow};

pub(super) fn parse(bytes: &[u8]) -> Result<CanonicalText, ParseError> {
    let mut document =
        guarded(|| Document::load_mem(bytes))?.map_err(|err| ParseError::unreadable("PDF", err))?;
    // Many files are encrypted with an empty password, which every reader tries.
    if document.is_encrypted() && !matches!(guarded(|| document.decrypt("")), Ok(Ok(()))) {
        return Err(ParseError::Encrypted);
    }
    let mut builder = Builder::default();
    let mut pages = Vec::new();
    let mut unread = Vec::new();
    for &number in document.get_pages().keys() {
        let mut page = Page::default();
        match guarded(|| output_doc_page(&document, &mut page, number)) {
            Ok(Ok(())) => pages.push((number, page.lines)),
            _ => unread.push(number),
        }
    }
    if pages.is_empty() && !unread.is_empty() {
        return Err(ParseError::unreadable("PDF", "none of its pages can be read"));
    }
    reflow(&pages, &mut builder);
    if let Some(title) = title(&document) {
        builder.title(&title);
    }
    for page in unread {
        builder.warn(format!("page {page} could not be read"));
    }
    Ok(builder.finish())
}

/// The PDF libraries panic on much that is found in the wild; one page should not cost the others.
fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, ParseError> {
    catch_unwind(AssertUnwindSafe(work)).map_err(|_| ParseError::Crashed)
}

/// The title of the document's own description, unless a program made it of a file name.
fn title(document: &Document) -> Option<String> {
    let info = match document.trailer.get(b"Info").ok()? {
        Object::Reference(id) => document.get_dictionary(*id).ok()?,
        Object::Dictionary(info) => info,
        _ => return None,
    };
    let title = guarded(|| pdf_extract::decode_text_string(info.get(b"Title").ok()?).ok()).ok()??;
    let title = title.trim_matches(['\0', ' ', '\n']).to_owned();
    let lower = title.to_lowercase();
    let made_up = lower.starts_with("microsoft ")
        || lower.starts_with("untitled")
        || [".doc", ".docx", ".indd", ".tex", ".dvi", ".pdf", ".ppt", ".pptx", ".xls", ".qxd"]
            .iter()
            .any(|extension| lower.ends_with(extension));
    (!title.is_empty() && !made_up).then_some(title)
}

/// Gathers the lines of one page.
#[derive(Default)]
struct Page {
    lines: Vec<Line>,
    /// Top of the page, from which `y` is measured downwards.
    top: f64,
    /// The next character starts a run whose place counts; within a run characters follow each other.
    starts_run: bool,
}

impl Page {
    fn goes_on(&self, x: f64, y: f64, size: f64) -> bool {
        let Some(line) = self.lines.last() else { return false };
        let moved = (y - line.y).abs();
        // Sub- and superscripts stay in their line; so does what moves right, as in a table row.
        moved <= size.max(line.size) * 0.5 && x >= line.to - size * 3.0
    }
}

impl OutputDev for Page {
    fn begin_page(
        &mut self,
        _number: u32,
        media_box: &MediaBox,
        _art_box: Option<(f64, f64, f64, f64)>,
    ) -> Result<(), OutputError> {
        self.top = media_box.ury;
        Ok(())
    }

    fn end_page(&mut self) -> Result<(), OutputError> {
        Ok(())
    }

    fn output_character(
        &mut self,
        trm: &Transform,
        width: f64,
        _spacing: f64,
        font_size: f64,
        text: &str,
    ) -> Result<(), OutputError> {
        let (x, y) = (trm.m31, self.top - trm.m32);
        let area = (trm.m11 * trm.m22 - trm.m12 * trm.m21).abs();
        let size = font_size.abs() * area.sqrt();
        if self.starts_run && !self.goes_on(x, y, size) {
            self.lines.push(Line { text: String::new(), x, to: x, y, size });
        }
        self.starts_run = false;
        if self.lines.is_empty() {
            self.lines.push(Line { text: String::new(), x, to: x, y, size });
        }
        let Some(line) = self.lines.last_mut() else { return Ok(()) };
        let gap = x - line.to;
        if gap > size * 0.15 && !line.text.ends_with(' ') && !text.starts_with(' ') && !line.text.is_empty() {
            line.text.push(' ');
        }
        line.text.push_str(text);
        line.to = x + width * size;
        line.size = line.size.max(size);
        Ok(())
    }

    fn begin_word(&mut self) -> Result<(), OutputError> {
        self.starts_run = true;
        Ok(())
    }

    fn end_word(&mut self) -> Result<(), OutputError> {
        Ok(())
    }

    fn end_line(&mut self) -> Result<(), OutputError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use millhand_common::model::Origin;

    use crate::ingest::parse::{ParseError, parse};

    const MANUAL: &[u8] = include_bytes!("../../tests/data/manual.pdf");
    const SCAN: &[u8] = include_bytes!("../../tests/data/scan.pdf");

    #[test]
    fn a_pdf_has_paragraphs_headings_and_pages() {
        let made = parse("manual.pdf", None, MANUAL).unwrap();
        insta::assert_snapshot!(made.text, @"
        Pump manual

        The pump moves up to forty litres of water a minute. It must not run dry: the bearings are lubricated by the water, and a dry start damages them at once.

        Cleaning

        Clean the filter after every season. Use a soft brush and no solvents of any kind.

        · Switch the pump off.
        · Open the filter.

        保养与维修

        水泵每年需要保养一次。请联系授权的维修中心，不要自行拆卸电机，否则保修失效。
        ");
        assert_eq!(made.title, "Pump manual 水泵手册");
        let headings: Vec<_> =
            made.headings.iter().map(|h| (h.level, h.span.of(&made.text).unwrap())).collect();
        assert_eq!(headings, [(1, "Pump manual"), (2, "Cleaning"), (2, "保养与维修")]);
        assert_eq!(
            made.origins.iter().map(|part| part.origin).collect::<Vec<_>>(),
            [Origin::Page(1), Origin::Page(2)]
        );
    }

    #[test]
    fn a_scan_and_a_broken_file_say_what_is_wrong() {
        assert_eq!(parse("scan.pdf", None, SCAN), Err(ParseError::EmptyPdf));
        assert!(matches!(
            parse("x.pdf", None, b"%PDF-1.7 and then nothing"),
            Err(ParseError::Unreadable { .. })
        ));
        // Cut short, it is either read as far as it goes or refused; it never takes the process along.
        for length in (0..MANUAL.len()).step_by(97) {
            let _ = parse("cut.pdf", Some("application/pdf"), &MANUAL[..length]);
        }
    }
}
