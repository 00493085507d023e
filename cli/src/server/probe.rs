//! Looks at shared parts from outside, for `millhand doctor`: opens nothing that would change them.

use std::time::{Duration, Instant};

use anyhow::Context;
use futures::StreamExt;
use millhand_common::model::{Lane, Sampling, Timestamp};
use millhand_common::ports::{ChatDelta, ChatMessage, ChatRequest, ChatRole, JobStore, ModelError};

use super::{models, shared};
use crate::config::{BrokerKind, Config, ModelConfig};

/// Longest wait for what a model says to a call of one token.
const CALL_PATIENCE: Duration = Duration::from_secs(10);

/// Whether the shared store can be written; how far its clock is ahead of this machine's, in milliseconds.
pub(crate) async fn store(config: &Config) -> anyhow::Result<i64> {
    let store = shared::redis_as_it_is(config).await?;
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

/// Has a model write one token, as workers would. An error of the call itself is a [`ModelError`].
pub(crate) async fn chat(config: &ModelConfig) -> anyhow::Result<()> {
    let model = models::chat(config)?.context("it is not configured")?;
    let request = ChatRequest {
        messages: vec![ChatMessage::new(ChatRole::User, "Say yes.".to_owned())],
        tools: Vec::new(),
        may_call: false,
        max_output_tokens: Some(1),
        sampling: Sampling::default(),
        deadline: Instant::now() + CALL_PATIENCE,
        traceparent: None,
    };
    let mut answer = model.stream(request).await?;
    while let Some(delta) = answer.next().await {
        if !matches!(delta?, ChatDelta::Limits(_)) {
            return Ok(());
        }
    }
    Err(ModelError::Malformed("nothing".to_owned()).into())
}

/// Has the embedder make one vector.
pub(crate) async fn embedder(config: &Config) -> anyhow::Result<()> {
    let embedder = models::embedder(config, &[])?.context("it is not configured")?;
    embedder.model().embed(&["yes".to_owned()], Instant::now() + CALL_PATIENCE).await?;
    Ok(())
}

/// Has the reranker score one text.
pub(crate) async fn reranker(config: &Config) -> anyhow::Result<()> {
    let reranker = models::reranker(config, &[])?.context("it is not configured")?;
    reranker.model().rerank("yes", &["yes"], Instant::now() + CALL_PATIENCE).await?;
    Ok(())
}
