//! The floor of a token's way: a bare XADD and PUBLISH to the store's own Redis, and a subscriber.

use std::time::{Duration, Instant};

use anyhow::Context;
use futures::StreamExt;
use hdrhistogram::Histogram;
use tokio::task::JoinSet;

use crate::provider::now_ns;

const CHANNEL: &str = "bench:hop";
const TOKENS: u32 = 20;
const GAP: Duration = Duration::from_millis(15);

/// Times in microseconds from before the write to the subscriber having it, under streams that begin at
/// this rate and write as quick models do: what [`PACED`](crate::jobs::PACED) asks of the product.
pub(super) async fn bare(url: &str, (rate, seconds): (f64, f64)) -> anyhow::Result<Histogram<u64>> {
    let client = redis::Client::open(url)?;
    let mut subscriber = client.get_async_pubsub().await?;
    subscriber.subscribe(CHANNEL).await?;
    let mut news = subscriber.into_on_message();
    let writer = client.get_multiplexed_async_connection().await?;
    let streams = (rate * seconds) as u32;
    let writing = async {
        let mut all = JoinSet::new();
        let start = Instant::now();
        for stream in 0..streams {
            let due = Duration::from_secs_f64(f64::from(stream) / rate);
            tokio::time::sleep(due.saturating_sub(start.elapsed())).await;
            let mut writer = writer.clone();
            all.spawn(async move {
                let key = format!("bench:{stream}");
                for _ in 0..TOKENS {
                    tokio::time::sleep(GAP).await;
                    let event = format!("1 1764000000000 output_text.delta {{\"text\":\"{} \"}}", now_ns());
                    let mut both = redis::pipe();
                    both.cmd("XADD").arg(&key).arg("*").arg("e").arg(&event).ignore();
                    both.cmd("PUBLISH").arg(CHANNEL).arg(&event).ignore();
                    both.query_async::<()>(&mut writer).await?;
                }
                redis::cmd("DEL").arg(&key).query_async::<()>(&mut writer).await
            });
        }
        while let Some(ended) = all.join_next().await {
            ended??;
        }
        anyhow::Ok(())
    };
    let reading = async {
        let mut times = Histogram::new(3)?;
        for _ in 0..streams * TOKENS {
            let message = news.next().await.context("the subscription ended")?;
            let now = now_ns();
            let event: String = message.get_payload()?;
            let written = event.split('"').nth(3).context("a text")?.trim().parse::<u64>()?;
            times.record((now.saturating_sub(written) / 1000).max(1))?;
        }
        anyhow::Ok(times)
    };
    let ((), times) = futures::try_join!(writing, reading)?;
    Ok(times)
}
