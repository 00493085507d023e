//! Looks at a write-ahead log before SQLite does.
//!
//! SQLite drops everything after the first frame that does not check out, silently. After a crash
//! that is right for the last transaction, which was not acknowledged; anywhere else it would lose
//! acknowledged work. Each commit is synced before the next begins, so at most the last transaction
//! can be torn: frames of a later transaction behind a bad frame prove damage.
//!
//! Format: <https://www.sqlite.org/fileformat2.html#the_write_ahead_log>.

use std::fs::File;
use std::io::{self, BufReader, Read};
use std::path::Path;

const HEADER: usize = 32;
const FRAME_HEADER: usize = 24;

/// What a look found.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wal {
    /// Whole, or nothing there.
    Sound,
    /// The last transaction is cut or damaged; it was never acknowledged.
    TornTail { offset: u64 },
    /// Acknowledged transactions lie behind damage at this byte.
    Damaged { offset: u64 },
}

/// Checks every frame of the log at `path`.
pub(super) fn check(path: &Path) -> io::Result<Wal> {
    let file = match File::open(path) {
        Ok(file) => file,
        Err(err) if err.kind() == io::ErrorKind::NotFound => return Ok(Wal::Sound),
        Err(err) => return Err(err),
    };
    let mut reader = BufReader::with_capacity(1 << 16, file);
    let mut header = [0; HEADER];
    if !fill(&mut reader, &mut header)? || header.iter().all(|byte| *byte == 0) {
        return Ok(Wal::Sound);
    }
    let magic = word(&header, 0);
    let page_size = word(&header, 8) as usize;
    let big_endian = magic & 1 == 1;
    let mut sums = checksum(big_endian, (0, 0), &header[..24]);
    let plausible = magic & !1 == 0x377f_0682 && (512..=65536).contains(&page_size);
    if !plausible || sums != (word(&header, 24), word(&header, 28)) {
        return Ok(Wal::Damaged { offset: 0 });
    }
    let salts = (word(&header, 16), word(&header, 20));

    let mut frame = vec![0; FRAME_HEADER + page_size];
    let mut offset = HEADER as u64;
    let mut bad_at = None;
    let mut commit_behind = false;
    while fill(&mut reader, &mut frame)? {
        let ours = (word(&frame, 8), word(&frame, 12)) == salts;
        if bad_at.is_none() {
            let next = checksum(big_endian, checksum(big_endian, sums, &frame[..8]), &frame[FRAME_HEADER..]);
            if ours && next == (word(&frame, 16), word(&frame, 20)) {
                sums = next;
            } else {
                bad_at = Some(offset);
            }
        } else if commit_behind && ours {
            return Ok(Wal::Damaged { offset: bad_at.unwrap_or(offset) });
        }
        let commits = word(&frame, 4) != 0;
        commit_behind |= bad_at.is_some() && ours && commits;
        offset += frame.len() as u64;
    }
    Ok(bad_at.map_or(Wal::Sound, |offset| Wal::TornTail { offset }))
}

/// False when the file ends before `buffer` is full.
fn fill(reader: &mut impl Read, buffer: &mut [u8]) -> io::Result<bool> {
    match reader.read_exact(buffer) {
        Ok(()) => Ok(true),
        Err(err) if err.kind() == io::ErrorKind::UnexpectedEof => Ok(false),
        Err(err) => Err(err),
    }
}

fn word(bytes: &[u8], at: usize) -> u32 {
    bytes[at..at + 4].iter().fold(0, |word, byte| word << 8 | u32::from(*byte))
}

fn checksum(big_endian: bool, (mut s0, mut s1): (u32, u32), bytes: &[u8]) -> (u32, u32) {
    let read = |at: usize| if big_endian { word(bytes, at) } else { word(bytes, at).swap_bytes() };
    for at in (0..bytes.len()).step_by(8) {
        s0 = s0.wrapping_add(read(at)).wrapping_add(s1);
        s1 = s1.wrapping_add(read(at + 4)).wrapping_add(s0);
    }
    (s0, s1)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use rusqlite::Connection;

    use super::*;

    /// A log of ten transactions, with its database.
    fn log() -> (tempfile::TempDir, std::path::PathBuf) {
        let dir = tempfile::tempdir().unwrap();
        let db = Connection::open(dir.path().join("x.db")).unwrap();
        db.execute_batch("PRAGMA journal_mode=WAL; PRAGMA wal_autocheckpoint=0; CREATE TABLE t(x)").unwrap();
        for n in 0..10 {
            db.execute("INSERT INTO t VALUES (?1)", [format!("{n}").repeat(3000)]).unwrap();
        }
        let copy = dir.path().join("copy-wal");
        fs::copy(dir.path().join("x.db-wal"), &copy).unwrap();
        (dir, copy)
    }

    #[test]
    fn a_torn_tail_is_told_from_damage_in_the_middle() {
        let (_dir, path) = log();
        assert_eq!(check(&path).unwrap(), Wal::Sound);
        let whole = fs::read(&path).unwrap();

        fs::write(&path, &whole[..whole.len() - 100]).unwrap();
        assert_eq!(check(&path).unwrap(), Wal::Sound, "a cut frame is no frame");
        let mut tail = whole.clone();
        let last = tail.len() - 50;
        tail[last] ^= 1;
        fs::write(&path, &tail).unwrap();
        assert!(matches!(check(&path).unwrap(), Wal::TornTail { .. }));

        for at in [40, 60, whole.len() / 2] {
            let mut middle = whole.clone();
            middle[at] ^= 1;
            fs::write(&path, &middle).unwrap();
            assert!(matches!(check(&path).unwrap(), Wal::Damaged { .. }), "byte {at}");
        }
        assert_eq!(check(Path::new("/nonexistent/wal")).unwrap(), Wal::Sound);
    }
}
