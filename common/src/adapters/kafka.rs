//! The broker on Apache Kafka: a topic per lane, a consumer group of workers.
//!
//! Hints complete out of order; the committed offset is the lowest one that is not complete. A worker
//! acks once its claim is durable, so a slow job holds no partition.

mod broker;
mod consumer;
mod fault;
mod tracker;

pub use broker::{KafkaBroker, KafkaConfig};
