//! One folder per technology; only `cli` and tests name them.

pub mod embedded;
pub mod pgvector;
