//! What the index was made with: it serves only the same.

use sqlx::postgres::PgExecutor;
use sqlx::{AssertSqlSafe, PgConnection, PgPool, Row};

use crate::ports::IndexError;
use crate::text::analyze::ANALYSER_VERSION;

/// Version of the tables' contents.
const FORMAT: i64 = 1;

/// Locks of this database: writers share the first, who empties the index takes it alone; who builds
/// it anew holds the second to the end.
pub(super) const WRITING: i64 = 0x6d69_6c6c_6861_0001;
pub(super) const BUILDING: i64 = 0x6d69_6c6c_6861_0002;

/// An index that fits this process.
#[derive(Clone, Copy, Debug)]
pub(super) struct State {
    /// Of its vectors, once there is one.
    pub(super) dimensions: Option<usize>,
    /// False until everything there was is in.
    pub(super) complete: bool,
}

pub(super) enum Found {
    Same(State),
    /// It must be built anew first; says why.
    Other(String),
}

impl Found {
    /// The index, or the error of whoever cannot use it.
    pub(super) fn usable(self) -> Result<State, IndexError> {
        match self {
            Self::Same(state) => Ok(state),
            Self::Other(reason) => Err(IndexError::Unreachable(format!("it must be built anew: {reason}"))),
        }
    }
}

pub(super) async fn find(db: impl PgExecutor<'_>, embedder: Option<&str>) -> Result<Found, IndexError> {
    let row =
        sqlx::query("SELECT format, analyser, embedder, dimensions, complete FROM millhand.index_state")
            .fetch_optional(db)
            .await?;
    let Some(row) = row else {
        return Ok(Found::Other("there is no index yet".to_owned()));
    };
    let (format, analyser): (i64, i64) = (row.try_get("format")?, row.try_get("analyser")?);
    let made_for: Option<String> = row.try_get("embedder")?;
    let reason = if format != FORMAT {
        format!("its format is {format}, this millhand writes {FORMAT}")
    } else if analyser != i64::from(ANALYSER_VERSION) {
        format!("its analyser is {analyser}, this millhand has {ANALYSER_VERSION}")
    } else if made_for.as_deref() != embedder {
        let name = |embedder: Option<&str>| embedder.unwrap_or("none").to_owned();
        format!("its embedder is {}, the configured one {}", name(made_for.as_deref()), name(embedder))
    } else {
        let dimensions: Option<i32> = row.try_get("dimensions")?;
        let dimensions = dimensions.map(|n| n as usize);
        return Ok(Found::Same(State { dimensions, complete: row.try_get("complete")? }));
    };
    Ok(Found::Other(reason))
}

/// Empties the index and makes it one for `embedder`, not complete yet. Fences stay: what is on its way
/// must not come back. Waits for writers; those that come later see the new state.
pub(super) async fn begin_anew(db: &PgPool, embedder: Option<&str>) -> Result<(), IndexError> {
    let mut tx = db.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(WRITING).execute(&mut *tx).await?;
    for emptied in [
        "TRUNCATE millhand.passages, millhand.postings, millhand.vectors, millhand.scope_languages",
        "DROP INDEX IF EXISTS millhand.vectors_nearest",
        "UPDATE millhand.scopes SET passages = 0, title_terms = 0, headings_terms = 0, body_terms = 0",
    ] {
        sqlx::query(emptied).execute(&mut *tx).await?;
    }
    sqlx::query(
        "INSERT INTO millhand.index_state (format, analyser, embedder, dimensions, complete)
         VALUES ($1, $2, $3, NULL, false) ON CONFLICT (one) DO UPDATE
         SET format = $1, analyser = $2, embedder = $3, dimensions = NULL, complete = false",
    )
    .bind(FORMAT)
    .bind(i64::from(ANALYSER_VERSION))
    .bind(embedder)
    .execute(&mut *tx)
    .await?;
    Ok(tx.commit().await?)
}

pub(super) async fn complete(db: &PgPool) -> Result<(), IndexError> {
    sqlx::query("UPDATE millhand.index_state SET complete = true").execute(db).await?;
    Ok(())
}

/// All vectors of an index have one length; the first tells it, and the graph of the nearest is made
/// for it. A transaction of its own: it locks what no writer waits for while it holds a collection.
pub(super) async fn fix_dimensions(db: &PgPool, got: usize) -> Result<(), IndexError> {
    let mut tx = db.begin().await?;
    sqlx::query("SELECT pg_advisory_xact_lock($1)").bind(WRITING).execute(&mut *tx).await?;
    let stored: Option<i32> = sqlx::query_scalar("SELECT dimensions FROM millhand.index_state")
        .fetch_optional(&mut *tx)
        .await?
        .flatten();
    if let Some(expected) = stored.map(|n| n as usize) {
        return if expected == got { Ok(()) } else { Err(IndexError::Dimensions { got, expected }) };
    }
    sqlx::query("UPDATE millhand.index_state SET dimensions = $1").bind(got as i32).execute(&mut *tx).await?;
    make_graph(&mut tx, got).await?;
    Ok(tx.commit().await?)
}

async fn make_graph(tx: &mut PgConnection, dimensions: usize) -> Result<(), IndexError> {
    if let Some(indexed) = indexed_as(dimensions) {
        let make = format!(
            "CREATE INDEX vectors_nearest ON millhand.vectors
             USING hnsw ((embedding::{indexed}({dimensions})) {indexed}_ip_ops)"
        );
        // Made of a number and a word from below.
        sqlx::query(AssertSqlSafe(make)).execute(tx).await?;
    }
    Ok(())
}

/// The type by which vectors stand in the graph: pgvector takes whole ones up to 2,000 dimensions, ones
/// of half the precision up to 4,000; longer ones are all compared.
pub(super) fn indexed_as(dimensions: usize) -> Option<&'static str> {
    match dimensions {
        1..=2000 => Some("vector"),
        2001..=4000 => Some("halfvec"),
        _ => None,
    }
}
