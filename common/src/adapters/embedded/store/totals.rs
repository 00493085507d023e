//! What ever came and was done, by lane: counted on the disk, in the transaction that makes it so, and in
//! memory, where it is read.

use std::collections::BTreeSet;
use std::time::Duration;

use rusqlite::{Connection, params};

use crate::model::Lane;
use crate::ports::Totals;

use super::super::engine::Tx;
use super::record;

/// By [`Lane::ALL`].
pub(super) type OfLanes = [Totals; 2];

pub(super) fn load(db: &Connection) -> rusqlite::Result<OfLanes> {
    let mut all = OfLanes::default();
    let mut statement = db.prepare(
        "SELECT lane, arrived, ended, busy_ms, calls, failed, expired FROM totals JOIN failures USING (lane)",
    )?;
    let mut rows = statement.query([])?;
    while let Some(row) = rows.next()? {
        all[place(record::lane(row.get(0)?))] = Totals {
            arrived: row.get(1)?,
            ended: row.get(2)?,
            busy: Duration::from_millis(row.get(3)?),
            calls: row.get(4)?,
            failed: row.get(5)?,
            expired: row.get(6)?,
        };
    }
    Ok(all)
}

/// The lanes of which nothing is claimed.
pub(super) fn paused(db: &Connection) -> rusqlite::Result<BTreeSet<Lane>> {
    db.prepare("SELECT lane FROM totals WHERE paused = 1")?
        .query_map([], |row| Ok(record::lane(row.get(0)?)))?
        .collect()
}

/// A job could start for the first time.
pub(super) fn arrived(tx: &mut Tx<'_>, lane: Lane) -> rusqlite::Result<()> {
    add(tx, lane, Totals { arrived: 1, ..Totals::default() })
}

pub(super) fn add(tx: &mut Tx<'_>, lane: Lane, more: Totals) -> rusqlite::Result<()> {
    tx.db
        .prepare_cached(
            "UPDATE totals SET arrived = arrived + ?2, ended = ended + ?3, busy_ms = busy_ms + ?4,
                               calls = calls + ?5
             WHERE lane = ?1",
        )?
        .execute(params![
            record::lane_code(lane),
            more.arrived,
            more.ended,
            u64::try_from(more.busy.as_millis()).unwrap_or(u64::MAX),
            more.calls
        ])?;
    if 0 < more.failed + more.expired {
        tx.db
            .prepare_cached(
                "UPDATE failures SET failed = failed + ?2, expired = expired + ?3 WHERE lane = ?1",
            )?
            .execute(params![record::lane_code(lane), more.failed, more.expired])?;
    }
    tx.state.totals[place(lane)] += more;
    Ok(())
}

pub(super) fn place(lane: Lane) -> usize {
    match lane {
        Lane::Interactive => 0,
        Lane::Batch => 1,
    }
}
