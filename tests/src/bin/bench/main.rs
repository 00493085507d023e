//! `just bench`: what durability costs, as ratios against two floors that run on the same machine in the
//! same minutes. One floor appends the same bytes with the same engine and nothing else; the other is a
//! server that streams the same model's tokens to the client with no queue and no store.
//!
//! Product, floor and model are processes of their own. Each measurement is made in rounds in which the
//! floor and we take turns; a figure is the median of its rounds. Latency is counted from the moment a
//! request was due, so a server that stalls is charged for everybody who waited.

mod accepts;
mod client;
mod cluster;
mod disk;
mod floor;
mod jobs;
mod load;
mod overload;
mod peer;
mod provider;
mod quota;
mod storm;
mod streams;
mod table;
mod tenant;

use anyhow::bail;
use table::Table;

/// Rounds of each measurement.
const ROUNDS: usize = 3;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let args: Vec<String> = std::env::args().skip(1).collect();
    let words: Vec<&str> = args.iter().map(String::as_str).collect();
    match words[..] {
        ["provider"] => provider::serve().await,
        ["floor", model] => floor::serve(model).await,
        [] => measure("").await,
        ["only", part] => measure(part).await,
        ["cluster", ref wanted @ ..] => cluster::measure(wanted).await,
        ["quota", ref wanted @ ..] => quota::measure(wanted).await,
        ["overload"] => {
            overload::measure().await?;
            storm::measure().await;
            Ok(())
        }
        ["overload", "only", "storm"] => {
            storm::measure().await;
            Ok(())
        }
        _ => bail!(
            "bench takes no arguments, or: only accepts|jobs|streams, or: overload [only storm], or: cluster|quota [...]"
        ),
    }
}

async fn measure(only: &str) -> anyhow::Result<()> {
    let mut table = Table::default();
    let wanted = |part: &str| only.is_empty() || only == part;
    if wanted("accepts") {
        accepts::measure(&mut table).await?;
    }
    if wanted("jobs") {
        jobs::measure(&mut table).await?;
    }
    if wanted("streams") {
        streams::measure(&mut table).await?;
    }
    println!("{table}");
    Ok(())
}

/// The middle one.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}
