//! The data folder: one process at a time, one format.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// Version of the layout of the folder and of everything in it.
pub const FORMAT: u32 = 1;

/// Why a data folder cannot be used. Each says what to do.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("data folder {} is in use by another millhand process: stop it, or choose another --data", .0.display())]
    InUse(PathBuf),
    #[error("data folder {} has format {found}, this millhand knows up to {FORMAT}: use a newer millhand", .folder.display())]
    Newer { folder: PathBuf, found: u32 },
    #[error("{} holds files but is no millhand data folder: choose another --data", .0.display())]
    Foreign(PathBuf),
    #[error(
        "{place} is damaged: {what}; restore a backup of the data folder, or move the folder away to start empty"
    )]
    Damaged { place: String, what: String },
    #[error("cannot use {}", .path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("cannot open {}: {reason}", .path.display())]
    Database { path: PathBuf, reason: String },
}

impl OpenError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// A data folder this process owns: no other process opens it until this is dropped or the process
/// ends, however it ends.
#[derive(Debug)]
pub struct Folder {
    path: PathBuf,
    fresh: bool,
    /// Held for its lock.
    _lock: File,
}

impl Folder {
    /// Takes the folder, and makes it when it is not there.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        fs::create_dir_all(path).map_err(OpenError::io(path))?;
        let format = path.join("FORMAT");
        let lock_path = path.join("LOCK");
        let empty = fs::read_dir(path).map_err(OpenError::io(path))?.next().is_none();
        if !empty && !format.exists() && !lock_path.exists() {
            return Err(OpenError::Foreign(path.to_owned()));
        }
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(OpenError::io(&lock_path))?;
        match lock.try_lock() {
            Ok(()) => {}
            Err(TryLockError::WouldBlock) => return Err(OpenError::InUse(path.to_owned())),
            Err(TryLockError::Error(source)) => return Err(OpenError::Io { path: lock_path, source }),
        }
        let fresh = match fs::read_to_string(&format) {
            Ok(text) => {
                let damaged = || OpenError::Damaged {
                    place: format.display().to_string(),
                    what: "it does not hold a number".to_owned(),
                };
                let found: u32 = text.trim().parse().map_err(|_| damaged())?;
                if found > FORMAT {
                    return Err(OpenError::Newer { folder: path.to_owned(), found });
                }
                false
            }
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                write_durably(&format, format!("{FORMAT}\n").as_bytes()).map_err(OpenError::io(&format))?;
                true
            }
            Err(source) => return Err(OpenError::Io { path: format, source }),
        };
        Ok(Self { path: path.to_owned(), fresh, _lock: lock })
    }

    /// Whether this call made the folder.
    #[must_use]
    pub fn is_fresh(&self) -> bool {
        self.fresh
    }

    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The jobs, their logs and conversations.
    #[must_use]
    pub fn jobs_file(&self) -> PathBuf {
        self.path.join("jobs.db")
    }

    /// Documents and uploads.
    #[must_use]
    pub fn documents(&self) -> PathBuf {
        self.path.join("documents")
    }

    /// The search index; can be built anew from the documents.
    #[must_use]
    pub fn index(&self) -> PathBuf {
        self.path.join("index")
    }
}

/// Makes `target` a data folder's skeleton, for a backup; refuses one that holds files.
pub fn prepare_backup(target: &Path) -> Result<(), OpenError> {
    fs::create_dir_all(target).map_err(OpenError::io(target))?;
    if fs::read_dir(target).map_err(OpenError::io(target))?.next().is_some() {
        return Err(OpenError::Foreign(target.to_owned()));
    }
    Ok(())
}

/// Marks a backup as whole: without this a folder is not opened.
pub fn finish_backup(target: &Path) -> Result<(), OpenError> {
    let format = target.join("FORMAT");
    write_durably(&format, format!("{FORMAT}\n").as_bytes()).map_err(OpenError::io(&format))
}

fn write_durably(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut file = File::create(path)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    // The name itself is durable only with its folder.
    match path.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_second_owner_a_newer_format_and_a_foreign_folder_are_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("data");
        let first = Folder::open(&path).unwrap();
        assert!(first.is_fresh());
        assert!(matches!(Folder::open(&path), Err(OpenError::InUse(_))));
        drop(first);
        assert!(!Folder::open(&path).unwrap().is_fresh());
        fs::write(path.join("FORMAT"), "99\n").unwrap();
        assert!(matches!(Folder::open(&path), Err(OpenError::Newer { found: 99, .. })));
        let foreign = dir.path().join("home");
        fs::create_dir(&foreign).unwrap();
        fs::write(foreign.join("thesis.txt"), "mine").unwrap();
        assert!(matches!(Folder::open(&foreign), Err(OpenError::Foreign(_))));
    }
}
