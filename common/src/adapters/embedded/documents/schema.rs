//! Tables of `documents.db`, and how it is opened.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::adapters::embedded::folder::{FORMAT, OpenError};

/// `names` is the fence: one row per name ever written, with the newest writer and the current
/// document, if any. A collection's `version` is the newest deletion of it. SQLite does not notice a
/// flipped bit, so each blob carries a CRC.
const TABLES: &str = "
CREATE TABLE IF NOT EXISTS uploads (
    seq INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    id BLOB NOT NULL,
    at INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    bytes BLOB NOT NULL,
    UNIQUE (tenant, id)
);
CREATE INDEX IF NOT EXISTS uploads_at ON uploads (at);
CREATE TABLE IF NOT EXISTS collections (
    tenant TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    deleted INTEGER NOT NULL,
    PRIMARY KEY (tenant, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS names (
    tenant TEXT NOT NULL,
    collection TEXT NOT NULL,
    name TEXT NOT NULL,
    version INTEGER NOT NULL,
    epoch INTEGER NOT NULL,
    current BLOB,
    PRIMARY KEY (tenant, collection, name)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS documents (
    seq INTEGER PRIMARY KEY,
    tenant TEXT NOT NULL,
    id BLOB NOT NULL,
    collection TEXT NOT NULL,
    state INTEGER NOT NULL,
    replaced INTEGER,
    meta TEXT,
    text BLOB,
    passages BLOB,
    crc INTEGER NOT NULL,
    UNIQUE (tenant, id)
);
CREATE INDEX IF NOT EXISTS documents_current ON documents (id) WHERE state = 0;
CREATE INDEX IF NOT EXISTS documents_replaced ON documents (replaced) WHERE state = 1;
";

/// `documents.state`.
pub(super) const CURRENT: u8 = 0;
/// A newer version of the name is stored; the text is kept for those who cite it.
pub(super) const REPLACED: u8 = 1;
/// The id is remembered, so that a reader hears "deleted" and not "unknown".
pub(super) const DELETED: u8 = 2;

const FILE: &str = "documents.db";

/// The connection that writes.
pub(super) fn open(folder: &Path) -> Result<Connection, OpenError> {
    fs::create_dir_all(folder).map_err(OpenError::io(folder))?;
    let file = folder.join(FILE);
    let db = Connection::open(&file).map_err(database(&file))?;
    let set_up = || {
        db.busy_timeout(Duration::from_secs(10))?;
        // Takes effect only before the first table is made.
        db.execute_batch("PRAGMA auto_vacuum = INCREMENTAL")?;
        db.execute_batch("PRAGMA journal_mode = WAL")?;
        db.execute_batch("PRAGMA synchronous = FULL; PRAGMA journal_size_limit = 8388608")?;
        db.query_row("PRAGMA user_version", (), |row| row.get::<_, u32>(0))
    };
    match set_up().map_err(database(&file))? {
        0 => {
            let make = format!("BEGIN IMMEDIATE; {TABLES} PRAGMA user_version = {FORMAT}; COMMIT");
            db.execute_batch(&make).map_err(database(&file))?;
        }
        FORMAT => {}
        found => return Err(OpenError::Newer { folder: folder.to_owned(), found }),
    }
    Ok(db)
}

/// A connection that only reads.
pub(super) fn open_reader(folder: &Path) -> Result<Connection, OpenError> {
    let file = folder.join(FILE);
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let open = || {
        let db = Connection::open_with_flags(&file, flags)?;
        db.busy_timeout(Duration::from_secs(10))?;
        Ok(db)
    };
    open().map_err(database(&file))
}

fn database(file: &Path) -> impl Fn(rusqlite::Error) -> OpenError {
    let path: PathBuf = file.to_owned();
    move |err| match err.sqlite_error_code() {
        Some(rusqlite::ErrorCode::DatabaseCorrupt | rusqlite::ErrorCode::NotADatabase) => {
            OpenError::Damaged { place: path.display().to_string(), what: err.to_string() }
        }
        _ => OpenError::Database { path: path.clone(), reason: err.to_string() },
    }
}
