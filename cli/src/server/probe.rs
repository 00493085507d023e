//! Looks at shared parts from outside, for `millhand doctor`: opens nothing that would change them.

use anyhow::Context;
use millhand_common::model::{Lane, Timestamp};
use millhand_common::ports::JobStore;

use super::shared;
use crate::config::{BrokerKind, Config};

/// Whether the shared store can be written; how far its clock is ahead of this machine's, in milliseconds.
pub(crate) async fn store(config: &Config) -> anyhow::Result<i64> {
    let store = shared::redis(config).await?;
    store.ready().await.context("it cannot be written")?;
    let before = Timestamp::now().as_millis();
    // A version is the store's time in microseconds, or just above the last one.
    let theirs = store.stamp().await? / 1000;
    let ours = before.midpoint(Timestamp::now().as_millis());
    Ok(i64::try_from(theirs).unwrap_or(i64::MAX) - i64::try_from(ours).unwrap_or(i64::MAX))
}

/// Hints in the queue, over all lanes.
pub(crate) async fn broker(config: &Config) -> anyhow::Result<u64> {
    let broker = match config.broker.kind {
        BrokerKind::Embedded => return Ok(0),
        BrokerKind::Kafka => shared::kafka(config).await?,
        BrokerKind::Rabbitmq => shared::rabbitmq(config).await?,
    };
    let mut hints = 0;
    for lane in Lane::ALL {
        hints += broker.depth(lane).await?;
    }
    Ok(hints)
}

/// Whether the database is there, and set up as this version needs it.
pub(crate) async fn index(config: &Config) -> anyhow::Result<()> {
    shared::check_database(&config.index).await
}
