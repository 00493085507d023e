//! How a Redis store is opened.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use crate::model::{Shares, Timestamp};
use crate::ports::StoreError;

/// How the store keeps things.
#[derive(Clone, Debug)]
pub struct RedisOptions {
    /// What every key starts with: stores of different prefixes share a server and nothing else.
    pub prefix: String,
    /// Jobs are removed this long after their end.
    pub keep_jobs: Duration,
    /// Logs are removed this long after the end of their job.
    pub keep_events: Duration,
    /// How long one operation may take, connecting and repeating included. Well below the 3 s between
    /// renewals of a lease of 10 s.
    pub patience: Duration,
    /// Serve on a server that can lose what it has confirmed, with a warning.
    pub allow_unsafe: bool,
    pub clock: StoreClock,
    /// Written when the store is opened: what the process that started last was told holds for all. `None`
    /// leaves them as they are: for programs that neither accept nor run jobs.
    pub shares: Option<Shares>,
}

impl Default for RedisOptions {
    fn default() -> Self {
        Self {
            prefix: "millhand".to_owned(),
            keep_jobs: Duration::from_secs(7 * 24 * 3600),
            keep_events: Duration::from_secs(24 * 3600),
            patience: Duration::from_millis(2500),
            allow_unsafe: false,
            clock: StoreClock::Server,
            shares: None,
        }
    }
}

/// Whose time it is.
#[derive(Clone, Debug)]
pub enum StoreClock {
    /// The server's that runs the operation.
    Server,
    /// One that tests move by hand; shared by clones.
    Manual(Arc<AtomicU64>),
}

impl StoreClock {
    /// A clock that stands still until [`Self::advance`].
    #[must_use]
    pub fn manual() -> Self {
        Self::Manual(Arc::new(AtomicU64::new(Timestamp::now().as_millis())))
    }

    /// Moves a manual clock on; the server's is left alone.
    pub fn advance(&self, by: Duration) {
        if let Self::Manual(millis) = self {
            millis.fetch_add(u64::try_from(by.as_millis()).unwrap_or(u64::MAX), Ordering::SeqCst);
        }
    }

    /// The time of a manual clock.
    #[must_use]
    pub fn manual_now(&self) -> Option<Timestamp> {
        match self {
            Self::Server => None,
            Self::Manual(millis) => Some(Timestamp::from_millis(millis.load(Ordering::SeqCst))),
        }
    }
}

/// Why a store cannot be opened.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("the address of redis is not taken: {0}")]
    Url(String),
    #[error("redis at {address} cannot be used: {reason}")]
    Login { address: String, reason: String },
    #[error(transparent)]
    Store(#[from] StoreError),
    /// P1-P3 would not hold on it.
    #[error(
        "redis at {address} can lose what it has confirmed: {reason}; or set `allow_unsafe = true` in [store]"
    )]
    Unsafe { address: String, reason: String },
    #[error("redis at {address} is version {found}; 7.0 or later is needed")]
    TooOld { address: String, found: String },
    #[error(
        "the data at prefix `{prefix}` has format {found}, this program writes {ours}; use a program that knows it"
    )]
    Format { prefix: String, found: String, ours: &'static str },
}
