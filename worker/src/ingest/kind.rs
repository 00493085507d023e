//! What kind of document some bytes are.

use super::parse::ParseError;

pub(super) const SUPPORTED: &str = "plain text, Markdown, HTML, PDF and DOCX";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Plain,
    Markdown,
    Html,
    Pdf,
    Docx,
}

impl Kind {
    /// From the declared content type, else the first bytes, else the extension of the name.
    pub(super) fn detect(name: &str, content_type: Option<&str>, bytes: &[u8]) -> Result<Self, ParseError> {
        let declared =
            content_type.map(|text| text.split(';').next().unwrap_or("").trim().to_ascii_lowercase());
        match declared.as_deref() {
            // Senders that do not know say one of these.
            None | Some("" | "application/octet-stream" | "binary/octet-stream" | "text/plain") => {}
            Some(declared) => return Self::of_content_type(declared),
        }
        if let Some(kind) = Self::of_magic(bytes)? {
            return Ok(kind);
        }
        let extension =
            name.rsplit(['/', '\\']).next().and_then(|file| file.rsplit_once('.')).map(|(_, ext)| ext);
        match extension.map(str::to_ascii_lowercase).as_deref() {
            Some("md" | "markdown" | "mdx" | "mkd") => Ok(Self::Markdown),
            Some("html" | "htm" | "xhtml") => Ok(Self::Html),
            Some("pdf") => Ok(Self::Pdf),
            Some("docx") => Ok(Self::Docx),
            // Whatever else it is called, text that can be decoded is text.
            _ => Ok(Self::Plain),
        }
    }

    pub(super) fn content_type(self) -> &'static str {
        match self {
            Self::Plain => "text/plain",
            Self::Markdown => "text/markdown",
            Self::Html => "text/html",
            Self::Pdf => "application/pdf",
            Self::Docx => "application/vnd.openxmlformats-officedocument.wordprocessingml.document",
        }
    }

    fn of_content_type(declared: &str) -> Result<Self, ParseError> {
        match declared {
            "text/markdown" | "text/x-markdown" => Ok(Self::Markdown),
            "text/html" | "application/xhtml+xml" => Ok(Self::Html),
            "application/pdf" | "application/x-pdf" => Ok(Self::Pdf),
            "application/vnd.openxmlformats-officedocument.wordprocessingml.document" => Ok(Self::Docx),
            "text/rtf" => Err(ParseError::Unsupported("RTF".to_owned())),
            "application/json"
            | "application/x-ndjson"
            | "application/xml"
            | "application/yaml"
            | "application/x-yaml"
            | "application/toml"
            | "application/sql"
            | "application/javascript" => Ok(Self::Plain),
            text if text.starts_with("text/") => Ok(Self::Plain),
            other => Err(ParseError::Unsupported(other.to_owned())),
        }
    }

    /// `None` when the bytes have no telling start.
    fn of_magic(bytes: &[u8]) -> Result<Option<Self>, ParseError> {
        const FOREIGN: &[(&[u8], &str)] = &[
            (b"\xD0\xCF\x11\xE0", "an old Office file (.doc, .xls, .ppt)"),
            (b"{\\rtf", "RTF"),
            (b"\x89PNG", "a PNG image"),
            (b"\xFF\xD8\xFF", "a JPEG image"),
            (b"GIF8", "a GIF image"),
            (b"II*\0", "a TIFF image"),
            (b"MM\0*", "a TIFF image"),
            (b"\x7FELF", "a program"),
            (b"\x1F\x8B", "a gzip archive"),
            (b"7z\xBC\xAF", "a 7z archive"),
            (b"Rar!", "a RAR archive"),
            (b"OggS", "a sound or video file"),
            (b"ID3", "a sound file"),
            (b"RIFF", "a sound or video file"),
        ];
        let head = &bytes[..bytes.len().min(1024)];
        // Readers of PDF take up to 1024 bytes of something else before the header.
        if head.windows(5).any(|window| window == b"%PDF-") {
            return Ok(Some(Self::Pdf));
        }
        if head.starts_with(b"PK\x03\x04") {
            return if contains(bytes, b"word/document.xml") {
                Ok(Some(Self::Docx))
            } else if contains(bytes, b"xl/workbook.xml") {
                Err(ParseError::Unsupported("an Excel workbook".to_owned()))
            } else if contains(bytes, b"ppt/presentation.xml") {
                Err(ParseError::Unsupported("a PowerPoint presentation".to_owned()))
            } else {
                Err(ParseError::Unsupported("a zip archive".to_owned()))
            };
        }
        if let Some((_, what)) = FOREIGN.iter().find(|(magic, _)| head.starts_with(magic)) {
            return Err(ParseError::Unsupported((*what).to_owned()));
        }
        let start = head.strip_prefix(b"\xEF\xBB\xBF").unwrap_or(head).trim_ascii_start();
        let start = start[..start.len().min(14)].to_ascii_lowercase();
        let html = start.starts_with(b"<!doctype html") || start.starts_with(b"<html");
        Ok(html.then_some(Self::Html))
    }
}

/// Names of a zip's members stand uncompressed in it.
fn contains(bytes: &[u8], name: &[u8]) -> bool {
    bytes.windows(name.len()).any(|window| window == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_declared_type_wins_over_bytes_and_bytes_over_names() {
        let pdf = b"%PDF-1.7\n";
        assert_eq!(Kind::detect("a.md", Some("text/html; charset=gbk"), pdf), Ok(Kind::Html));
        assert_eq!(Kind::detect("a.md", Some("application/octet-stream"), pdf), Ok(Kind::Pdf));
        assert_eq!(Kind::detect("手册.md", None, "# 手册".as_bytes()), Ok(Kind::Markdown));
        assert_eq!(Kind::detect("a.md", Some("text/plain"), b"# x"), Ok(Kind::Markdown));
        assert_eq!(Kind::detect("notes", None, b"\xEF\xBB\xBF\n <!DOCTYPE html><p>"), Ok(Kind::Html));
        assert_eq!(Kind::detect("main.rs", None, b"fn main() {}"), Ok(Kind::Plain));
    }

    #[test]
    fn what_is_not_supported_says_what_is() {
        for (name, declared, bytes) in [
            ("a.png", None, &b"\x89PNG\r\n"[..]),
            ("a.txt", None, b"PK\x03\x04 xl/workbook.xml"),
            ("a", Some("video/mp4"), b""),
            ("a.rtf", None, b"{\\rtf1 hi}"),
        ] {
            let error = Kind::detect(name, declared, bytes).unwrap_err().to_string();
            assert!(error.ends_with("supported are plain text, Markdown, HTML, PDF and DOCX"), "{error}");
        }
    }
}
