//! One folder per technology; only `cli` and tests name them.

pub mod embedded;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod pgvector;
