//! DOCX: paragraphs, headings, lists, tables and notes of a Word document.

use std::io::{Cursor, Read};

use millhand_common::model::CanonicalText;
use quick_xml::events::{BytesStart, Event};
use quick_xml::{Reader, XmlVersion};
use zip::ZipArchive;

use super::docx_body::Body;
use super::docx_styles::Styles;
use super::parse::ParseError;

/// Most that one member of the archive may unpack to. Word's own text of a thousand pages has a tenth.
const MAX_MEMBER_MIB: u64 = 96;

type Archive<'a> = ZipArchive<Cursor<&'a [u8]>>;

pub(super) fn parse(bytes: &[u8]) -> Result<CanonicalText, ParseError> {
    let mut archive = ZipArchive::new(Cursor::new(bytes)).map_err(unreadable)?;
    let styles = Styles::read(&member(&mut archive, "word/styles.xml")?.unwrap_or_default());
    let Some(document) = member(&mut archive, "word/document.xml")? else {
        return Err(ParseError::unreadable("DOCX", "it has no word/document.xml"));
    };
    let mut body = Body::new(&styles);
    body.read(&document).map_err(unreadable)?;
    drop(document);
    for notes in ["word/footnotes.xml", "word/endnotes.xml"] {
        if let Some(notes) = member(&mut archive, notes)? {
            // Notes that cannot be read are not worth the document.
            let _ = body.read(&notes);
        }
    }
    let mut builder = body.finish();
    if let Some(title) = member(&mut archive, "docProps/core.xml")?.as_deref().and_then(core_title) {
        builder.title(&title);
    }
    Ok(builder.finish())
}

fn unreadable(err: impl ToString) -> ParseError {
    ParseError::unreadable("DOCX", err)
}

/// The text of a member; `None` when there is none of that name.
fn member(archive: &mut Archive<'_>, name: &str) -> Result<Option<String>, ParseError> {
    let Some(index) = archive.index_for_name(name) else { return Ok(None) };
    let file = archive.by_index(index).map_err(unreadable)?;
    let mut bytes = Vec::new();
    // What the archive says of its sizes is not believed.
    file.take((MAX_MEMBER_MIB << 20) + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    if bytes.len() as u64 > MAX_MEMBER_MIB << 20 {
        return Err(ParseError::Bomb(MAX_MEMBER_MIB));
    }
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Some(text)),
        Err(err) => super::decode::decode(err.as_bytes(), None).map(|(text, _)| Some(text)),
    }
}

/// `dc:title` of the document's properties.
fn core_title(xml: &str) -> Option<String> {
    let mut reader = Reader::from_str(xml);
    let mut title: Option<String> = None;
    loop {
        match reader.read_event().ok()? {
            Event::Start(start) if local(&start) == "title" => title = Some(String::new()),
            Event::Text(text) => {
                if let Some(title) = &mut title {
                    title.push_str(&text.xml10_content());
                }
            }
            Event::GeneralRef(reference) => {
                if let Some(title) = &mut title {
                    title.push_str(&resolve(&reference));
                }
            }
            Event::End(end) if end.local_name().into_inner() == "title" => {
                return title.map(|title| title.trim().to_owned()).filter(|title| !title.is_empty());
            }
            Event::Eof => return None,
            _ => {}
        }
    }
}

/// Name of an element without its namespace prefix.
pub(super) fn local<'a>(start: &'a BytesStart<'_>) -> &'a str {
    start.local_name().into_inner()
}

/// Value of the attribute whose name, without prefix, is `name`.
pub(super) fn attribute(start: &BytesStart<'_>, name: &str) -> Option<String> {
    start.attributes().flatten().find(|attribute| attribute.key.local_name().into_inner() == name).and_then(
        |attribute| attribute.normalized_value(XmlVersion::Implicit1_0).ok().map(|value| value.into_owned()),
    )
}

/// What an entity stands for; nothing for one that XML does not define itself.
pub(super) fn resolve(reference: &quick_xml::events::BytesRef<'_>) -> String {
    if let Ok(Some(c)) = reference.resolve_char_ref() {
        return c.to_string();
    }
    match &**reference {
        "amp" => "&",
        "lt" => "<",
        "gt" => ">",
        "quot" => "\"",
        "apos" => "'",
        _ => "",
    }
    .to_owned()
}

#[cfg(test)]
mod tests {
    use crate::ingest::parse::{ParseError, parse};

    const WARRANTY: &[u8] = include_bytes!("../../tests/data/warranty.docx");
    const BOMB: &[u8] = include_bytes!("../../tests/data/bomb.docx");

    #[test]
    fn a_word_document_has_headings_lists_tables_and_notes() {
        let made = parse("warranty.docx", None, WARRANTY).unwrap();
        insta::assert_snapshot!(made.text, @"
        保修手册 2026

        The warranty of the motor is five years & covers parts.

        Batteries: six months.[2]

        如何送修

        - 填写维修单
          - 附上购买凭证
        - 寄回本公司

        部件 | 保修期
        电机 | 五年
        电池 | 六个月

        Costs

        Shipping is free.

        [2] Counted from the day of purchase.
        ");
        assert_eq!(made.title, "保修 & Service");
        let headings: Vec<_> =
            made.headings.iter().map(|h| (h.level, h.span.of(&made.text).unwrap())).collect();
        assert_eq!(headings, [(1, "保修手册 2026"), (2, "如何送修"), (2, "Costs")]);
        assert_eq!(made.warnings, ["hidden text removed"]);
    }

    #[test]
    fn a_bomb_is_not_unpacked() {
        assert_eq!(parse("bomb.docx", None, BOMB), Err(ParseError::Bomb(96)));
    }

    #[test]
    fn a_broken_archive_is_refused() {
        let error = parse("cut.docx", None, &WARRANTY[..WARRANTY.len() / 2]).unwrap_err();
        assert!(matches!(error, ParseError::Unreadable { .. } | ParseError::Unsupported(_)), "{error}");
    }
}
