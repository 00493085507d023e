//! Conversations: their history is what their finished jobs hold, so it is never written twice.

use async_trait::async_trait;
use rusqlite::{Connection, OptionalExtension, params};

use crate::model::{ConversationId, Job, TenantId, Timestamp};
use crate::ports::{Conversation, Conversations, Lookup, Page, StoreError, StoredMessage};

use super::super::super::said::{Place, last};
use super::reader::missing;
use super::{EmbeddedStore, record, remove};

const CONVERSATION: &str =
    "id, created_at, (SELECT count(*) FROM jobs WHERE conversation = conversations.id)";

fn conversation(row: &rusqlite::Row<'_>) -> rusqlite::Result<Conversation> {
    Ok(Conversation {
        id: ConversationId::from_uuid(row.get(0)?),
        created_at: Timestamp::from_millis(row.get(1)?),
        jobs: row.get(2)?,
    })
}

fn find(db: &Connection, tenant: &TenantId, id: ConversationId) -> rusqlite::Result<Option<Conversation>> {
    db.prepare_cached(&format!("SELECT {CONVERSATION} FROM conversations WHERE id = ?1 AND tenant = ?2"))?
        .query_row(params![id.uuid(), tenant.as_str()], conversation)
        .optional()
}

/// Jobs whose messages are history (completed, incomplete), numbered after `after`.
fn told(
    db: &Connection,
    id: ConversationId,
    after: u64,
    limit: usize,
    newest_first: bool,
) -> rusqlite::Result<Vec<Job>> {
    let order = if newest_first { "DESC" } else { "ASC" };
    db.prepare_cached(&format!(
        "SELECT {} FROM jobs WHERE conversation = ?1 AND version >= ?2 AND status IN (2, 3)
         ORDER BY version {order} LIMIT ?3",
        record::JOB
    ))?
    .query_map(params![id.uuid(), after, limit], record::job)?
    .collect()
}

#[async_trait]
impl Conversations for EmbeddedStore {
    async fn create(&self, tenant: &TenantId, id: ConversationId) -> Result<Conversation, StoreError> {
        let tenant = tenant.clone();
        self.run(move |tx| {
            tx.db
                .prepare_cached(
                    "INSERT OR IGNORE INTO conversations (id, tenant, created_at) VALUES (?1, ?2, ?3)",
                )?
                .execute(params![id.uuid(), tenant.as_str(), tx.now.as_millis()])?;
            let made = find(tx.db, &tenant, id)?;
            Ok(made.unwrap_or(Conversation { id, created_at: tx.now, jobs: 0 }))
        })
        .await
    }

    async fn get(&self, tenant: &TenantId, id: ConversationId) -> Result<Lookup<Conversation>, StoreError> {
        let tenant = tenant.clone();
        self.read(move |db| match find(db, &tenant, id)? {
            Some(found) => Ok(Lookup::Found(found)),
            None => missing(db, &tenant, id.uuid()),
        })
        .await
    }

    async fn list(
        &self,
        tenant: &TenantId,
        limit: usize,
        before: Option<ConversationId>,
    ) -> Result<Page<Conversation>, StoreError> {
        let tenant = tenant.clone();
        self.read(move |db| {
            let found: Vec<Conversation> = db
                .prepare_cached(&format!(
                    "SELECT {CONVERSATION} FROM conversations
                         WHERE tenant = ?1 AND (?2 IS NULL OR id < ?2) ORDER BY id DESC LIMIT ?3"
                ))?
                .query_map(
                    params![tenant.as_str(), before.map(ConversationId::uuid), limit + 1],
                    conversation,
                )?
                .collect::<rusqlite::Result<_>>()?;
            Ok(Page::of(found, limit, |last| last.id.to_string()))
        })
        .await
    }

    async fn delete(&self, tenant: &TenantId, id: ConversationId) -> Result<bool, StoreError> {
        let tenant = tenant.clone();
        self.run(move |tx| remove::delete_conversation(tx, &tenant, id)).await
    }

    async fn messages(
        &self,
        tenant: &TenantId,
        id: ConversationId,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<Lookup<Page<StoredMessage>>, StoreError> {
        let tenant = tenant.clone();
        let place = Place::of(cursor);
        self.read(move |db| {
            if find(db, &tenant, id)?.is_none() {
                return missing(db, &tenant, id.uuid());
            }
            Ok(Lookup::Found(place.page(&told(db, id, place.job, limit + 1, false)?, limit)))
        })
        .await
    }

    async fn history(
        &self,
        tenant: &TenantId,
        id: ConversationId,
        limit: usize,
    ) -> Result<Vec<StoredMessage>, StoreError> {
        let tenant = tenant.clone();
        self.read(move |db| {
            if find(db, &tenant, id)?.is_none() {
                return Ok(Vec::new());
            }
            Ok(last(&told(db, id, 0, limit, true)?, limit))
        })
        .await
    }
}
