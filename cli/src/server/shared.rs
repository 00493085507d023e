//! Parts that several processes share, on servers of their own.

use std::sync::Arc;

use anyhow::Context;
use millhand_common::adapters::pgvector::{Database, PgvectorOptions};
use millhand_common::adapters::rabbitmq::{RabbitBroker, RabbitConfig};
use millhand_common::adapters::redis::{
    AnswerOptions, LimiterOptions, RedisAnswers, RedisLimiter, RedisOptions, RedisStore,
};
use millhand_common::model::Shares;
use millhand_common::ports::{
    AnswerCache, Broker, Documents, Embedder, Index, Keys, LimitPolicy, RateLimiter,
};
use millhand_common::search::Opened;

use crate::config::{Config, IndexConfig, Secret};

/// For processes that accept or run jobs.
pub(super) async fn redis(config: &Config) -> anyhow::Result<Arc<RedisStore>> {
    open(config, Some(config.shares())).await
}

/// For commands, whose configuration need not be that of the servers.
pub(super) async fn redis_as_it_is(config: &Config) -> anyhow::Result<Arc<RedisStore>> {
    open(config, None).await
}

async fn open(config: &Config, shares: Option<Shares>) -> anyhow::Result<Arc<RedisStore>> {
    let options = RedisOptions {
        keep_jobs: config.retention.jobs,
        keep_events: config.retention.events.min(config.retention.jobs),
        allow_unsafe: config.store.allow_unsafe,
        shares,
        ..RedisOptions::default()
    };
    RedisStore::open(address(config.store.url.as_ref()), options).await.context("[store]")
}

/// The keys, where the jobs are.
pub(crate) async fn keys(config: &Config) -> anyhow::Result<Arc<dyn Keys>> {
    Ok(redis_as_it_is(config).await?)
}

/// The quota of one model, where the jobs are.
pub(super) async fn limiter(
    config: &Config,
    pool: &str,
    policy: &LimitPolicy,
) -> anyhow::Result<Arc<dyn RateLimiter>> {
    let options = LimiterOptions { pool: pool.to_owned(), ..LimiterOptions::default() };
    let url = address(config.store.url.as_ref());
    Ok(Arc::new(RedisLimiter::open(url, options, policy).await.context("its limits")?))
}

/// Answers that workers share, where the jobs are.
pub(super) async fn answers(config: &Config) -> anyhow::Result<Arc<dyn AnswerCache>> {
    let url = address(config.store.url.as_ref());
    Ok(Arc::new(RedisAnswers::open(url, AnswerOptions::default()).await.context("[cache]")?))
}

pub(super) async fn rabbitmq(config: &Config) -> anyhow::Result<Arc<dyn Broker>> {
    let rabbitmq = RabbitConfig {
        url: address(config.broker.url.as_ref()).to_owned(),
        name: config.broker.name(),
        slots: u16::try_from(config.worker.slots).unwrap_or(u16::MAX),
    };
    Ok(Arc::new(RabbitBroker::connect(rabbitmq).await.context("[broker]")?))
}

#[cfg(feature = "kafka")]
pub(super) async fn kafka(config: &Config) -> anyhow::Result<Arc<dyn Broker>> {
    use millhand_common::adapters::kafka::{KafkaBroker, KafkaConfig};

    /// More workers than partitions would idle; it can only be raised later.
    const PARTITIONS: i32 = 32;
    let url = address(config.broker.url.as_ref());
    // `host:9092,host:9092?security.protocol=SASL_SSL&…`: what follows is for librdkafka as it is.
    let (servers, options) = url.split_once('?').unwrap_or((url, ""));
    // As in other addresses: percent-encoded, and a plus sign is one.
    let options = options.replace('+', "%2B");
    let options = url::form_urlencoded::parse(options.as_bytes()).into_owned();
    let kafka = KafkaConfig {
        servers: servers.trim_start_matches("kafka://").to_owned(),
        prefix: config.broker.name(),
        group: "millhand-workers".to_owned(),
        partitions: PARTITIONS,
        replication: None,
        options: options.collect(),
    };
    Ok(Arc::new(KafkaBroker::connect(kafka).await.context("[broker]")?))
}

#[cfg(not(feature = "kafka"))]
pub(super) async fn kafka(_: &Config) -> anyhow::Result<Arc<dyn Broker>> {
    anyhow::bail!("this millhand was built without Kafka: build it with `--features kafka`")
}

/// An index that does not fit this analysis or the embedder is built anew by the first process that sees it.
pub(super) async fn pgvector(
    config: &Config,
    embedder: Option<Arc<dyn Embedder>>,
) -> anyhow::Result<(Arc<dyn Documents>, Arc<dyn Index>)> {
    let database = Database::connect(address(config.index.url.as_ref())).await.context("[index]")?;
    database.check().await.context("[index]")?;
    let documents = Arc::new(database.documents());
    let options = PgvectorOptions { embedder, ..PgvectorOptions::default() };
    let (index, opened) = database.index(options).await.context("[index]")?;
    if let Opened::NeedsRebuild(reason) = opened {
        tracing::info!(reason, "the search index is built anew; this may take a while");
        index.rebuild_from(&*documents).await.context("the search index cannot be built anew")?;
    }
    Ok((documents, Arc::new(index)))
}

/// Whether the tables are there. Changes nothing.
pub(super) async fn check_database(index: &IndexConfig) -> anyhow::Result<()> {
    let database = Database::connect(address(index.url.as_ref())).await?;
    database.check().await?;
    database.close().await;
    Ok(())
}

/// Sets up the tables; the steps taken.
pub(crate) async fn migrate(index: &IndexConfig) -> anyhow::Result<Vec<String>> {
    let database = Database::connect(address(index.url.as_ref())).await.context("[index]")?;
    let steps = database.migrate().await.context("[index]")?;
    database.close().await;
    Ok(steps)
}

/// The rules of the configuration see to it that one is there.
fn address(url: Option<&Secret>) -> &str {
    url.map_or("", Secret::expose)
}
