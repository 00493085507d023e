//! Each adapter that speaks to a real server is held to the suite of its port, on that server.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod kafka;
mod pgvector;
mod rabbitmq;
mod redis;
