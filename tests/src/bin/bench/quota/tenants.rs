//! A quiet tenant, and another one whose jobs wait for the same quota by the hundred.

use std::time::Duration;

use anyhow::ensure;
use tokio::time::sleep_until;

use crate::table::Table;
use crate::tenant::{keys, p95, records};

use super::load::{self, OVERLOAD, Start};
use super::mode::Mode;
use super::product::{Product, submit};

/// Jobs a second of the quiet tenant: a fifteenth of what the quota allows.
const QUIET_RATE: f64 = 2.0;
const MEASURED: Duration = Duration::from_secs(30);
/// Until the other one's jobs stand in a long line.
const AHEAD: Duration = Duration::from_secs(15);

pub(super) async fn measure(table: &mut Table) -> anyhow::Result<()> {
    let product = Product::start(Mode::Bucket).await;
    let client = &product.api.client;
    let [noisy, quiet] = keys(&product.redis, client).await?;
    let few = load::jobs(QUIET_RATE, MEASURED);
    let quiet_jobs = async || {
        let ids = submit(client, Some(quiet.as_str()), &few, Start::now()).await?;
        let jobs = records(client, &quiet, &ids).await?;
        let completed = jobs.iter().filter(|job| job["status"] == "completed").count();
        ensure!(completed == jobs.len(), "the quiet tenant's jobs: {completed} of {} completed", jobs.len());
        anyhow::Ok(jobs)
    };
    let alone = quiet_jobs().await?;
    let many = load::jobs(Mode::Bucket.allowed() * OVERLOAD, AHEAD + MEASURED);
    let start = Start::now();
    let beside = async {
        sleep_until(start.at + AHEAD).await;
        let jobs = quiet_jobs().await?;
        let asked = client.request("GET", "/v1/jobs?status=queued&limit=100").bearer_auth(&noisy);
        let line = client.send(asked).await?.json();
        let queued = line["data"].as_array().map_or(0, Vec::len);
        ensure!(queued == 100, "the other tenant's line was {queued} jobs long");
        anyhow::Ok(jobs)
    };
    let (_, beside) = futures::try_join!(submit(client, Some(noisy.as_str()), &many, start), beside)?;
    let (beside, alone) = (p95(&beside), p95(&alone));
    let met = beside <= 1.25 * alone;
    let what = "quiet tenant beside a noisy one, p95 to the end, against alone";
    table.row(what, (beside, Some(alone), "s"), "<= 1.25", Some(met));
    Ok(())
}
