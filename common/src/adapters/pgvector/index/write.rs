//! Writes, each one transaction: fence, passages and sums change together.

use std::collections::BTreeMap;

use sqlx::{PgConnection, Row};

use super::postings::{Document, Passage};
use super::state::{self, State, WRITING};
use super::{PgvectorIndex, postings};
use crate::ports::{IndexError, Write, Writer};
use crate::search::Key;

/// Postings sent in one statement: some megabytes.
const CHUNK: usize = 20_000;

type Result<T> = std::result::Result<T, IndexError>;

/// A collection, locked.
struct Scope {
    id: i64,
    fence: Option<Writer>,
}

impl PgvectorIndex {
    /// Replaces the passages of each name, by none when it is deleted.
    pub(super) async fn write(&self, documents: Vec<Document>) -> Result<Vec<Write>> {
        if documents.is_empty() {
            return Ok(Vec::new());
        }
        let dimensions = dimensions(&documents)?;
        let mut tx = loop {
            let mut tx = self.pool.begin().await?;
            let expected = self.enter(&mut tx).await?.dimensions;
            match (dimensions, expected) {
                (Some(got), Some(expected)) if got != expected => {
                    return Err(IndexError::Dimensions { got, expected });
                }
                (Some(got), None) => {
                    // It waits for all writers: let go first.
                    tx.rollback().await?;
                    state::fix_dimensions(&self.pool, got).await?;
                }
                _ => break tx,
            }
        };
        let scopes = lock(&mut tx, documents.iter().map(|document| document.scope)).await?;
        let mut answers = Vec::with_capacity(documents.len());
        for document in &documents {
            answers.push(replace(&mut tx, &scopes[&document.scope], document).await?);
        }
        tx.commit().await?;
        Ok(answers)
    }

    /// Removes everything written to a collection before `by`.
    pub(super) async fn delete_scope(&self, key: Key, by: Writer) -> Result<()> {
        let mut tx = self.pool.begin().await?;
        self.enter(&mut tx).await?;
        let scope = lock(&mut tx, [key].into_iter()).await?.remove(&key).expect("locked just above");
        if scope.fence.is_some_and(|newest| by < newest) {
            return Ok(());
        }
        let older: Vec<i64> = sqlx::query_scalar(
            "SELECT id FROM millhand.indexed WHERE scope = $1 AND (version, epoch) < ($2, $3)",
        )
        .bind(scope.id)
        .bind(by.version as i64)
        .bind(by.epoch as i64)
        .fetch_all(&mut *tx)
        .await?;
        remove(&mut tx, scope.id, &older).await?;
        // The fence of the collection takes over.
        sqlx::query("DELETE FROM millhand.indexed WHERE id = ANY($1)").bind(&older).execute(&mut *tx).await?;
        sqlx::query("UPDATE millhand.scopes SET version = $2, epoch = $3 WHERE id = $1")
            .bind(scope.id)
            .bind(by.version as i64)
            .bind(by.epoch as i64)
            .execute(&mut *tx)
            .await?;
        Ok(tx.commit().await?)
    }

    /// Keeps the index from being emptied meanwhile, and looks whether it is ours to write.
    async fn enter(&self, tx: &mut PgConnection) -> Result<State> {
        sqlx::query("SELECT pg_advisory_xact_lock_shared($1)").bind(WRITING).execute(&mut *tx).await?;
        state::find(tx, self.embedder_name()).await?.usable()
    }
}

/// The one length of their vectors, if there are any.
fn dimensions(documents: &[Document]) -> Result<Option<usize>> {
    let passages = documents.iter().flat_map(|document| &document.passages);
    let mut lengths = passages.filter_map(|passage| Some(passage.vector.as_ref()?.as_slice().len()));
    let Some(expected) = lengths.next() else { return Ok(None) };
    match lengths.find(|got| *got != expected) {
        Some(got) => Err(IndexError::Dimensions { got, expected }),
        None => Ok(Some(expected)),
    }
}

