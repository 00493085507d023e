//! Dead letters: jobs that failed for good, kept for study.

use rusqlite::{Connection, OptionalExtension, params};
use uuid::Uuid;

use crate::model::{JobId, Timestamp};
use crate::ports::{DeadLetter, Expected, Replayed};

use super::super::engine::{Fault, Tx};
use super::accept::{insert, version_of};
use super::record;

pub(super) fn list(
    db: &Connection,
    limit: usize,
    before: Option<JobId>,
) -> rusqlite::Result<Vec<DeadLetter>> {
    let sql = format!(
        "SELECT {}, (SELECT buried_at FROM dead_letters WHERE job = jobs.version),
                (SELECT replayed_as FROM dead_letters WHERE job = jobs.version)
         FROM jobs
         WHERE version IN (SELECT job FROM dead_letters)
           AND (?1 IS NULL OR version < (SELECT version FROM jobs AS cursor WHERE cursor.id = ?1))
         ORDER BY version DESC LIMIT ?2",
        record::JOB
    );
    db.prepare_cached(&sql)?
        .query_map(params![before.map(JobId::uuid), limit], |row| {
            Ok(DeadLetter {
                job: record::job(row)?,
                buried_at: Timestamp::from_millis(row.get(16)?),
                replayed_as: row.get::<_, Option<Uuid>>(17)?.map(JobId::from_uuid),
            })
        })?
        .collect()
}

pub(super) fn replay(tx: &mut Tx<'_>, id: JobId) -> Result<Replayed, Fault> {
    let Some(version) = version_of(tx, id)? else { return Ok(Replayed::Unknown) };
    let letter: Option<Option<Uuid>> = tx
        .db
        .prepare_cached("SELECT replayed_as FROM dead_letters WHERE job = ?1")?
        .query_row([version], |row| row.get(0))
        .optional()?;
    match letter {
        None => return Ok(Replayed::Unknown),
        Some(Some(earlier)) => {
            if let Some(version) = version_of(tx, JobId::from_uuid(earlier))? {
                return Ok(Replayed::Job(Box::new(record::read_job(tx.db, version)?), false));
            }
        }
        Some(None) => {}
    }
    let mut spec = record::read_job(tx.db, version)?.spec;
    spec.replay_of = Some(spec.id);
    spec.id = JobId::new();
    spec.not_before = None;
    let job = insert(tx, &spec, None, Expected::default())?;
    tx.db
        .prepare_cached("UPDATE dead_letters SET replayed_as = ?2 WHERE job = ?1")?
        .execute(params![version, spec.id.uuid()])?;
    Ok(Replayed::Job(Box::new(job), true))
}

pub(super) fn drop_letter(tx: &mut Tx<'_>, id: JobId) -> Result<bool, Fault> {
    let Some(version) = version_of(tx, id)? else { return Ok(false) };
    let dropped = tx.db.prepare_cached("DELETE FROM dead_letters WHERE job = ?1")?.execute([version])?;
    Ok(dropped > 0)
}
