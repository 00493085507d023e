//! Documents and index in PostgreSQL, for many processes: `documents` and their fences as tables, an
//! inverted index in SQL with BM25, and vectors by pgvector.
//!
//! Everything is in the schema `millhand`. Writes to one collection go one after the other: its row is
//! locked first, so that fence, passages and sums change together.

mod documents;
mod index;
mod migrations;

use std::str::FromStr;
use std::time::Duration;

use sqlx::PgPool;
use sqlx::postgres::{PgConnectOptions, PgPoolOptions};

use crate::ports::{DocumentsError, IndexError};
use crate::search::Opened;

pub use documents::PostgresDocuments;
pub use index::{PgvectorIndex, PgvectorOptions};

/// Connections of one process. Each search takes one, and PostgreSQL has about a hundred for all.
const CONNECTIONS: u32 = 16;
/// A connection is found within this, or the call fails.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(5);
/// No call takes longer, whatever becomes of the server.
const CALL_TIMEOUT: Duration = Duration::from_secs(120);

/// A database; cheap to clone.
#[derive(Clone, Debug)]
pub struct Database {
    pool: PgPool,
}

/// Why a database cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DatabaseError {
    #[error("the address of the database makes no sense")]
    Url(#[source] sqlx::Error),
    #[error("the database cannot be reached")]
    Unreachable(#[source] sqlx::Error),
    #[error("the database is not set up for this millhand: run `millhand migrate`")]
    NotMigrated,
    #[error("the database was set up by a newer millhand (step {found}, this one knows {known})")]
    Newer { found: i64, known: i64 },
    #[error("the database cannot be set up")]
    Migration(#[source] sqlx::migrate::MigrateError),
}

impl Database {
    /// Connects to `url`, `postgres://user:password@host/database?sslmode=…`. Nothing is set up or
    /// checked: see [`Self::migrate`] and [`Self::check`].
    pub async fn connect(url: &str) -> Result<Self, DatabaseError> {
        let options = PgConnectOptions::from_str(url).map_err(DatabaseError::Url)?;
        // The server gives up before we do, so that no work is left running for nobody.
        let limits = [
            ("statement_timeout", "100s"),
            ("lock_timeout", "60s"),
            ("idle_in_transaction_session_timeout", "120s"),
        ];
        let options = options.application_name("millhand").options(limits);
        let pool = PgPoolOptions::new()
            .max_connections(CONNECTIONS)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .connect_with(options)
            .await
            .map_err(DatabaseError::Unreachable)?;
        Ok(Self { pool })
    }

    /// Brings the tables to what this millhand needs; answers the steps taken. Of many at once one does
    /// it, the others wait. May be dropped: each step happens whole or not at all.
    pub async fn migrate(&self) -> Result<Vec<String>, DatabaseError> {
        migrations::migrate(&self.pool).await
    }

    /// Whether the tables are what this millhand needs.
    pub async fn check(&self) -> Result<(), DatabaseError> {
        migrations::check(&self.pool).await
    }

    /// The documents in it, which [`Self::migrate`] must have set up.
    #[must_use]
    pub fn documents(&self) -> PostgresDocuments {
        PostgresDocuments::new(self.pool.clone())
    }

    /// The index in it, which [`Self::migrate`] must have set up, and whether it can be used.
    pub async fn index(&self, options: PgvectorOptions) -> Result<(PgvectorIndex, Opened), IndexError> {
        PgvectorIndex::open(self.pool.clone(), options).await
    }

    /// Ends all connections once they are idle.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}

/// What a failure of the server means to a caller.
enum Failure {
    Full,
    Damaged(String),
    Unreachable(String),
}

impl From<sqlx::Error> for Failure {
    fn from(err: sqlx::Error) -> Self {
        let code = err.as_database_error().and_then(|err| err.code());
        match code.as_deref() {
            Some("53100") => Self::Full,
            Some("XX001" | "XX002") => Self::Damaged(err.to_string()),
            _ => Self::Unreachable(err.to_string()),
        }
    }
}

impl From<Failure> for DocumentsError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Full => Self::Full,
            Failure::Damaged(what) => Self::Damaged(what),
            Failure::Unreachable(why) => Self::Unreachable(why),
        }
    }
}

impl From<Failure> for IndexError {
    fn from(failure: Failure) -> Self {
        match failure {
            Failure::Full => Self::Full,
            Failure::Damaged(what) => Self::Damaged(what),
            Failure::Unreachable(why) => Self::Unreachable(why),
        }
    }
}

/// The outcome of `call`, within the longest time a call may take.
async fn within<T, E: From<Failure>>(call: impl Future<Output = Result<T, E>>) -> Result<T, E> {
    match tokio::time::timeout(CALL_TIMEOUT, call).await {
        Ok(done) => done,
        Err(_) => Err(Failure::Unreachable(format!("no answer within {CALL_TIMEOUT:?}")).into()),
    }
}
