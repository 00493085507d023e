//! Answers of deterministic model calls: kept for who asks the same later, and shared with who asks the same
//! meanwhile.

use std::fmt;
use std::time::Duration;

use async_trait::async_trait;
use serde::Serialize;
use uuid::Uuid;

use super::StoreError;
use crate::model::TenantId;

/// Names a call by its tenant and by a digest of all that its answer depends on. Calls of two tenants never
/// have one key: the tenant is part of it as it is, not only of what is digested.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct AnswerKey {
    tenant: TenantId,
    digest: blake3::Hash,
}

impl AnswerKey {
    /// The key of a call of this tenant; `call` must always serialize in the same order.
    ///
    /// # Panics
    /// When `call` is no plain data.
    #[must_use]
    pub fn new(tenant: TenantId, call: &impl Serialize) -> Self {
        let call = serde_json::to_vec(call).expect("a call is plain data");
        Self { tenant, digest: blake3::hash(&call) }
    }
}

/// `<tenant>:<digest>`.
impl fmt::Display for AnswerKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.tenant, self.digest.to_hex())
    }
}

/// What is there for a call.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// Its answer.
    Kept(String),
    /// Nothing, and nobody makes it: who asked has the lead now and makes the call.
    Lead,
    /// Somebody else makes it: ask again.
    Follow,
}

/// Keeps answers, and sees to it that one at a time makes a call while others wait for what comes of it.
///
/// Every operation is atomic and may be repeated. All of it is a convenience: what is kept may go at any
/// time, and when the cache is away calls are made without it.
#[async_trait]
pub trait AnswerCache: Send + Sync {
    /// Asks for the answer. With [`Asked::Lead`] the lead is `flight`'s for as long as `lease`; asking again
    /// with that `flight` answers the same and extends it. May be dropped: a lead that was given ends with
    /// its lease.
    async fn ask(&self, key: &AnswerKey, flight: Uuid, lease: Duration) -> Result<Asked, StoreError>;

    /// Keeps the lead for another `lease`; false when `flight` has it no longer.
    async fn renew(&self, key: &AnswerKey, flight: Uuid, lease: Duration) -> Result<bool, StoreError>;

    /// Keeps the answer for at most `keep` and ends the lead; false, and nothing is kept, when `flight` does
    /// not have it.
    async fn land(
        &self,
        key: &AnswerKey,
        flight: Uuid,
        answer: &str,
        keep: Duration,
    ) -> Result<bool, StoreError>;

    /// Ends the lead without an answer, so that another one can have it. Without the lead nothing happens.
    async fn abandon(&self, key: &AnswerKey, flight: Uuid) -> Result<(), StoreError>;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_two_tenants_have_one_key() {
        let key = |tenant: &str, call: &str| AnswerKey::new(tenant.parse().unwrap(), &call);
        assert_eq!(key("a", "q"), key("a", "q"));
        assert_ne!(key("a", "q"), key("a", "Q"));
        assert_ne!(key("a", "q"), key("b", "q"));
        assert_eq!(key("a", "q").digest, key("b", "q").digest);
        assert!(key("a", "q").to_string().starts_with("a:"));
    }
}