/// Keeps other writers out of these collections. All writers lock in the same order.
async fn lock(tx: &mut PgConnection, keys: impl Iterator<Item = Key>) -> Result<BTreeMap<Key, Scope>> {
    let mut keys: Vec<Vec<u8>> = keys.map(|key| key.bytes().to_vec()).collect();
    keys.sort();
    keys.dedup();
    sqlx::query("INSERT INTO millhand.scopes (key) SELECT unnest($1::bytea[]) ON CONFLICT DO NOTHING")
        .bind(&keys)
        .execute(&mut *tx)
        .await?;
    let rows = sqlx::query(
        "SELECT key, id, version, epoch FROM millhand.scopes WHERE key = ANY($1) ORDER BY key FOR UPDATE",
    )
    .bind(&keys)
    .fetch_all(tx)
    .await?;
    let scope = |row: &sqlx::postgres::PgRow| {
        let key = key_of(row.try_get("key")?)?;
        let (version, epoch): (Option<i64>, Option<i64>) = (row.try_get("version")?, row.try_get("epoch")?);
        let fence = version.zip(epoch).map(|(version, epoch)| writer(version, epoch));
        Ok((key, Scope { id: row.try_get("id")?, fence }))
    };
    rows.iter().map(scope).collect()
}

fn key_of(bytes: &[u8]) -> Result<Key> {
    let bytes = bytes.try_into().map_err(|_| IndexError::Damaged("a key of a collection".to_owned()))?;
    Ok(Key::from_bytes(bytes))
}

fn writer(version: i64, epoch: i64) -> Writer {
    Writer { version: version as u64, epoch: epoch as u64 }
}

async fn replace(tx: &mut PgConnection, scope: &Scope, new: &Document) -> Result<Write> {
    let stored: Option<(i64, i64, i64)> =
        sqlx::query_as("SELECT id, version, epoch FROM millhand.indexed WHERE key = $1")
            .bind(new.name.bytes())
            .fetch_optional(&mut *tx)
            .await?;
    let newest = stored.map(|(_, version, epoch)| writer(version, epoch)).max(scope.fence);
    if newest.is_some_and(|newest| new.writer < newest) {
        return Ok(Write::Stale);
    }
    if let Some((id, _, _)) = stored {
        remove(tx, scope.id, &[id]).await?;
    }
    let filters: Vec<Vec<u8>> = new.filters.iter().map(|key| key.bytes().to_vec()).collect();
    let id: i64 = sqlx::query_scalar(
        "INSERT INTO millhand.indexed (scope, key, version, epoch, filters) VALUES ($1, $2, $3, $4, $5)
         ON CONFLICT (key) DO UPDATE SET version = $3, epoch = $4, filters = $5 RETURNING id",
    )
    .bind(scope.id)
    .bind(new.name.bytes())
    .bind(new.writer.version as i64)
    .bind(new.writer.epoch as i64)
    .bind(&filters)
    .fetch_one(&mut *tx)
    .await?;
    if !new.passages.is_empty() {
        add(tx, scope.id, id, &new.passages).await?;
    }
    Ok(Write::Written)
}

/// Removes the passages of these documents, and takes them out of the sums.
async fn remove(tx: &mut PgConnection, scope: i64, documents: &[i64]) -> Result<()> {
    for gone in [
        "DELETE FROM millhand.postings WHERE document = ANY($1)",
        "DELETE FROM millhand.vectors WHERE document = ANY($1)",
    ] {
        sqlx::query(gone).bind(documents).execute(&mut *tx).await?;
    }
    sqlx::query(
        "WITH gone AS (
            DELETE FROM millhand.passages WHERE document = ANY($1)
            RETURNING language, title_length, headings_length, body_length
         ), languages AS (
            UPDATE millhand.scope_languages l SET passages = l.passages - g.passages
            FROM (SELECT language, count(*) AS passages FROM gone GROUP BY language) g
            WHERE l.scope = $2 AND l.language = g.language
         )
         UPDATE millhand.scopes s SET passages = s.passages - g.passages,
            title_terms = s.title_terms - g.title, headings_terms = s.headings_terms - g.headings,
            body_terms = s.body_terms - g.body
         FROM (SELECT count(*) AS passages, sum(title_length) AS title, sum(headings_length) AS headings,
               sum(body_length) AS body FROM gone) g
         WHERE s.id = $2 AND 0 < g.passages",
    )
    .bind(documents)
    .bind(scope)
    .execute(tx)
    .await?;
    Ok(())
}

