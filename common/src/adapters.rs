//! One folder per technology; only `cli` and tests name them.

pub mod embedded;
mod ending;
pub mod pgvector;
pub mod redis;
