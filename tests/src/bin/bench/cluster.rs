//! `just bench-cluster`: the product as one ingress and two workers on a real broker and a real Redis,
//! against floors that run in the same minutes on the same servers.
//!
//! The aims that name Node are what a stack of Fastify and BullMQ reaches in the same run, as ratios to the
//! same floor server: it syncs its Redis once a second and keeps no log of events.

mod accepts;
mod hop;
mod jobs;
mod node;
mod raw;
mod stack;
mod starts;
mod takeover;

use anyhow::{Context, bail};
use millhand_tests::servers::Kind;

use crate::table::Table;
use stack::Stack;

/// What to measure, and how much of it.
struct Wanted {
    kinds: Vec<Kind>,
    /// Jobs that are accepted and then drained.
    queued: usize,
    /// Workers killed; half as many are frozen.
    kills: usize,
    only: Option<String>,
}

impl Wanted {
    fn parse(words: &[&str]) -> anyhow::Result<Self> {
        let mut wanted =
            Self { kinds: vec![Kind::RabbitMq, Kind::Kafka], queued: 10_000, kills: 6, only: None };
        let mut words = words.iter();
        while let Some(word) = words.next() {
            let mut value = || words.next().copied().with_context(|| format!("{word} what?"));
            match *word {
                "rabbitmq" => wanted.kinds = vec![Kind::RabbitMq],
                "kafka" => wanted.kinds = vec![Kind::Kafka],
                "--queued" => wanted.queued = value()?.parse()?,
                "--kills" => wanted.kills = value()?.parse()?,
                "only" => wanted.only = Some(value()?.to_owned()),
                _ => bail!(
                    "bench cluster takes rabbitmq|kafka, --queued N, --kills N, only accepts|jobs|takeovers|starts"
                ),
            }
        }
        Ok(wanted)
    }

    fn has(&self, part: &str) -> bool {
        self.only.as_ref().is_none_or(|only| only == part)
    }
}

pub(crate) async fn measure(words: &[&str]) -> anyhow::Result<()> {
    let wanted = Wanted::parse(words)?;
    let mut table = Table::default();
    let node = if wanted.has("jobs") { Some(node::measure(&mut table).await?) } else { None };
    for kind in &wanted.kinds {
        let mut stack = Stack::start(*kind).await?;
        if wanted.has("accepts") {
            accepts::measure(&mut table, &mut stack, wanted.queued).await?;
        }
        stack.work(2).await;
        stack.calm().await?;
        if let Some(node) = &node {
            jobs::measure(&mut table, &stack, node).await?;
        }
        if wanted.has("takeovers") {
            takeover::measure(&mut table, &mut stack, wanted.kills).await?;
        }
        if wanted.has("starts") {
            starts::measure(&mut table, &stack).await;
        }
    }
    println!("{table}");
    Ok(())
}
