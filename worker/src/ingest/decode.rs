//! From bytes to text: the charset comes from a byte order mark, the declared content type, the
//! document itself, or the bytes.

use chardetng::{EncodingDetector, Iso2022JpDetection, Utf8Detection};
use encoding_rs::{Encoding, UTF_8};

use super::parse::ParseError;

/// One undecodable or control character in this many is a damaged text; more is not text at all.
const MAX_DAMAGE: usize = 50;

/// The text of `bytes`. `declared` is a charset somebody named; one that is unknown is ignored.
/// A second value says what could not be decoded.
pub(super) fn decode(bytes: &[u8], declared: Option<&str>) -> Result<(String, Option<String>), ParseError> {
    let declared = declared.and_then(|label| Encoding::for_label(label.trim().as_bytes()));
    let (encoding, body) = match Encoding::for_bom(bytes) {
        Some((encoding, mark)) => (encoding, &bytes[mark..]),
        None if is_surely_utf8(bytes) => (UTF_8, bytes),
        None => (declared.unwrap_or_else(|| guess(bytes)), bytes),
    };
    let (mut text, mut damaged) = encoding.decode_without_bom_handling(body);
    if damaged && declared.is_some() && encoding != guess(bytes) {
        // What was declared is wrong: believe the bytes.
        let second = guess(bytes).decode_without_bom_handling(body);
        if !second.1 {
            (text, damaged) = second;
        }
    }
    let lost = if damaged { text.matches('\u{FFFD}').count() } else { 0 };
    let controls = text.chars().filter(|&c| c.is_control() && !c.is_whitespace()).count();
    if (lost + controls) * MAX_DAMAGE > text.chars().count() {
        return Err(ParseError::Undecodable);
    }
    let warning = (lost > 0).then(|| format!("{lost} characters could not be decoded"));
    Ok((text.into_owned(), warning))
}

/// Whether so many bytes above ASCII form UTF-8 that it is no accident, whatever was declared.
fn is_surely_utf8(bytes: &[u8]) -> bool {
    bytes.iter().filter(|byte| !byte.is_ascii()).count() >= 12 && std::str::from_utf8(bytes).is_ok()
}

fn guess(bytes: &[u8]) -> &'static Encoding {
    if std::str::from_utf8(bytes).is_ok() {
        return UTF_8;
    }
    let mut detector = EncodingDetector::new(Iso2022JpDetection::Allow);
    detector.feed(bytes, true);
    detector.guess(None, Utf8Detection::Allow)
}

/// The charset that a content type such as `text/html; charset=GBK` names.
pub(super) fn charset_of(content_type: &str) -> Option<&str> {
    content_type.split(';').skip(1).find_map(|parameter| {
        let (key, value) = parameter.split_once('=')?;
        key.trim().eq_ignore_ascii_case("charset").then(|| value.trim().trim_matches(['"', '\'']))
    })
}

/// The charset that the `meta` elements or the XML declaration at the start of a page name.
pub(super) fn charset_of_page(bytes: &[u8]) -> Option<String> {
    // 1024 bytes is where the HTML standard stops looking; real pages are less careful.
    let head = String::from_utf8_lossy(&bytes[..bytes.len().min(4096)]).to_ascii_lowercase();
    let at =
        ["charset=", "encoding="].into_iter().filter_map(|key| Some(head.find(key)? + key.len())).min()?;
    let label: String = head[at..]
        .trim_start_matches(['"', '\'', ' '])
        .chars()
        .take_while(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | ':'))
        .collect();
    (!label.is_empty()).then_some(label)
}

#[cfg(test)]
mod tests {
    use encoding_rs::{BIG5, EUC_KR, GB18030, SHIFT_JIS, WINDOWS_1252};

    use super::*;

    const CHINESE: &str = "保修期为两年，自购买之日起计算。电池的保修期为六个月，人为损坏除外。";

    #[test]
    fn a_declared_charset_is_used() {
        let (bytes, _, _) = GB18030.encode(CHINESE);
        assert_eq!(decode(&bytes, Some("GBK")).unwrap(), (CHINESE.to_owned(), None));
        assert_eq!(charset_of("text/html; charset=\"GBK\""), Some("GBK"));
        assert_eq!(charset_of("text/plain"), None);
        let page = b"<html><head><META http-equiv=Content-Type content='text/html; charset=gb2312'>";
        assert_eq!(charset_of_page(page).as_deref(), Some("gb2312"));
    }

    #[test]
    fn an_undeclared_charset_is_guessed() {
        let traditional = "保固期為兩年，自購買之日起計算。電池的保固期為六個月，人為損壞除外。";
        let japanese = "保証期間は購入日から二年間です。バッテリーは六か月です。";
        let korean = "보증 기간은 구입일로부터 이 년입니다. 배터리는 육 개월입니다.";
        let latin = "Die Garantie beträgt zwei Jahre für Motoren, ausgenommen Akkus. Größe: 3 m².";
        for (text, encoding) in [
            (CHINESE, GB18030),
            (traditional, BIG5),
            (japanese, SHIFT_JIS),
            (korean, EUC_KR),
            (latin, WINDOWS_1252),
        ] {
            let (bytes, _, _) = encoding.encode(text);
            assert_eq!(decode(&bytes, None).unwrap(), (text.to_owned(), None), "{}", encoding.name());
        }
    }

    #[test]
    fn byte_order_marks_win_and_utf8_declared_as_something_else_is_still_read() {
        let utf16: Vec<u8> = "\u{FEFF}保修 two".encode_utf16().flat_map(u16::to_le_bytes).collect();
        assert_eq!(decode(&utf16, Some("gbk")).unwrap().0, "保修 two");
        assert_eq!(decode("\u{FEFF}hi".as_bytes(), None).unwrap().0, "hi");
        assert_eq!(decode(CHINESE.as_bytes(), Some("us-ascii")).map(|_| ()), Ok(()));
        assert_eq!(decode(CHINESE.as_bytes(), Some("shift_jis")).unwrap().0, CHINESE);
    }

    #[test]
    fn bytes_that_are_no_text_are_refused() {
        let noise: Vec<u8> = (0..4000_u32).map(|n| (n.wrapping_mul(2_654_435_761) >> 24) as u8).collect();
        assert_eq!(decode(&noise, Some("utf-8")), Err(ParseError::Undecodable));
        let (text, warning) =
            decode(&[b"a fine text, ".repeat(20), vec![0xFF]].concat(), Some("utf-8")).unwrap();
        assert!(text.ends_with('\u{FFFD}') || warning.is_none());
    }
}
