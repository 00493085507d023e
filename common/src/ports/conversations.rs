//! Conversations and their history.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::model::{ConversationId, JobId, Message, TenantId, Timestamp};

use super::{Lookup, Page, StoreError};

/// Keeps conversations. Every future may be dropped; a write happened whole or not at all.
#[async_trait]
pub trait Conversations: Send + Sync {
    async fn create(&self, tenant: &TenantId, id: ConversationId) -> Result<Conversation, StoreError>;

    async fn get(&self, tenant: &TenantId, id: ConversationId) -> Result<Lookup<Conversation>, StoreError>;

    /// Newest first; `before` is exclusive.
    async fn list(
        &self,
        tenant: &TenantId,
        limit: usize,
        before: Option<ConversationId>,
    ) -> Result<Page<Conversation>, StoreError>;

    /// Removes the conversation with its jobs; `Err(Open)` while one of them is not terminal.
    async fn delete(&self, tenant: &TenantId, id: ConversationId) -> Result<bool, StoreError>;

    /// In order of the conversation, from `cursor` (what a page gave as `next`).
    async fn messages(
        &self,
        tenant: &TenantId,
        id: ConversationId,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<Lookup<Page<StoredMessage>>, StoreError>;

    /// The last `limit` messages, in order: the history of the job that is about to run.
    async fn history(
        &self,
        tenant: &TenantId,
        id: ConversationId,
        limit: usize,
    ) -> Result<Vec<StoredMessage>, StoreError>;
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Conversation {
    pub id: ConversationId,
    pub created_at: Timestamp,
    /// Jobs accepted in it that are kept.
    pub jobs: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredMessage {
    #[serde(flatten)]
    pub message: Message,
    pub job_id: JobId,
    pub created_at: Timestamp,
}
