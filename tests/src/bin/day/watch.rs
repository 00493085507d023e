//! Looks at everything once a second.

use std::time::Duration;

use millhand_tests::Client;
use millhand_tests::load::Address;
use serde_json::Value;
use tokio::sync::watch;
use tokio::time::Instant;

const EVERY: Duration = Duration::from_secs(1);

/// One look.
pub(crate) struct Sample {
    pub(crate) at: Duration,
    /// Jobs that could start.
    pub(crate) ready: f64,
    /// Workers that take jobs.
    pub(crate) workers: f64,
    /// Calls that the provider has let in so far.
    pub(crate) calls: f64,
    /// What it allows per minute now.
    pub(crate) limit: f64,
    /// What all calls have cost so far.
    pub(crate) usd: f64,
}

/// Looks until it is over. What does not answer, because it is being replaced, is not looked at.
pub(crate) async fn watch(
    desk: Address,
    provider: Client,
    start: Instant,
    mut over: watch::Receiver<bool>,
) -> Vec<Sample> {
    let mut samples = Vec::new();
    loop {
        let operator = desk.borrow().clone();
        let looked = futures::join!(
            ready(&operator),
            workers(&operator),
            asked(&provider, "/ledger?limit=1"),
            asked(&provider, "/control")
        );
        if let (Some(ready), Some(workers), Some(ledger), Some(control)) = looked {
            let totals = &ledger["totals"];
            samples.push(Sample {
                at: start.elapsed(),
                ready,
                workers: workers as f64,
                calls: totals["let_in"].as_f64().unwrap_or_default(),
                limit: control["quota"]["requests_per_minute"].as_f64().unwrap_or(f64::NAN),
                usd: totals["nano_usd"].as_f64().unwrap_or_default() / 1e9,
            });
        }
        // Cancel-safe: both branches only wait.
        tokio::select! {
            _ = over.changed() => return samples,
            () = tokio::time::sleep(EVERY) => {}
        }
    }
}

async fn asked(client: &Client, path: &str) -> Option<Value> {
    let answer = client.try_get(path).await.ok()?;
    (answer.status == 200).then(|| answer.json())
}

async fn ready(operator: &Client) -> Option<f64> {
    let queues = asked(operator, "/v1/queues").await?;
    Some(queues["data"].as_array()?.iter().filter_map(|lane| lane["ready"].as_f64()).sum())
}

/// Workers that take jobs.
pub(crate) async fn workers(operator: &Client) -> Option<usize> {
    let workers = asked(operator, "/v1/workers").await?;
    Some(workers["data"].as_array()?.iter().filter(|worker| worker["draining"] == false).count())
}
