//! Plain text: its canonical text is what it says, line for line.

use millhand_common::model::{CanonicalText, Origin, OriginPart, Span};

use super::canonical::clean;
use super::decode::decode;
use super::parse::ParseError;

pub(super) fn parse(bytes: &[u8], charset: Option<&str>) -> Result<CanonicalText, ParseError> {
    let (text, damage) = decode(bytes, charset)?;
    let (text, invisible) = clean(&text);
    let mut made = CanonicalText { origins: paragraphs(&text), text, ..CanonicalText::default() };
    made.warnings.extend(damage);
    if invisible > 0 {
        made.warnings.push(format!("{invisible} invisible characters removed"));
    }
    Ok(made)
}

/// Where each paragraph starts in the file.
fn paragraphs(text: &str) -> Vec<OriginPart> {
    let mut parts: Vec<OriginPart> = Vec::new();
    let (mut at, mut open) = (0, false);
    for (line, number) in text.split_inclusive('\n').zip(1_u32..) {
        let end = at + line.trim_end().len();
        if end == at {
            open = false;
        } else if let (true, Some(part)) = (open, parts.last_mut()) {
            part.span.to = end;
        } else {
            parts.push(OriginPart { span: Span::new(at, end), origin: Origin::Line(number) });
            open = true;
        }
        at += line.len();
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn plain_text_stays_as_it_is_and_knows_its_lines() {
        let made = parse("第一行\r\n第二行\r\n\r\n  indented\tand kept\n".as_bytes(), None).unwrap();
        assert_eq!(made.text, "第一行\n第二行\n\n  indented\tand kept\n");
        let parts: Vec<_> =
            made.origins.iter().map(|part| (part.span.of(&made.text).unwrap(), part.origin)).collect();
        assert_eq!(parts, [("第一行\n第二行", Origin::Line(1)), ("  indented\tand kept", Origin::Line(4))]);
        assert_eq!(made.title, "");
    }
}
