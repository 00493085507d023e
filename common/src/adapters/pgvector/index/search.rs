//! From a question to passages: words, vectors, and both together.

use std::collections::HashMap;

use sqlx::{PgConnection, Postgres, QueryBuilder};

use super::words::Statistics;
use super::{At, PgvectorIndex, meaning, state, words};
use crate::model::{Filter, Passage, TenantId};
use crate::ports::{IndexError, SearchQuery};
use crate::search::{DEPTH, Key, best_first, fused};

pub(super) type Scored = Vec<(f32, At)>;

impl PgvectorIndex {
    /// All reads see one moment.
    pub(super) async fn find(
        &self,
        tenant: &TenantId,
        query: &SearchQuery,
    ) -> Result<Vec<Passage>, IndexError> {
        let mut tx =
            self.pool.begin_with("BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY").await?;
        let state = state::find(&mut *tx, self.embedder_name()).await?.usable()?;
        let vector = match (&query.vector, state.dimensions) {
            (Some(vector), Some(expected)) if vector.len() != expected => {
                return Err(IndexError::Dimensions { got: vector.len(), expected });
            }
            (Some(vector), Some(_)) => Some(vector),
            _ => None,
        };
        let scopes: Vec<Key> =
            query.collections.iter().map(|collection| Key::scope(tenant, collection)).collect();
        let statistics = Statistics::of(&mut tx, &scopes).await?;
        if statistics.scopes.is_empty() {
            return Ok(Vec::new());
        }
        let depth = DEPTH.max(query.limit);
        let filter = Conditions::of(&query.filter);
        let by_words = words::find(&mut tx, &statistics, &filter, &query.texts, depth).await?;
        let by_meaning = match vector {
            Some(vector) => {
                let exact_up_to = i64::from(self.options.exact_up_to);
                meaning::find(&mut tx, &statistics.scopes, &filter, vector, depth, exact_up_to).await?
            }
            None => Vec::new(),
        };
        let best = best_first(fused(by_words, by_meaning), query.limit, |at| *at);
        let found = passages(&mut tx, best).await?;
        // Nothing to commit: it only read. Ended in order, the connection serves the next at once.
        tx.commit().await?;
        Ok(found)
    }
}

async fn passages(tx: &mut PgConnection, best: Scored) -> Result<Vec<Passage>, IndexError> {
    let (documents, ordinals): (Vec<i64>, Vec<i32>) =
        best.iter().map(|(_, at)| (at.document, at.ordinal)).unzip();
    let rows: Vec<(i64, i32, Vec<u8>)> = sqlx::query_as(
        "SELECT p.document, p.ordinal, p.stored FROM unnest($1::bigint[], $2::integer[]) AS b(document, ordinal)
         JOIN millhand.passages p ON p.document = b.document AND p.ordinal = b.ordinal",
    )
    .bind(&documents)
    .bind(&ordinals)
    .fetch_all(tx)
    .await?;
    let mut stored: HashMap<At, Vec<u8>> =
        rows.into_iter().map(|(document, ordinal, stored)| (At { document, ordinal }, stored)).collect();
    let passage = |(score, at): (f32, At)| {
        let stored = stored.remove(&at).unwrap_or_default();
        let passage = serde_json::from_slice::<Passage>(&stored);
        let passage = passage.map_err(|err| IndexError::Damaged(format!("a stored passage: {err}")))?;
        Ok(Passage { score, ..passage })
    };
    best.into_iter().map(passage).collect()
}

/// What a document's filter keys must meet, each condition by one of its values.
pub(super) struct Conditions(Vec<Vec<Vec<u8>>>);

impl Conditions {
    fn of(filter: &Filter) -> Self {
        let condition = |(field, value): (&str, &crate::model::FilterValue)| {
            value.values().iter().map(|value| Key::filter(field, &value.key()).bytes().to_vec()).collect()
        };
        Self(filter.conditions().map(condition).collect())
    }

    /// Keeps only passages of `table` whose document meets them.
    pub(super) fn push_join(&self, sql: &mut QueryBuilder<Postgres>, table: &'static str) {
        if self.0.is_empty() {
            return;
        }
        sql.push(" JOIN millhand.indexed d ON d.id = ").push(table).push(".document");
        for values in &self.0 {
            sql.push(" AND d.filters && ").push_bind(values.clone());
        }
    }
}
