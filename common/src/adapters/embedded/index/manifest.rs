//! What an index was made with: it serves only the same.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};

use crate::text::analyze::ANALYSER_VERSION;

/// Version of the fields and files of this index.
const FORMAT: u32 = 1;
const FILE: &str = "manifest.json";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Made {
    format: u32,
    analyser: u32,
    embedder: Option<String>,
    /// Of the vectors stored, once there is one.
    dimensions: Option<usize>,
    /// False until everything there was is in.
    complete: bool,
}

/// `manifest.json`, kept in step with the disk.
pub(super) struct Manifest {
    file: PathBuf,
    made: Mutex<Made>,
}

impl Manifest {
    /// Of an index that can be used with this `embedder`; else says why not.
    pub(super) fn read(folder: &Path, embedder: Option<&str>) -> Result<Self, String> {
        let file = folder.join(FILE);
        let text = match fs::read(&file) {
            Ok(text) => text,
            Err(err) if err.kind() == io::ErrorKind::NotFound => {
                return Err("there is no index yet".to_owned());
            }
            Err(err) => return Err(format!("its manifest cannot be read: {err}")),
        };
        let made: Made = serde_json::from_slice(&text).map_err(|_| "its manifest is damaged".to_owned())?;
        let name = |embedder: Option<&str>| embedder.unwrap_or("none").to_owned();
        if made.format != FORMAT {
            return Err(format!("its format is {}, this millhand writes {FORMAT}", made.format));
        }
        if made.analyser != ANALYSER_VERSION {
            return Err(format!("its analyser is {}, this millhand has {ANALYSER_VERSION}", made.analyser));
        }
        if made.embedder.as_deref() != embedder {
            let (was, is) = (name(made.embedder.as_deref()), name(embedder));
            return Err(format!("its embedder is {was}, the configured one {is}"));
        }
        if !made.complete {
            return Err("it was not built to its end".to_owned());
        }
        Ok(Self { file, made: Mutex::new(made) })
    }

    /// Of a new index, not complete yet.
    pub(super) fn create(folder: &Path, embedder: Option<String>) -> io::Result<Self> {
        let made =
            Made { format: FORMAT, analyser: ANALYSER_VERSION, embedder, dimensions: None, complete: false };
        write(&folder.join(FILE), &made)?;
        Ok(Self { file: folder.join(FILE), made: Mutex::new(made) })
    }

    pub(super) fn dimensions(&self) -> Option<usize> {
        self.lock().dimensions
    }

    pub(super) fn is_complete(&self) -> bool {
        self.lock().complete
    }

    /// Durable when it returns.
    pub(super) fn set_dimensions(&self, dimensions: usize) -> io::Result<()> {
        self.change(|made| made.dimensions = Some(dimensions))
    }

    /// Durable when it returns. `embedded` tells whether passages have the vectors they should.
    pub(super) fn set_complete(&self, embedded: bool) -> io::Result<()> {
        self.change(|made| {
            made.complete = true;
            if !embedded {
                made.embedder = None;
            }
        })
    }

    fn change(&self, change: impl FnOnce(&mut Made)) -> io::Result<()> {
        let mut made = self.lock();
        let mut changed = made.clone();
        change(&mut changed);
        write(&self.file, &changed)?;
        *made = changed;
        Ok(())
    }

    fn lock(&self) -> MutexGuard<'_, Made> {
        self.made.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Replaces the file whole: a reader sees the old one or the new one.
fn write(file: &Path, made: &Made) -> io::Result<()> {
    let new = file.with_extension("new");
    let mut out = File::create(&new)?;
    out.write_all(&serde_json::to_vec_pretty(made)?)?;
    out.sync_all()?;
    fs::rename(&new, file)?;
    match file.parent() {
        Some(folder) => File::open(folder)?.sync_all(),
        None => Ok(()),
    }
}
