//! Dead letters: asked for by the id of a job alone, so every shard is looked at.

use uuid::Uuid;

use crate::model::{JobId, TenantId, Timestamp};
use crate::ports::{DeadLetter, Expected, JobReader, Lookup, Replayed, StoreError};

use super::jobs::{conversation, queued, removed};
use super::reply::{self, Fields, at, damaged, list, name, number, text};
use super::scripts;
use super::store::{RedisStore, shard_of};

impl RedisStore {
    pub(super) async fn letters(
        &self,
        limit: usize,
        before: Option<JobId>,
    ) -> Result<Vec<DeadLetter>, StoreError> {
        let before = before.map_or(String::new(), |job| job.uuid().simple().to_string());
        let mut letters = Vec::new();
        for answer in self.run_everywhere(&scripts::LETTERS, &[limit.to_string(), before]).await {
            for record in list(&answer?)? {
                let fields = Fields::read(at(list(record)?, 0)?)?;
                letters.push(DeadLetter {
                    job: reply::job(record)?,
                    buried_at: Timestamp::from_millis(fields.number("buried").unwrap_or(0)),
                    replayed_as: fields
                        .text("replayed")
                        .and_then(|uuid| Uuid::try_parse(uuid).ok())
                        .map(JobId::from_uuid),
                });
            }
        }
        // Versions of two shards do not say which came first; ids carry their time.
        letters.sort_by_key(|letter| std::cmp::Reverse(letter.job.spec.id));
        letters.truncate(limit);
        Ok(letters)
    }

    async fn tenant_of_letter(&self, job: JobId) -> Result<Option<TenantId>, StoreError> {
        for tenant in self.ask_everywhere("HGET", "letter-of", Some(job.uuid())).await? {
            if !reply::is_nothing(&tenant) {
                return text(&tenant)?.parse().map(Some).map_err(|_| damaged("a tenant"));
            }
        }
        Ok(None)
    }

    pub(super) async fn replay_letter(&self, id: JobId) -> Result<Replayed, StoreError> {
        if self.room.is_full(&self.link).await? {
            return Err(StoreError::Full);
        }
        let Some(tenant) = self.tenant_of_letter(id).await? else { return Ok(Replayed::Unknown) };
        let Lookup::Found(old) = JobReader::get(self, &tenant, id).await? else {
            return Ok(Replayed::Unknown);
        };
        let mut spec = old.spec;
        spec.replay_of = Some(id);
        spec.id = JobId::new();
        spec.not_before = None;
        let shard = shard_of(&tenant);
        let args = [
            name(&tenant, id.uuid()),
            spec.lane.as_str().to_owned(),
            conversation(spec.conversation_id),
            spec.deadline.as_millis().to_string(),
            serde_json::to_string(&spec).expect("a spec is plain data with string keys"),
            queued(Expected::default()),
            spec.id.uuid().simple().to_string(),
        ];
        let answer = self.run(&scripts::REPLAY, shard, args).await?.value;
        self.heads.mark(shard);
        let parts = list(&answer)?;
        if text(at(parts, 0)?)? == "unknown" {
            return Ok(Replayed::Unknown);
        }
        Ok(Replayed::Job(Box::new(reply::job(at(parts, 1)?)?), number(at(parts, 2)?)? == 1))
    }

    pub(super) async fn drop_letter(&self, id: JobId) -> Result<bool, StoreError> {
        let Some(tenant) = self.tenant_of_letter(id).await? else { return Ok(false) };
        let args = [id.uuid().simple().to_string(), Uuid::now_v7().simple().to_string()];
        removed(&self.run(&scripts::DROP_LETTER, shard_of(&tenant), args).await?.value)
    }
}
