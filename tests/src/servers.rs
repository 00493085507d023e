//! Real servers, as real processes on loopback, each with a folder and ports of its own. They end with
//! the test program, however it ends.

mod certificates;
mod kafka;
mod nginx;
mod pgbouncer;
mod postgres;
mod process;
mod prometheus;
mod queue;
mod rabbitmq;
mod redis;

pub use certificates::certify;
pub use kafka::Kafka;
pub use nginx::Nginx;
pub use pgbouncer::PgBouncer;
pub use postgres::Postgres;
pub use process::{Process, free_port};
pub use prometheus::Prometheus;
pub use queue::{Kind, Queue};
pub use rabbitmq::RabbitMq;
pub use redis::{Redis, RedisCluster};
