//! Conversations: their history is what their finished jobs hold, so it is never written twice.

use async_trait::async_trait;
use redis::Value;
use uuid::Uuid;

use crate::model::{ConversationId, Job, TenantId, Timestamp};
use crate::ports::{Conversation, Conversations, Lookup, Page, StoreError, StoredMessage};

use super::super::said::{Place, last};
use super::jobs::{conversation, jobs, removed};
use super::reply::{self, at, list, name, number, text};
use super::scripts;
use super::store::{RedisStore, shard_of};

impl RedisStore {
    async fn conversation(
        &self,
        tenant: &TenantId,
        id: ConversationId,
        how: &str,
    ) -> Result<Lookup<Conversation>, StoreError> {
        let args = [name(tenant, id.uuid()), how.to_owned()];
        let answer = self.run(&scripts::CONVERSATION, shard_of(tenant), args).await?.value;
        let parts = list(&answer)?;
        Ok(match text(at(parts, 0)?)? {
            "found" => Lookup::Found(read(id, at(parts, 1)?, at(parts, 2)?)?),
            "gone" => Lookup::Gone,
            _ => Lookup::Unknown,
        })
    }

    /// Jobs whose messages are history, from the first or from the last one.
    async fn told(
        &self,
        tenant: &TenantId,
        id: ConversationId,
        order: &str,
        from: u64,
        limit: usize,
    ) -> Result<Lookup<Vec<Job>>, StoreError> {
        let args = [name(tenant, id.uuid()), order.to_owned(), from.to_string(), limit.to_string()];
        let answer = self.run(&scripts::TOLD, shard_of(tenant), args).await?.value;
        let parts = list(&answer)?;
        Ok(match text(at(parts, 0)?)? {
            "found" => Lookup::Found(jobs(at(parts, 1)?)?),
            "gone" => Lookup::Gone,
            _ => Lookup::Unknown,
        })
    }
}

fn read(id: ConversationId, created: &Value, jobs: &Value) -> Result<Conversation, StoreError> {
    Ok(Conversation { id, created_at: Timestamp::from_millis(number(created)?), jobs: number(jobs)? })
}

#[async_trait]
impl Conversations for RedisStore {
    async fn create(&self, tenant: &TenantId, id: ConversationId) -> Result<Conversation, StoreError> {
        match self.conversation(tenant, id, "create").await? {
            Lookup::Found(made) => Ok(made),
            Lookup::Gone | Lookup::Unknown => Err(reply::damaged("a conversation that was just made")),
        }
    }

    async fn get(&self, tenant: &TenantId, id: ConversationId) -> Result<Lookup<Conversation>, StoreError> {
        self.conversation(tenant, id, "").await
    }

    async fn list(
        &self,
        tenant: &TenantId,
        limit: usize,
        before: Option<ConversationId>,
    ) -> Result<Page<Conversation>, StoreError> {
        let args = [tenant.to_string(), conversation(before), (limit + 1).to_string()];
        let answer = self.run(&scripts::CONVERSATIONS, shard_of(tenant), args).await?.value;
        let found = list(&answer)?
            .iter()
            .map(|found| {
                let parts = list(found)?;
                let id = ConversationId::from_uuid(reply::uuid(at(parts, 0)?)?);
                read(id, at(parts, 1)?, at(parts, 2)?)
            })
            .collect::<Result<Vec<Conversation>, StoreError>>()?;
        Ok(Page::of(found, limit, |last| last.id.to_string()))
    }

    async fn delete(&self, tenant: &TenantId, id: ConversationId) -> Result<bool, StoreError> {
        let args = [name(tenant, id.uuid()), Uuid::now_v7().simple().to_string()];
        removed(&self.run(&scripts::REMOVE_CONVERSATION, shard_of(tenant), args).await?.value)
    }

    async fn messages(
        &self,
        tenant: &TenantId,
        id: ConversationId,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<Lookup<Page<StoredMessage>>, StoreError> {
        let place = Place::of(cursor);
        Ok(match self.told(tenant, id, "first", place.job, limit + 1).await? {
            Lookup::Found(told) => Lookup::Found(place.page(&told, limit)),
            Lookup::Gone => Lookup::Gone,
            Lookup::Unknown => Lookup::Unknown,
        })
    }

    async fn history(
        &self,
        tenant: &TenantId,
        id: ConversationId,
        limit: usize,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        let Lookup::Found(told) = self.told(tenant, id, "last", 0, limit.max(1)).await? else {
            return Ok(Vec::new());
        };
        Ok(last(&told, limit))
    }
}
