//! Which files an ingest takes, and what they are called.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};

/// The largest file a server takes, in bytes.
pub(super) const MAX_FILE_BYTES: u64 = 64 * 1024 * 1024;
/// The longest name a server takes, in bytes.
pub(super) const MAX_NAME_BYTES: usize = 512;
/// How much of a file is looked at to see whether it is text.
const SNIFF_BYTES: u64 = 8 * 1024;
const KNOWN: &[&str] = &["docx", "htm", "html", "markdown", "md", "pdf", "text", "txt", "xhtml"];

/// A file to ingest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Found {
    pub(super) path: PathBuf,
    /// Its path relative to the parent folder of the argument it was found under, with `/`.
    pub(super) name: String,
    pub(super) bytes: u64,
}

/// What the arguments stand for.
#[derive(Debug, Default)]
pub(super) struct Walk {
    pub(super) files: Vec<Found>,
    /// Files of folders that were left out, by kind, with their number.
    pub(super) skipped: BTreeMap<String, usize>,
}

/// All files of `paths`, in order of their names. A file that is named itself is always taken; of a
/// folder those that may hold text, without hidden ones.
pub(super) fn walk(paths: &[PathBuf]) -> anyhow::Result<Walk> {
    let mut walk = Walk::default();
    for path in paths {
        let whole = fs::canonicalize(path).with_context(|| format!("cannot read {}", path.display()))?;
        let parent = whole.parent().unwrap_or(&whole).to_owned();
        if whole.is_dir() {
            folder(&whole, &parent, &mut walk)?;
        } else {
            walk.files.push(found(&whole, &parent)?);
        }
    }
    walk.files.sort_by(|a, b| a.name.cmp(&b.name));
    walk.files.dedup();
    match walk.files.windows(2).find(|pair| pair[0].name == pair[1].name) {
        Some([one, other]) => bail!(
            "{} and {} would both be `{}`: ingest them one after the other, into two collections",
            one.path.display(),
            other.path.display(),
            one.name
        ),
        _ => Ok(walk),
    }
}

fn folder(path: &Path, parent: &Path, walk: &mut Walk) -> anyhow::Result<()> {
    let unreadable = || format!("cannot read {}", path.display());
    for entry in fs::read_dir(path).with_context(unreadable)? {
        let entry = entry.with_context(unreadable)?;
        let path = entry.path();
        let kind = entry.file_type().with_context(unreadable)?;
        if entry.file_name().to_string_lossy().starts_with('.') {
            continue;
        }
        if kind.is_dir() {
            folder(&path, parent, walk)?;
        } else if path.is_file() {
            // Links to files are followed, links to folders are not: they may lead in circles.
            match left_out(&path) {
                Some(why) => *walk.skipped.entry(why).or_default() += 1,
                None => walk.files.push(found(&path, parent)?),
            }
        }
    }
    Ok(())
}

fn found(path: &Path, parent: &Path) -> anyhow::Result<Found> {
    let bytes = fs::metadata(path).with_context(|| format!("cannot read {}", path.display()))?.len();
    let relative = path.strip_prefix(parent).unwrap_or(path);
    let parts: Vec<_> = relative.components().map(|part| part.as_os_str().to_string_lossy()).collect();
    // What cannot stand in a name of the contract, or in the header of an upload.
    let name = parts.join("/").replace(|c: char| c.is_control() || c == '\\', "_");
    Ok(Found { path: path.to_owned(), name, bytes })
}

/// Why a file of a folder is not taken; `None` when it is.
fn left_out(path: &Path) -> Option<String> {
    let extension = path.extension().map(|extension| extension.to_string_lossy().to_lowercase());
    let mut start = Vec::new();
    let read = File::open(path).and_then(|file| file.take(SNIFF_BYTES).read_to_end(&mut start));
    if read.is_ok() && start.is_empty() {
        return Some("empty".to_owned());
    }
    if extension.as_deref().is_some_and(|extension| KNOWN.contains(&extension)) || is_text(&start) {
        return None;
    }
    Some(extension.map_or_else(|| "no text".to_owned(), |extension| format!(".{extension}")))
}

fn is_text(start: &[u8]) -> bool {
    let whole = match std::str::from_utf8(start) {
        Ok(_) => true,
        // A character may be cut by the end of what was read.
        Err(err) => err.error_len().is_none(),
    };
    whole && !start.contains(&0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_folder_gives_its_texts_by_names_that_start_with_it() {
        let dir = tempfile::tempdir().unwrap();
        let docs = dir.path().join("docs");
        fs::create_dir_all(docs.join("手册")).unwrap();
        fs::create_dir_all(docs.join(".git")).unwrap();
        for (name, bytes) in [
            ("手册/水车.md", "# 水车".as_bytes()),
            ("README", b"plain words"),
            ("paper.pdf", b"%PDF-1.7 \x00"),
            ("logo.png", b"\x89PNG\r\n\x1a\n\x00"),
            ("empty.md", b""),
            (".hidden.md", b"x"),
            (".git/config", b"x"),
        ] {
            fs::write(docs.join(name), bytes).unwrap();
        }
        let names = |walk: &Walk| walk.files.iter().map(|file| file.name.clone()).collect::<Vec<_>>();
        let found = walk(&[docs.clone(), docs.join("paper.pdf")]).unwrap();
        assert_eq!(names(&found), ["docs/README", "docs/paper.pdf", "docs/手册/水车.md", "paper.pdf"]);
        assert_eq!(found.skipped.into_iter().collect::<Vec<_>>(), [(".png".into(), 1), ("empty".into(), 1)]);
        // Named by itself, anything is sent: the server says what it thinks of it.
        assert_eq!(names(&walk(&[docs.join("logo.png")]).unwrap()), ["logo.png"]);
        let twin = dir.path().join("twin/docs");
        fs::create_dir_all(&twin).unwrap();
        fs::write(twin.join("README"), "other words").unwrap();
        let err = walk(&[docs.clone(), twin]).unwrap_err();
        assert!(err.to_string().contains("would both be `docs/README`"), "{err}");
        let err = walk(&[docs.join("missing")]).unwrap_err();
        assert!(err.to_string().contains("missing"), "{err}");
    }
}
