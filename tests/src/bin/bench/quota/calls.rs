//! The provider's ledger, read whole.

use anyhow::Context;
use millhand_common::model::Timestamp;
use millhand_tests::Provider;
use serde_json::Value;

use super::load::Job;

/// One call as the provider has it.
#[derive(Clone, Debug)]
pub(super) struct Call {
    /// Whose it is, by its traceparent.
    pub(super) job: Option<u32>,
    pub(super) at: Timestamp,
    /// Since the provider started.
    pub(super) at_ms: u64,
    /// `None` while it runs.
    pub(super) took_ms: Option<u64>,
    pub(super) status: u64,
    /// Whoever called is gone before its end.
    pub(super) abandoned: bool,
}

impl Call {
    pub(super) fn is_let_in(&self) -> bool {
        self.status == 200
    }
}

/// Every call so far, oldest first.
pub(super) async fn all(provider: &Provider) -> anyhow::Result<Vec<Call>> {
    let (mut calls, mut after) = (Vec::new(), 0);
    loop {
        let page = provider.client().get(&format!("/ledger?after={after}")).await.json();
        for entry in page["calls"].as_array().context("a list of calls")? {
            calls.push(call(entry)?);
        }
        match page["next_after"].as_u64() {
            Some(next) => after = next,
            None => return Ok(calls),
        }
    }
}

fn call(entry: &Value) -> anyhow::Result<Call> {
    let number = |name: &str| entry[name].as_u64();
    let text = |name: &str| entry[name].as_str().unwrap_or_default();
    Ok(Call {
        job: Job::of_trace(text("traceparent")),
        at: text("at").to_owned().try_into()?,
        at_ms: number("at_ms").context("a moment")?,
        took_ms: number("took_ms"),
        status: number("status").context("a status")?,
        abandoned: text("ended") == "abandoned",
    })
}

/// What it has charged so far, and when that was, in milliseconds since it started.
#[derive(Clone, Copy, Debug)]
pub(super) struct Reading {
    pub(super) at_ms: u64,
    charged: u64,
}

impl Reading {
    pub(super) async fn of(provider: &Provider) -> anyhow::Result<Self> {
        let ledger = provider.ledger().await;
        let charged = ledger["limits"][0]["charged"].as_u64().context("a limit")?;
        Ok(Self { at_ms: ledger["up_ms"].as_u64().context("a clock")?, charged })
    }

    /// The share of `per_minute` that was charged since `earlier`, in percent.
    pub(super) fn used_since(self, earlier: Self, per_minute: u64) -> f64 {
        let minutes = (self.at_ms - earlier.at_ms) as f64 / 60_000.0;
        (self.charged - earlier.charged) as f64 * 100.0 / (per_minute as f64 * minutes)
    }
}
