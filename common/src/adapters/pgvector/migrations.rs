//! The steps by which the tables came to be. Each is a file that never changes once it was released.

use sqlx::migrate::{MigrateError, Migration, MigrationType, Migrator};
use sqlx::{PgPool, SqlSafeStr};

use super::DatabaseError;

const STEPS: &[(i64, &str, &str)] = &[
    (1, "documents", include_str!("migrations/0001_documents.sql")),
    (2, "index", include_str!("migrations/0002_index.sql")),
];

fn migrator() -> Migrator {
    let step = |(version, name, sql): &(i64, &'static str, &'static str)| {
        Migration::new(*version, (*name).into(), MigrationType::Simple, sql.into_sql_str(), false)
    };
    let mut migrator = Migrator::with_migrations(STEPS.iter().map(step).collect());
    migrator.create_schema("millhand");
    migrator.dangerous_set_table_name("millhand.migrations");
    migrator
}

pub(super) async fn migrate(pool: &PgPool) -> Result<Vec<String>, DatabaseError> {
    let before = applied(pool).await?;
    // The lock of a migration belongs to the connection: dropped, it takes the lock with it.
    let mut connection = pool.acquire().await.map_err(DatabaseError::Unreachable)?;
    connection.close_on_drop();
    migrator().run(&mut *connection).await.map_err(|err| match err {
        MigrateError::VersionMissing(found) => DatabaseError::Newer { found, known: newest() },
        other => DatabaseError::Migration(other),
    })?;
    let steps = STEPS.iter().filter(|(version, _, _)| before.is_none_or(|before| before < *version));
    Ok(steps.map(|(version, name, _)| format!("{version:04} {name}")).collect())
}

pub(super) async fn check(pool: &PgPool) -> Result<(), DatabaseError> {
    match applied(pool).await? {
        Some(found) if newest() < found => Err(DatabaseError::Newer { found, known: newest() }),
        Some(found) if found == newest() => Ok(()),
        _ => Err(DatabaseError::NotMigrated),
    }
}

fn newest() -> i64 {
    STEPS.last().map_or(0, |(version, _, _)| *version)
}

/// The newest step taken.
async fn applied(pool: &PgPool) -> Result<Option<i64>, DatabaseError> {
    let there: bool = sqlx::query_scalar("SELECT to_regclass('millhand.migrations') IS NOT NULL")
        .fetch_one(pool)
        .await
        .map_err(DatabaseError::Unreachable)?;
    if !there {
        return Ok(None);
    }
    let newest = sqlx::query_scalar("SELECT max(version) FROM millhand.migrations WHERE success");
    newest.fetch_one(pool).await.map_err(DatabaseError::Unreachable)
}
