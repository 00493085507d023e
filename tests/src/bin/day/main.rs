//! `just day [SECONDS]`: a day in the life of a mill, in minutes, on this machine: RabbitMQ, Redis, a provider in
//! a box, two ingresses, and workers that `millhand scale` starts and drains. Everything that happens on such a day
//! happens to it, under load; the last page says what became of the work, and ends with an error if any was lost.
//!
//! It starts on an older commit's binary (`tests/older` builds it, before the clock starts) and ends on this one.

mod load;
mod mill;
mod plot;
mod report;
mod script;
mod watch;

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};

use mill::Mill;

/// Of a whole day.
///
/// Source: everything is to be over within ten minutes, with what starts before it (half a minute) and the evening
/// after it (a minute).
const LENGTH: Duration = Duration::from_secs(440);
const SHORTEST: Duration = Duration::from_secs(60);
const FOLDER: &str = "target/day";

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let length = match std::env::args().nth(1) {
        None => LENGTH,
        Some(seconds) => Duration::from_secs(seconds.parse().context("day takes a number of seconds")?),
    };
    ensure!(length >= SHORTEST, "a day has {} seconds at least", SHORTEST.as_secs());
    let folder = PathBuf::from(FOLDER);
    let older = folder.join("millhand");
    ensure!(older.is_file(), "there is no older binary: run tests/older, or `just day`");

    let mill = Mill::start(&older).await?;
    let seen = script::play(mill, length).await?;
    let report = report::Report::of(&seen);
    std::fs::write(folder.join("day.svg"), plot::svg(&seen))?;
    let text = report.to_string();
    std::fs::write(folder.join("report.txt"), &text)?;
    println!("{text}\n{}/report.txt and day.svg hold it.", folder.display());
    report.verdict()
}
