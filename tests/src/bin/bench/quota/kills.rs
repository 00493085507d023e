//! Workers die every five seconds: which calls are made again?

use std::collections::HashMap;
use std::time::Duration;

use anyhow::ensure;
use futures::{StreamExt, TryStreamExt, stream};
use millhand_common::model::Timestamp;
use millhand_tests::Client;
use serde_json::Value;
use tokio::time::sleep_until;

use crate::table::Table;

use super::WORKERS;
use super::calls::{self, Call, Reading};
use super::load::{self, Start};
use super::mode::Mode;
use super::product::{Product, submit};

const EVERY: Duration = Duration::from_secs(5);
/// Of what the quota allows: every job is to be answered soon after the last kill.
const LOAD: f64 = 0.8;
/// The provider notices within this that its caller is gone.
const NOTICED_MS: u64 = 100;
/// The end of an answer is in the worker's log within this: until then it is lost with its worker.
const JOURNALED_MS: u64 = 100;

/// A worker's death, between two moments of the provider's clock.
struct Kill {
    from_ms: u64,
    to_ms: u64,
}

pub(super) async fn measure(table: &mut Table, kills: u32) -> anyhow::Result<()> {
    let mut product = Product::start(Mode::Bucket).await;
    let jobs = load::jobs(Mode::Bucket.allowed() * LOAD, EVERY * (kills + 1));
    let start = Start::now();
    let client = product.api.client.clone();
    let killing = async {
        let mut deaths = Vec::new();
        for n in 1..=kills {
            sleep_until(start.at + EVERY * n).await;
            // The oldest one.
            let worker = product.workers.remove(0);
            let from_ms = Reading::of(&product.provider).await?.at_ms;
            worker.kill9().await;
            let to_ms = Reading::of(&product.provider).await?.at_ms;
            deaths.push(Kill { from_ms, to_ms });
            product.work(WORKERS).await;
        }
        anyhow::Ok(deaths)
    };
    let (ids, deaths) = futures::try_join!(submit(&client, None, &jobs, start), killing)?;
    let logs: Vec<Vec<Value>> =
        stream::iter(&ids).map(|id| log(&client, id)).buffered(32).try_collect().await?;
    let calls = calls::all(&product.provider).await?;
    let mut of_job: HashMap<u32, Vec<&Call>> = HashMap::new();
    for call in calls.iter().filter(|call| call.is_let_in()) {
        of_job.entry(call.job.unwrap_or(u32::MAX)).or_default().push(call);
    }
    let mut repeats = 0_usize;
    let mut of_journaled = 0_usize;
    for (job, log) in (0..).zip(&logs) {
        let made = of_job.get(&job).map_or(&[][..], Vec::as_slice);
        ensure!(!made.is_empty(), "job {job} was answered without a call");
        repeats += made.len() - 1;
        if let Some(journaled) = moment(log, "step.completed")? {
            of_journaled += made.iter().filter(|call| call.at > journaled).count();
        }
    }
    let hit = |call: &Call| deaths.iter().any(|kill| kill.hit(call));
    let abandoned = calls.iter().filter(|call| call.abandoned && hit(call)).count();
    ensure!(abandoned > 0, "no worker was killed with a call under way");
    // Answered, but not written down: all but the last call of a job were of no use to it.
    let useless = of_job.values().flat_map(|made| made.iter().rev().skip(1));
    let unwritten = useless.filter(|call| !call.abandoned && hit(call)).count();
    let in_flight = abandoned + unwritten;
    let what = format!(
        "{kills} workers killed, one every 5 s, {} jobs: calls of journaled steps made again",
        jobs.len()
    );
    table.row(&what, (of_journaled as f64, None, ""), "0", Some(of_journaled == 0));
    let row = (repeats as f64, Some(in_flight as f64), "");
    table.row(
        "the same: calls made again, against those in flight at the kills",
        row,
        "<= 1 x",
        Some(repeats <= in_flight),
    );
    Ok(())
}

impl Kill {
    /// Whether the call ended as one of the worker's would have.
    fn hit(&self, call: &Call) -> bool {
        let ended = call.took_ms.map_or(u64::MAX, |took| call.at_ms + took);
        let window = match call.abandoned {
            true => self.from_ms..=self.to_ms + NOTICED_MS,
            false => self.from_ms.saturating_sub(JOURNALED_MS)..=self.to_ms,
        };
        call.is_let_in() && window.contains(&ended)
    }
}

/// The whole log of a job that must be answered.
async fn log(client: &Client, id: &str) -> anyhow::Result<Vec<Value>> {
    let ended = client.finished(id).await;
    ensure!(ended["status"] == "completed", "a job was not answered: {ended}");
    let events = client.log(id, 0).await;
    Ok(events.iter().map(|event| serde_json::from_str(event)).collect::<Result<_, _>>()?)
}

/// When the first event of this kind was written.
fn moment(log: &[Value], kind: &str) -> anyhow::Result<Option<Timestamp>> {
    let event = log.iter().find(|event| event["type"] == kind);
    let at = event.map(|event| event["at"].as_str().unwrap_or_default().to_owned());
    Ok(at.map(Timestamp::try_from).transpose()?)
}
