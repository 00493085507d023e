//! API keys: who a request comes from, and what it may do.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::{TenantId, Timestamp};

/// What a key may be used for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Scope {
    /// Everything that changes something: jobs, documents, conversations, cancel.
    Submit,
    /// Everything that only reads, search and streams included.
    Read,
    /// The operators' address.
    Admin,
}

impl Scope {
    pub const ALL: [Self; 3] = [Self::Submit, Self::Read, Self::Admin];

    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Submit => "submit",
            Self::Read => "read",
            Self::Admin => "admin",
        }
    }
}

impl FromStr for Scope {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|scope| scope.as_str() == text)
            .ok_or_else(|| format!("`{text}` is no scope: submit, read or admin"))
    }
}

impl fmt::Display for Scope {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What begins the text of every key, so that one is known when it is found where it should not be.
const SECRET_MARK: &str = "mhk_";

/// A key as it is kept: what only its holder knows is not in it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ApiKey {
    /// `key_<uuidv7>`: names it in lists and for revoking.
    pub id: String,
    pub tenant: TenantId,
    pub scopes: Vec<Scope>,
    pub created_at: Timestamp,
    /// Since then it opens nothing. It stays, so that revoking the last key does not open the door.
    #[serde(default)]
    pub revoked_at: Option<Timestamp>,
    /// BLAKE3 of the secret, in hexadecimal. A secret has 244 random bits, so a slow hash would add nothing.
    pub digest: String,
}

impl ApiKey {
    /// A new key, and the secret that its holder sends.
    #[must_use]
    pub fn new(tenant: TenantId, scopes: Vec<Scope>) -> (Self, String) {
        let secret = format!("{SECRET_MARK}{}{}", Uuid::new_v4().simple(), Uuid::new_v4().simple());
        let key = Self {
            id: format!("key_{}", Uuid::now_v7().simple()),
            tenant,
            scopes,
            created_at: Timestamp::now(),
            revoked_at: None,
            digest: Self::digest_of(&secret),
        };
        (key, secret)
    }

    /// What is kept of a secret.
    #[must_use]
    pub fn digest_of(secret: &str) -> String {
        blake3::hash(secret.as_bytes()).to_hex().to_string()
    }

    /// Whether text looks like a secret.
    #[must_use]
    pub fn is_secret(text: &str) -> bool {
        text.strip_prefix(SECRET_MARK).is_some_and(|rest| rest.len() == 64)
    }

    #[must_use]
    pub fn is_live(&self) -> bool {
        self.revoked_at.is_none()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_kept_without_its_secret() {
        let (key, secret) = ApiKey::new(TenantId::default(), vec![Scope::Read]);
        assert!(ApiKey::is_secret(&secret) && !ApiKey::is_secret(&key.id));
        assert_eq!(key.digest, ApiKey::digest_of(&secret));
        let kept = serde_json::to_string(&key).unwrap();
        assert!(!kept.contains(&secret) && !kept.contains(&secret[4..]), "{kept}");
        assert_ne!(ApiKey::new(TenantId::default(), Vec::new()).1, secret);
    }
}
