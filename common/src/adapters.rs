//! One folder per technology; only `cli` and tests name them.

pub mod embedded;
mod ending;
#[cfg(feature = "kafka")]
pub mod kafka;
pub mod local;
pub mod pgvector;
pub mod rabbitmq;
pub mod redis;
mod said;
