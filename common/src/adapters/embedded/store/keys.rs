//! API keys, in the store's own file.

use async_trait::async_trait;
use rusqlite::{OptionalExtension, params};

use crate::model::{ApiKey, Timestamp};
use crate::ports::{Keys, StoreError};

use super::EmbeddedStore;

/// The name under which the bytes are kept that all processes share.
const SECRET: &str = "shared";

#[async_trait]
impl Keys for EmbeddedStore {
    async fn add_key(&self, key: &ApiKey) -> Result<(), StoreError> {
        let (id, record) = (key.id.clone(), text(key));
        self.run(move |tx| {
            let sql = "INSERT INTO keys (id, record) VALUES (?1, ?2) ON CONFLICT (id) DO NOTHING";
            tx.db.prepare_cached(sql)?.execute(params![id, record])?;
            Ok(())
        })
        .await
    }

    async fn keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        let records: Vec<String> = self
            .read(|db| {
                let mut all = db.prepare_cached("SELECT record FROM keys ORDER BY id")?;
                all.query_map([], |row| row.get(0))?.collect()
            })
            .await?;
        records.iter().map(|record| key(record)).collect()
    }

    async fn revoke_key(&self, id: &str, at: Timestamp) -> Result<bool, StoreError> {
        let id = id.to_owned();
        self.run(move |tx| {
            let record: Option<String> = tx
                .db
                .prepare_cached("SELECT record FROM keys WHERE id = ?1")?
                .query_row([&id], |row| row.get(0))
                .optional()?;
            let Some(record) = record else { return Ok(false) };
            let mut key = key(&record)?;
            key.revoked_at.get_or_insert(at);
            let sql = "UPDATE keys SET record = ?2 WHERE id = ?1";
            tx.db.prepare_cached(sql)?.execute(params![id, text(&key)])?;
            Ok(true)
        })
        .await
    }

    async fn shared_secret(&self, fresh: [u8; 32]) -> Result<[u8; 32], StoreError> {
        self.run(move |tx| {
            let sql = "INSERT INTO secrets (name, value) VALUES (?1, ?2) ON CONFLICT (name) DO NOTHING";
            tx.db.prepare_cached(sql)?.execute(params![SECRET, fresh])?;
            let sql = "SELECT value FROM secrets WHERE name = ?1";
            Ok(tx.db.prepare_cached(sql)?.query_row([SECRET], |row| row.get(0))?)
        })
        .await
    }
}

fn text(key: &ApiKey) -> String {
    serde_json::to_string(key).expect("a key is plain data")
}

fn key(record: &str) -> Result<ApiKey, StoreError> {
    serde_json::from_str(record).map_err(|err| StoreError::Damaged(format!("a key: {err}")))
}