/// Adds the passages of a document that has none, and counts them in.
async fn add(tx: &mut PgConnection, scope: i64, document: i64, passages: &[Passage]) -> Result<()> {
    let each = |of: fn(&Passage) -> i32| passages.iter().map(of).collect::<Vec<i32>>();
    let languages: Vec<&str> = passages.iter().map(|passage| passage.language.code()).collect();
    let stored: Vec<&[u8]> = passages.iter().map(|passage| passage.stored.as_slice()).collect();
    let ordinals: Vec<i32> = (0..).take(passages.len()).collect();
    sqlx::query(
        "WITH added AS (
            INSERT INTO millhand.passages
               (document, ordinal, language, title_length, headings_length, body_length, stored)
            SELECT $1, * FROM unnest($3::integer[], $4::text[], $5::integer[], $6::integer[], $7::integer[],
               $8::bytea[])
            RETURNING language, title_length, headings_length, body_length
         ), languages AS (
            INSERT INTO millhand.scope_languages AS l (scope, language, passages)
            SELECT $2, language, count(*) FROM added GROUP BY language
            ON CONFLICT (scope, language) DO UPDATE SET passages = l.passages + excluded.passages
         )
         UPDATE millhand.scopes s SET passages = s.passages + a.passages,
            title_terms = s.title_terms + a.title, headings_terms = s.headings_terms + a.headings,
            body_terms = s.body_terms + a.body
         FROM (SELECT count(*) AS passages, sum(title_length) AS title, sum(headings_length) AS headings,
               sum(body_length) AS body FROM added) a
         WHERE s.id = $2",
    )
    .bind(document)
    .bind(scope)
    .bind(&ordinals)
    .bind(&languages)
    .bind(each(|passage| passage.lengths.title))
    .bind(each(|passage| passage.lengths.headings))
    .bind(each(|passage| passage.lengths.body))
    .bind(&stored)
    .execute(&mut *tx)
    .await?;

    let all: Vec<_> = (0i32..)
        .zip(passages)
        .flat_map(|(ordinal, passage)| {
            passage.postings.iter().map(move |(term, posting)| (ordinal, passage.lengths, term, posting))
        })
        .collect();
    for chunk in all.chunks(CHUNK) {
        add_postings(tx, scope, document, chunk).await?;
    }

    let vectors = (0i32..).zip(passages).filter_map(|(n, passage)| Some((n, passage.vector.as_ref()?)));
    let (ordinals, vectors): (Vec<i32>, Vec<&pgvector::Vector>) = vectors.unzip();
    if !vectors.is_empty() {
        sqlx::query(
            "INSERT INTO millhand.vectors (scope, document, ordinal, embedding)
             SELECT $1, $2, * FROM unnest($3::integer[], $4::vector[])",
        )
        .bind(scope)
        .bind(document)
        .bind(&ordinals)
        .bind(&vectors)
        .execute(tx)
        .await?;
    }
    Ok(())
}

type Row4<'a> = (i32, postings::Lengths, &'a String, &'a postings::Posting);

async fn add_postings(tx: &mut PgConnection, scope: i64, document: i64, rows: &[Row4<'_>]) -> Result<()> {
    let numbers = |of: fn(&Row4<'_>) -> i32| rows.iter().map(of).collect::<Vec<i32>>();
    let counts = |of: fn(&Row4<'_>) -> i16| rows.iter().map(of).collect::<Vec<i16>>();
    let terms: Vec<&str> = rows.iter().map(|row| row.2.as_str()).collect();
    let positions: Vec<&[u8]> = rows.iter().map(|row| row.3.positions.as_slice()).collect();
    sqlx::query(
        "INSERT INTO millhand.postings (scope, document, ordinal, term, title, headings, body,
            title_length, headings_length, body_length, positions)
         SELECT $1, $2, * FROM unnest($3::integer[], $4::text[], $5::smallint[], $6::smallint[],
            $7::smallint[], $8::integer[], $9::integer[], $10::integer[], $11::bytea[])",
    )
    .bind(scope)
    .bind(document)
    .bind(numbers(|row| row.0))
    .bind(&terms)
    .bind(counts(|row| row.3.title))
    .bind(counts(|row| row.3.headings))
    .bind(counts(|row| row.3.body))
    .bind(numbers(|row| row.1.title))
    .bind(numbers(|row| row.1.headings))
    .bind(numbers(|row| row.1.body))
    .bind(&positions)
    .execute(tx)
    .await?;
    Ok(())
}
