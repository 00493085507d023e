//! Room kept so that accepted work can finish on a full disk.

use std::fs::{self, OpenOptions};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// New work is refused while less than this is free.
const LOW_WATER_BYTES: u64 = 24 << 20;
/// Held in a file of its own, against other programs that fill the disk.
const RESERVE_BYTES: u64 = 8 << 20;
/// Free room is asked for this often.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Watches the room on the disk of one folder.
pub(super) struct Reserve {
    file: PathBuf,
    folder: PathBuf,
    looked: Option<Instant>,
    room: bool,
}

impl Reserve {
    /// Sets the reserve aside, as far as there is room for it.
    pub(super) fn open(folder: &Path) -> Self {
        let mut reserve =
            Self { file: folder.join("RESERVE"), folder: folder.to_owned(), looked: None, room: false };
        reserve.look();
        reserve
    }

    /// Whether new work may be taken in.
    pub(super) fn has_room(&mut self) -> bool {
        if self.looked.is_none_or(|at| at.elapsed() >= LOOK_EVERY) {
            self.look();
        }
        self.room
    }

    /// Frees the reserve, because accepted work could not be written.
    pub(super) fn spend(&mut self) {
        self.room = false;
        self.looked = Some(Instant::now());
        if let Err(err) = fs::remove_file(&self.file)
            && err.kind() != io::ErrorKind::NotFound
        {
            tracing::warn!(error = %err, "cannot free the disk reserve");
        }
    }

    fn look(&mut self) {
        self.looked = Some(Instant::now());
        let free = statvfs(&self.folder).map_or(u64::MAX, |stat| stat.f_bavail.saturating_mul(stat.f_frsize));
        let had_room = self.room;
        self.room = free >= LOW_WATER_BYTES;
        if self.room && !self.file.exists() {
            self.room = self.set_aside().is_ok();
        }
        if had_room && !self.room {
            tracing::error!(
                free_bytes = free,
                "disk is nearly full: new jobs are refused, accepted ones go on"
            );
        }
    }

    fn set_aside(&self) -> io::Result<()> {
        let file = OpenOptions::new().create(true).truncate(true).write(true).open(&self.file)?;
        fallocate(&file, FallocateFlags::empty(), 0, RESERVE_BYTES)?;
        Ok(())
    }
}
