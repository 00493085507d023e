//! How the limits of a pool stand, for who watches them.

use super::Limit;

/// One limit as it stands.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Level {
    pub limit: Limit,
    /// Units a minute, or calls at a time, that are given out: as configured, or less where the provider's headers
    /// and refusals have told so.
    pub units: u64,
    /// Units that may be reserved at once.
    pub left: u64,
    /// Units that were used or are kept by calls beyond what there was: later calls wait until it is paid. What
    /// is kept for places in the line is none.
    pub debt: u64,
    /// The share of it that was used during the last minute, 0 to 1.
    pub used: f64,
}

impl Level {
    /// Of which `used` of `of` was used in the last minute.
    #[must_use]
    pub fn new(limit: Limit, [units, left, debt]: [u64; 3], used: u64, of: u64) -> Self {
        Self { limit, units, left, debt, used: (used as f64 / of.max(1) as f64).min(1.0) }
    }
}

/// A pool as it stands.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Levels {
    /// Of each limit that there is, in the order of [`Limit::ALL`].
    pub limits: Vec<Level>,
    /// Calls that were granted and have not ended.
    pub active: u64,
    /// Calls that were taken for ended since the pool was made, because nobody said for
    /// [`LEASE_TTL`](super::LEASE_TTL) that they go on.
    pub expired: u64,
}
