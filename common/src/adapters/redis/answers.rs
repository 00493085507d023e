//! Answers kept in Redis, and leads that workers of all processes take there.
//!
//! # Keys
//!
//! A key is `<prefix>:{answer:<tenant>:<digest>}:<name>`, so calls are spread over all slots.
//!
//! | name | type | holds |
//! |---|---|---|
//! | `kept` | string | the answer; ends by itself |
//! | `flight` | string | who makes the call now; ends by itself |
//!
//! A server without room refuses to keep answers and to give leads: then calls are made without it.

use std::sync::LazyLock;
use std::time::Duration;

use async_trait::async_trait;
use redis::Value;
use uuid::Uuid;

use crate::ports::{AnswerCache, AnswerKey, Asked, StoreError};

use super::link::Link;
use super::options::OpenError;
use super::reply::{at, damaged, list, number, text};
use super::scripts::{Script, answer};

/// How long an answer is kept while more than half of `maxmemory` is used: those who wait for it get it.
const KEEP_WHERE_SHORT: Duration = Duration::from_secs(5);

/// How a cache is opened.
#[derive(Clone, Debug)]
pub struct AnswerOptions {
    /// What every key starts with.
    pub prefix: String,
    /// How long one operation may take, connecting and repeating included: as long as a call without the
    /// cache is put off while it is away.
    pub patience: Duration,
}

impl Default for AnswerOptions {
    fn default() -> Self {
        Self { prefix: "millhand".to_owned(), patience: Duration::from_millis(500) }
    }
}

/// An [`AnswerCache`] in Redis.
pub struct RedisAnswers {
    link: Link,
    prefix: String,
}

impl RedisAnswers {
    /// Connects to the address of a store; see [`RedisStore::open`](super::RedisStore::open).
    pub async fn open(url: &str, options: AnswerOptions) -> Result<Self, OpenError> {
        Ok(Self { link: Link::find(url, options.patience).await?, prefix: options.prefix })
    }

    async fn run(
        &self,
        script: &LazyLock<Script>,
        key: &AnswerKey,
        args: &[String],
    ) -> Result<Value, StoreError> {
        let key = format!("{}:{{answer:{key}}}", self.prefix);
        Ok(self.link.call(script, std::slice::from_ref(&key), args).await?.value)
    }
}

/// At least one: nothing can be kept for no time.
fn millis(time: Duration) -> String {
    time.as_millis().max(1).to_string()
}

fn id(flight: Uuid) -> String {
    flight.simple().to_string()
}

#[async_trait]
impl AnswerCache for RedisAnswers {
    async fn ask(&self, key: &AnswerKey, flight: Uuid, lease: Duration) -> Result<Asked, StoreError> {
        let answer = self.run(&answer::ASK, key, &[id(flight), millis(lease)]).await?;
        let answer = list(&answer)?;
        match text(at(answer, 0)?)? {
            "kept" => Ok(Asked::Kept(text(at(answer, 1)?)?.to_owned())),
            "lead" => Ok(Asked::Lead),
            "follow" => Ok(Asked::Follow),
            other => Err(damaged(format!("a cache answered {other}"))),
        }
    }

    async fn renew(&self, key: &AnswerKey, flight: Uuid, lease: Duration) -> Result<bool, StoreError> {
        Ok(number(&self.run(&answer::RENEW, key, &[id(flight), millis(lease)]).await?)? == 1)
    }

    async fn land(
        &self,
        key: &AnswerKey,
        flight: Uuid,
        answer: &str,
        keep: Duration,
    ) -> Result<bool, StoreError> {
        let args = [id(flight), answer.to_owned(), millis(keep), millis(KEEP_WHERE_SHORT)];
        Ok(number(&self.run(&answer::LAND, key, &args).await?)? == 1)
    }

    async fn abandon(&self, key: &AnswerKey, flight: Uuid) -> Result<(), StoreError> {
        self.run(&answer::ABANDON, key, &[id(flight)]).await?;
        Ok(())
    }
}
