//! Keys by which things are found exactly.

use crate::model::{CollectionName, TenantId};

/// A fixed-size key of several texts. A hash, so that no name is too long for an index and no two
/// lists of texts run into each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key([u8; 32]);

impl Key {
    fn of(kind: &str, parts: &[&str]) -> Self {
        let mut hasher = blake3::Hasher::new_derive_key(kind);
        for part in parts {
            hasher.update(&(part.len() as u64).to_le_bytes());
            hasher.update(part.as_bytes());
        }
        Self(*hasher.finalize().as_bytes())
    }

    /// A tenant's collection.
    #[must_use]
    pub fn scope(tenant: &TenantId, collection: &CollectionName) -> Self {
        Self::of("millhand index scope", &[tenant.as_str(), collection.as_str()])
    }

    /// A document's name in a tenant's collection.
    #[must_use]
    pub fn name(tenant: &TenantId, collection: &CollectionName, name: &str) -> Self {
        Self::of("millhand index name", &[tenant.as_str(), collection.as_str(), name])
    }

    /// A field of a filter with one value, as [`crate::model::Scalar::key`] writes it.
    #[must_use]
    pub fn filter(field: &str, value: &str) -> Self {
        Self::of("millhand index filter", &[field, value])
    }

    /// Back from [`Self::bytes`].
    #[must_use]
    pub fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    #[must_use]
    pub fn bytes(&self) -> &[u8; 32] {
        &self.0
    }
}
