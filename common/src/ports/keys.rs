//! API keys, kept where the jobs are.

use async_trait::async_trait;

use crate::model::{ApiKey, Timestamp};

use super::StoreError;

/// Keeps keys. There are few, and every ingress holds all of them in memory. Every future may be dropped; a
/// write happened whole or not at all.
#[async_trait]
pub trait Keys: Send + Sync {
    /// Adds a key; the same one again changes nothing. Durable when it returns.
    async fn add_key(&self, key: &ApiKey) -> Result<(), StoreError>;

    /// All of them, revoked ones too, oldest first.
    async fn keys(&self) -> Result<Vec<ApiKey>, StoreError>;

    /// Revokes a key; false when there is none of this id. Revoking again keeps the first moment.
    async fn revoke_key(&self, id: &str, at: Timestamp) -> Result<bool, StoreError>;

    /// Thirty-two random bytes that all processes of this store share: `fresh` when nobody asked before.
    async fn shared_secret(&self, fresh: [u8; 32]) -> Result<[u8; 32], StoreError>;
}
