//! What time brings: lost owners, deadlines, disobeyed cancels, retention.

use std::time::Duration;

use rusqlite::params;

use crate::model::{JobId, Status, Terminal, WorkerId};
use crate::ports::SweepReport;
use crate::telemetry;

use super::super::engine::{Fault, Tx};
use super::claim::challenge_one;
use super::close::{end, end_at_deadline};
use super::remove;

/// How long a live owner has to close its job at the deadline itself.
const OWNER_GRACE: Duration = Duration::from_millis(500);
/// Ids of what was removed answer 410 instead of 404 this many times as long as jobs are kept.
const REMEMBER_GONE: u32 = 4;
/// Jobs removed in one sweep, with their log and without: more would make other operations wait.
const REMOVE_AT_ONCE: usize = 200;
/// Pages given back to the file system in one sweep.
const VACUUM_PAGES: u32 = 512;

pub(super) fn sweep(
    tx: &mut Tx<'_>,
    keep_jobs: Duration,
    keep_events: Duration,
) -> Result<(SweepReport, Vec<WorkerId>), Fault> {
    let mut report = SweepReport::default();
    let absent = tx.state.absent(tx.now);
    tx.state.forget_served(tx.now);
    owners(tx, &absent, &mut report)?;
    deadlines(tx, &mut report)?;
    retention(tx, keep_jobs, keep_events, &mut report)?;
    let depths = tx.state.depth(tx.now, Duration::ZERO);
    tx.after.count(move || {
        for depth in depths {
            let lane = depth.lane.as_str();
            metrics::gauge!(telemetry::QUEUE_DEPTH, "lane" => lane).set(depth.ready as f64);
            metrics::gauge!(telemetry::QUEUE_OLDEST_AGE, "lane" => lane)
                .set(depth.oldest_ready_ms as f64 / 1000.0);
        }
    });
    Ok((report, absent))
}

fn owners(tx: &mut Tx<'_>, absent: &[WorkerId], report: &mut SweepReport) -> Result<(), Fault> {
    let now = tx.now;
    let (mut lost, mut to_challenge, mut disobeyed) = (Vec::new(), Vec::new(), Vec::new());
    for (id, _, held) in tx.state.held() {
        if held.obey_by.is_some_and(|by| by <= now) {
            disobeyed.push(id);
        } else if !held.is_live(now) {
            lost.push(id);
        } else if held.owner.is_some_and(|owner| absent.contains(&owner)) {
            to_challenge.push(id);
        }
    }
    for id in disobeyed {
        end(tx, id, Vec::new(), Terminal::bare(Status::Cancelled))?;
        report.cancelled += 1;
    }
    for id in to_challenge {
        challenge_one(tx, id);
        report.challenged += 1;
    }
    for id in lost {
        if tx.state.is_idle(id) {
            tx.state.make_due(id, now);
            report.taken_over += 1;
        }
    }
    Ok(())
}

fn deadlines(tx: &mut Tx<'_>, report: &mut SweepReport) -> Result<(), Fault> {
    let now = tx.now;
    let past: Vec<JobId> = tx.state.past_deadline(now);
    for id in past {
        let owned = tx.state.get(id).is_some_and(|live| {
            live.lease.is_some_and(|held| held.is_live(now)) && now < live.expires_at + OWNER_GRACE
        });
        if !owned {
            end_at_deadline(tx, id)?;
            report.expired += 1;
        }
    }
    Ok(())
}

fn retention(
    tx: &mut Tx<'_>,
    keep_jobs: Duration,
    keep_events: Duration,
    report: &mut SweepReport,
) -> Result<(), Fault> {
    for version in finished_before(tx, false, keep_events)? {
        tx.db.prepare_cached("DELETE FROM events WHERE job = ?1")?.execute([version])?;
        tx.db.prepare_cached("UPDATE jobs SET trimmed = 1 WHERE version = ?1")?.execute([version])?;
        report.logs_removed += 1;
    }
    for trimmed in [false, true] {
        for version in finished_before(tx, trimmed, keep_jobs)? {
            remove::expire(tx, version)?;
            report.jobs_removed += 1;
        }
    }
    let forget = (tx.now - keep_jobs.saturating_mul(REMEMBER_GONE)).as_millis();
    tx.db
        .prepare_cached("DELETE FROM gone WHERE id IN (SELECT id FROM gone WHERE at < ?1 LIMIT 1000)")?
        .execute([forget])?;
    let free: u32 = tx.db.prepare_cached("PRAGMA freelist_count")?.query_row([], |row| row.get(0))?;
    if free > VACUUM_PAGES {
        let mut statement = tx.db.prepare_cached(&format!("PRAGMA incremental_vacuum({VACUUM_PAGES})"))?;
        let mut rows = statement.query([])?;
        while rows.next()?.is_some() {}
    }
    Ok(())
}

/// Jobs whose log is still kept, or no longer, and that ended before that time.
fn finished_before(tx: &Tx<'_>, trimmed: bool, keep: Duration) -> rusqlite::Result<Vec<u64>> {
    tx.db
        .prepare_cached(&format!(
            "SELECT version FROM jobs
             WHERE trimmed = ?1 AND finished_at < ?2
             ORDER BY finished_at LIMIT {REMOVE_AT_ONCE}"
        ))?
        .query_map(params![trimmed, (tx.now - keep).as_millis()], |row| row.get(0))?
        .collect()
}
