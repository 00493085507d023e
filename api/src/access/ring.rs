//! All keys, in memory.

use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

use millhand_common::model::{ApiKey, TenantId};
use millhand_common::ports::{Keys, StoreError};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use super::{Access, ticket};
use crate::error::ApiError;
use crate::state::ask;

/// How often keys are read again. Keys are live and dead within 5 s by contract; a slow store takes its share.
const REFRESH: Duration = Duration::from_secs(1);

/// The keys of the store; clones share them.
#[derive(Clone)]
pub(crate) struct KeyRing(Arc<Inner>);

struct Inner {
    keys: Arc<dyn Keys>,
    /// Cancelled when the server stops.
    stopping: CancellationToken,
    held: RwLock<Held>,
}

#[derive(Default)]
struct Held {
    /// Live keys by their digest.
    live: HashMap<String, Access>,
    /// Whether there ever was a key.
    any: bool,
    secret: Option<[u8; 32]>,
}

impl KeyRing {
    /// Empty until [`Self::refresh`].
    pub(crate) fn new(keys: Arc<dyn Keys>, stopping: CancellationToken) -> Self {
        Self(Arc::new(Inner { keys, stopping, held: RwLock::default() }))
    }

    /// Reads all keys; those that are gone end what they opened.
    pub(crate) async fn refresh(&self) -> Result<(), StoreError> {
        let keys = self.0.keys.keys().await?;
        let secret = match (keys.is_empty(), self.secret()) {
            (false, None) => Some(self.0.keys.shared_secret(random()).await?),
            (_, known) => known,
        };
        let mut held = self.0.held.write().unwrap_or_else(PoisonError::into_inner);
        let mut before = std::mem::take(&mut held.live);
        for key in keys.iter().filter(|key| key.is_live()) {
            let known = before.remove(&key.digest);
            let access = known.unwrap_or_else(|| Access {
                tenant: key.tenant.clone(),
                scopes: key.scopes.clone(),
                ending: self.0.stopping.child_token(),
            });
            held.live.insert(key.digest.clone(), access);
        }
        before.values().for_each(|gone| gone.ending.cancel());
        held.any = !keys.is_empty();
        held.secret = secret;
        Ok(())
    }

    /// Reads keys again and again until the server stops; while the store is away the last ones are good.
    pub(crate) async fn keep_fresh(self) {
        loop {
            // Cancel-safe: both branches only wait.
            tokio::select! {
                () = self.0.stopping.cancelled() => return,
                () = tokio::time::sleep(REFRESH) => {}
            }
            if let Err(err) = self.refresh().await {
                tracing::warn!(error = %err, "keys are not read again: the last ones are good");
            }
        }
    }

    /// Without any key, now or earlier, everybody is let in.
    pub(crate) fn is_empty(&self) -> bool {
        !self.0.held.read().unwrap_or_else(PoisonError::into_inner).any
    }

    /// What the holder of `secret` may do.
    pub(crate) fn find(&self, secret: &str) -> Option<Access> {
        let held = self.0.held.read().unwrap_or_else(PoisonError::into_inner);
        held.live.get(&ApiKey::digest_of(secret)).cloned()
    }

    fn secret(&self) -> Option<[u8; 32]> {
        self.0.held.read().unwrap_or_else(PoisonError::into_inner).secret
    }

    /// A ticket for reading this job, and when it ends, in milliseconds since 1970.
    pub(crate) async fn ticket(&self, tenant: &TenantId, job: &str) -> Result<(String, u64), ApiError> {
        let secret = match self.secret() {
            Some(secret) => secret,
            None => ask(self.0.keys.shared_secret(random())).await?,
        };
        Ok(ticket::issue(&secret, tenant, job))
    }

    /// Whose job a ticket is for, if it is good for this one.
    pub(crate) fn admits(&self, text: &str, job: &str) -> Option<TenantId> {
        ticket::check(&self.secret()?, text, job)
    }
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    for half in bytes.chunks_mut(16) {
        half.copy_from_slice(Uuid::new_v4().as_bytes());
    }
    bytes
}
