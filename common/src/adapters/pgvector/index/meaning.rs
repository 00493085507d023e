//! The passages whose vectors are nearest to a question's.

use sqlx::{AssertSqlSafe, PgConnection, Postgres, QueryBuilder};

use super::At;
use super::postings::unit;
use super::search::{Conditions, Scored};
use super::state::indexed_as;
use crate::ports::IndexError;

/// Nodes of the graph that a search keeps in view, the most that pgvector allows: it is asked for as
/// many passages.
const IN_VIEW: &str = "1000";
/// Nodes of other tenants or filtered out that a search may pass before it gives up.
const PASSED: &str = "200000";

/// The best `depth` by cosine.
pub(super) async fn find(
    tx: &mut PgConnection,
    scopes: &[i64],
    filter: &Conditions,
    vector: &[f32],
    depth: usize,
    exact_up_to: i64,
) -> Result<Scored, IndexError> {
    let nearest = Nearest { scopes, filter, vector, depth };
    let seen = nearest.count(tx, exact_up_to + 1).await?;
    if let Some(indexed) = indexed_as(vector.len()).filter(|_| exact_up_to < seen) {
        let found = nearest.by_graph(tx, indexed).await?;
        // A graph that met too few of those it may show has looked among the wrong ones.
        if i64::try_from(found.len()).is_ok_and(|found| seen.min(depth as i64) <= found) {
            return Ok(found);
        }
    }
    nearest.by_comparing_all(tx).await
}

struct Nearest<'a> {
    scopes: &'a [i64],
    filter: &'a Conditions,
    vector: &'a [f32],
    depth: usize,
}

impl Nearest<'_> {
    fn push_allowed(&self, sql: &mut QueryBuilder<Postgres>) {
        sql.push(" FROM millhand.vectors v");
        self.filter.push_join(sql, "v");
        sql.push(" WHERE v.scope = ANY(").push_bind(self.scopes.to_vec()).push(")");
    }

    /// How many vectors the search may see, counted up to `most`.
    async fn count(&self, tx: &mut PgConnection, most: i64) -> Result<i64, IndexError> {
        let mut sql = QueryBuilder::new("SELECT count(*) FROM (SELECT");
        self.push_allowed(&mut sql);
        sql.push(" LIMIT ").push_bind(most).push(") AS seen");
        Ok(sql.build_query_scalar().fetch_one(tx).await?)
    }

    async fn by_comparing_all(&self, tx: &mut PgConnection) -> Result<Scored, IndexError> {
        // Ordered by a sum, which no index answers.
        let mut sql = QueryBuilder::new("SELECT v.document, v.ordinal, (0 - (v.embedding <#> ");
        sql.push_bind(unit(self.vector)).push("))::real AS score");
        self.push_allowed(&mut sql);
        sql.push(" ORDER BY score DESC, v.document, v.ordinal LIMIT ").push_bind(self.depth as i64);
        fetch(sql, tx).await
    }

    async fn by_graph(&self, tx: &mut PgConnection, indexed: &str) -> Result<Scored, IndexError> {
        for (setting, value) in [
            ("hnsw.iterative_scan", "strict_order"),
            ("hnsw.ef_search", IN_VIEW),
            ("hnsw.max_scan_tuples", PASSED),
        ] {
            let set = format!("SET LOCAL {setting} = {value}");
            // Made of the words above.
            sqlx::query(AssertSqlSafe(set)).execute(&mut *tx).await?;
        }
        let kind = format!("{indexed}({})", self.vector.len());
        let mut sql = QueryBuilder::new("SELECT v.document, v.ordinal, (0 - (v.embedding <#> ");
        sql.push_bind(unit(self.vector)).push("))::real AS score");
        self.push_allowed(&mut sql);
        sql.push(format_args!(" ORDER BY v.embedding::{kind} <#> ")).push_bind(unit(self.vector));
        sql.push(format_args!("::vector::{kind} LIMIT ")).push_bind(self.depth as i64);
        fetch(sql, tx).await
    }
}

async fn fetch(mut sql: QueryBuilder<Postgres>, tx: &mut PgConnection) -> Result<Scored, IndexError> {
    let rows: Vec<(i64, i32, f32)> = sql.build_query_as().fetch_all(tx).await?;
    Ok(rows.into_iter().map(|(document, ordinal, score)| (score, At { document, ordinal })).collect())
}
