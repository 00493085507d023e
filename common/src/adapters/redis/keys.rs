//! API keys: one hash, outside the shards.

use async_trait::async_trait;
use redis::{Value, cmd};

use crate::model::{ApiKey, Timestamp};
use crate::ports::{Keys, StoreError};

use super::reply::{damaged, list, text};
use super::store::RedisStore;

/// The field of the bytes that all processes share; no id of a key looks like it.
const SECRET: &str = "secret";

impl RedisStore {
    fn keys_key(&self) -> String {
        format!("{}:{{keys}}", self.options.prefix)
    }

    async fn put_key(&self, command: &str, key: &ApiKey) -> Result<(), StoreError> {
        let record = serde_json::to_string(key).expect("a key is plain data");
        let mut put = cmd(command);
        put.arg(self.keys_key()).arg(&key.id).arg(record);
        self.link.command(put).await.map(|_| ())
    }
}

#[async_trait]
impl Keys for RedisStore {
    async fn add_key(&self, key: &ApiKey) -> Result<(), StoreError> {
        self.put_key("HSETNX", key).await
    }

    async fn keys(&self) -> Result<Vec<ApiKey>, StoreError> {
        let mut all = cmd("HGETALL");
        all.arg(self.keys_key());
        let fields: Vec<(String, String)> = match self.link.command(all).await? {
            // As the third version of the protocol says it, and as the second.
            Value::Map(fields) => fields
                .iter()
                .map(|(name, record)| Ok((text(name)?.to_owned(), text(record)?.to_owned())))
                .collect::<Result<_, StoreError>>()?,
            other => list(&other)?
                .chunks(2)
                .map(|pair| Ok((text(&pair[0])?.to_owned(), text(&pair[1])?.to_owned())))
                .collect::<Result<_, StoreError>>()?,
        };
        let records = fields.iter().filter(|(name, _)| name != SECRET);
        let mut keys = records.map(|(_, record)| key(record)).collect::<Result<Vec<_>, _>>()?;
        keys.sort_by(|a, b| a.id.cmp(&b.id));
        Ok(keys)
    }

    async fn revoke_key(&self, id: &str, at: Timestamp) -> Result<bool, StoreError> {
        let Some(mut key) = self.keys().await?.into_iter().find(|key| key.id == id) else { return Ok(false) };
        if key.is_live() {
            key.revoked_at = Some(at);
            // Keys change in no other way, so nothing is lost between the two.
            self.put_key("HSET", &key).await?;
        }
        Ok(true)
    }

    async fn shared_secret(&self, fresh: [u8; 32]) -> Result<[u8; 32], StoreError> {
        let (mut make, mut get) = (cmd("HSETNX"), cmd("HGET"));
        make.arg(self.keys_key()).arg(SECRET).arg(blake3::Hash::from_bytes(fresh).to_hex().as_str());
        self.link.command(make).await?;
        get.arg(self.keys_key()).arg(SECRET);
        let kept = self.link.command(get).await?;
        let bytes = blake3::Hash::from_hex(text(&kept)?);
        Ok(*bytes.map_err(|err| damaged(format!("the shared secret: {err}")))?.as_bytes())
    }
}

fn key(record: &str) -> Result<ApiKey, StoreError> {
    serde_json::from_str(record).map_err(|err| damaged(format!("a key: {err}")))
}
