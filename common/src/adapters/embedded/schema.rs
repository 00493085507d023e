//! Tables of `jobs.db`.

use rusqlite::Connection;

/// One row of `jobs` is a job's record; `version` is its order of accept. Rows of `events` are the
/// logs, keyed by that number. `gone` remembers ids that are no longer kept, so that a reader hears
/// 410 and not 404. `spending` outlives the jobs; `counted` is what of it counts against budgets;
/// so does `totals`, whose numbers only grow. Every JSON text is guarded by a CRC: SQLite itself does not notice a flipped bit.
pub(super) const TABLES: &str = "
CREATE TABLE IF NOT EXISTS jobs (
    version INTEGER PRIMARY KEY,
    id BLOB NOT NULL UNIQUE,
    tenant TEXT NOT NULL,
    conversation BLOB,
    idem TEXT,
    digest BLOB,
    lane INTEGER NOT NULL,
    status INTEGER NOT NULL,
    attempt INTEGER NOT NULL DEFAULT 0,
    deaths INTEGER NOT NULL DEFAULT 0,
    epoch INTEGER NOT NULL DEFAULT 0,
    op BLOB,
    not_before INTEGER,
    created_at INTEGER NOT NULL,
    started_at INTEGER,
    finished_at INTEGER,
    expires_at INTEGER NOT NULL,
    cancel_requested INTEGER NOT NULL DEFAULT 0,
    wait TEXT,
    spec TEXT NOT NULL,
    spec_crc INTEGER NOT NULL,
    result TEXT,
    result_crc INTEGER,
    last_seq INTEGER,
    trimmed INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS jobs_of_tenant ON jobs (tenant, version);
CREATE INDEX IF NOT EXISTS jobs_of_conversation ON jobs (conversation, version) WHERE conversation IS NOT NULL;
CREATE UNIQUE INDEX IF NOT EXISTS jobs_by_key ON jobs (tenant, idem) WHERE idem IS NOT NULL;
CREATE INDEX IF NOT EXISTS jobs_by_end ON jobs (trimmed, finished_at);
DROP INDEX IF EXISTS jobs_live;
DROP INDEX IF EXISTS jobs_finished;
DROP INDEX IF EXISTS logs_finished;
CREATE TABLE IF NOT EXISTS events (
    job INTEGER NOT NULL,
    seq INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    at INTEGER NOT NULL,
    kind TEXT NOT NULL,
    data TEXT NOT NULL,
    crc INTEGER NOT NULL,
    PRIMARY KEY (job, seq)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS conversations (
    id BLOB PRIMARY KEY,
    tenant TEXT NOT NULL,
    created_at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS conversations_of_tenant ON conversations (tenant, id);
CREATE TABLE IF NOT EXISTS gone (
    id BLOB PRIMARY KEY,
    tenant TEXT NOT NULL,
    at INTEGER NOT NULL
) WITHOUT ROWID;
CREATE INDEX IF NOT EXISTS gone_since ON gone (at);
CREATE TABLE IF NOT EXISTS dead_letters (
    job INTEGER PRIMARY KEY,
    buried_at INTEGER NOT NULL,
    replayed_as BLOB
);
CREATE TABLE IF NOT EXISTS cited (
    document BLOB NOT NULL,
    job INTEGER NOT NULL,
    PRIMARY KEY (document, job)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS spending (
    day TEXT NOT NULL,
    tenant TEXT NOT NULL,
    model TEXT NOT NULL,
    calls INTEGER NOT NULL,
    input_tokens INTEGER NOT NULL,
    output_tokens INTEGER NOT NULL,
    nano_usd INTEGER NOT NULL,
    counted INTEGER NOT NULL,
    PRIMARY KEY (day, tenant, model)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS keys (id TEXT PRIMARY KEY, record TEXT NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS secrets (name TEXT PRIMARY KEY, value BLOB NOT NULL) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS totals (
    lane INTEGER PRIMARY KEY,
    arrived INTEGER NOT NULL DEFAULT 0,
    ended INTEGER NOT NULL DEFAULT 0,
    busy_ms INTEGER NOT NULL DEFAULT 0,
    calls INTEGER NOT NULL DEFAULT 0,
    paused INTEGER NOT NULL DEFAULT 0
);
INSERT OR IGNORE INTO totals (lane) VALUES (0), (1);
CREATE TABLE IF NOT EXISTS failures (
    lane INTEGER PRIMARY KEY,
    failed INTEGER NOT NULL DEFAULT 0,
    expired INTEGER NOT NULL DEFAULT 0
);
INSERT OR IGNORE INTO failures (lane) VALUES (0), (1);
CREATE TABLE IF NOT EXISTS meta (key TEXT PRIMARY KEY, value INTEGER NOT NULL) WITHOUT ROWID;
";

/// Finds the live jobs by `jobs_by_end`.
pub(super) const LIVE: &str = "jobs.trimmed = 0 AND jobs.finished_at IS NULL";

/// Set before the first table is made, and again on each open where SQLite asks for it. A transaction writes
/// whole pages, of which it changes little: small ones are a fifth less to write at full load than SQLite's own 4 KiB.
pub(super) const PRAGMAS: &str = "
PRAGMA page_size = 2048;
PRAGMA auto_vacuum = INCREMENTAL;
PRAGMA journal_mode = WAL;
PRAGMA synchronous = FULL;
PRAGMA wal_autocheckpoint = 0;
PRAGMA temp_store = MEMORY;
PRAGMA cache_size = -16384;
";

/// Takes over what earlier versions counted in a table `usage`: tokens without prices.
pub(super) fn migrate(db: &Connection) -> rusqlite::Result<()> {
    let has_usage =
        db.prepare("SELECT 1 FROM sqlite_schema WHERE type = 'table' AND name = 'usage'")?.exists([])?;
    if !has_usage {
        return Ok(());
    }
    db.execute_batch(
        "BEGIN IMMEDIATE;
         INSERT OR IGNORE INTO spending (day, tenant, model, calls, input_tokens, output_tokens, nano_usd, counted)
             SELECT day, tenant, model, calls, input_tokens, output_tokens, 0, 0 FROM usage;
         DROP TABLE usage;
         COMMIT;",
    )
}
