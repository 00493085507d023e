//! The provider halves the limit under load, and says so in its headers only.

use std::time::Duration;

use serde_json::json;
use tokio::time::sleep_until;

use crate::table::Table;

use super::WORKERS;
use super::calls::Reading;
use super::load::{self, OVERLOAD, Start};
use super::mode::{Mode, TOKENS_PER_MINUTE};
use super::product::{Product, submit};

const BEFORE: Duration = Duration::from_secs(15);
/// What it may take to be steady again.
const SETTLING: Duration = Duration::from_secs(5);
const AFTER: Duration = Duration::from_secs(20);
const HALF: u64 = TOKENS_PER_MINUTE / 2;

pub(super) async fn measure(table: &mut Table) -> anyhow::Result<()> {
    let product = Product::start(Mode::Bucket).await;
    let jobs = load::jobs(Mode::Bucket.allowed() * OVERLOAD, BEFORE + SETTLING + AFTER);
    let start = Start::now();
    let limited = async || product.provider.ledger().await["totals"]["limited"].as_f64().unwrap_or(f64::NAN);
    let halving = async {
        sleep_until(start.at + BEFORE).await;
        let before = limited().await;
        product.provider.control(json!({"quota": {"tokens_per_minute": HALF}})).await;
        sleep_until(start.at + BEFORE + SETTLING).await;
        let (from, settling) = (Reading::of(&product.provider).await?, limited().await);
        sleep_until(start.at + BEFORE + SETTLING + AFTER).await;
        let (to, after) = (Reading::of(&product.provider).await?, limited().await);
        anyhow::Ok((settling - before, after - settling, to.used_since(from, HALF)))
    };
    let (_, (settling, after, used)) =
        futures::try_join!(submit(&product.api.client, None, &jobs, start), halving)?;
    let most = WORKERS as f64;
    let row = ("limit halved live: 429s within 5 s", (settling, None, ""));
    table.row(row.0, row.1, "<= 1 a worker", Some(settling <= most));
    table.row("the same: 429s in the next 20 s", (after, None, ""), "0", Some(after == 0.0));
    table.row("the same: quota used meanwhile", (used, None, "%"), "", None);
    Ok(())
}
