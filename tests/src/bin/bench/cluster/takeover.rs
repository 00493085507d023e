//! How long the jobs of a worker that died, or froze, wait for another one.

use std::time::{Duration, SystemTime};

use anyhow::ensure;
use futures::future::join_all;
use hdrhistogram::Histogram;
use millhand_common::model::Timestamp;
use millhand_tests::servers::Kind;
use rustix::process::Signal;
use serde_json::Value;

use crate::table::Table;

use super::stack::Stack;

/// Under way when a worker is struck; half of them are its own.
const JOBS: usize = 16;
/// They run for a second and a half.
const QUESTION: &str = "tokens=30 gap=50";

pub(super) async fn measure(table: &mut Table, stack: &mut Stack, kills: usize) -> anyhow::Result<()> {
    let most = match stack.queue.kind() {
        Kind::RabbitMq => 1.0,
        Kind::Kafka => 5.0,
    };
    let (mut killed, mut frozen) = (Histogram::new(3)?, Histogram::new(3)?);
    for turn in 0..kills {
        strike(stack, turn, false, &mut killed).await?;
    }
    for turn in 0..kills.div_ceil(2) {
        strike(stack, turn, true, &mut frozen).await?;
    }
    for (what, times, most) in [("kill -9", killed, most), ("a freeze", frozen, 15.0)] {
        ensure!(!times.is_empty(), "no job was taken over after {what}");
        for (text, quantile) in [("p50", 0.5), ("p99", 0.99)] {
            let seconds = times.value_at_quantile(quantile) as f64 / 1000.0;
            let what = format!("{}: takeover after {what} {text} ({} jobs)", stack.name(), times.len());
            let aim = (quantile > 0.9).then(|| format!("<= {most} s"));
            let met = aim.is_some().then_some(seconds <= most);
            table.row(&what, (seconds, None, "s"), &aim.unwrap_or_default(), met);
        }
    }
    Ok(())
}

/// Strikes one worker while it works, and mends it.
async fn strike(
    stack: &mut Stack,
    turn: usize,
    freeze: bool,
    times: &mut Histogram<u64>,
) -> anyhow::Result<()> {
    // The broker has dealt with the strike before this one.
    run(stack, "tokens=1 gap=0").await;
    let client = stack.api.client.clone();
    let jobs = join_all((0..JOBS).map(|_| client.chat(QUESTION))).await;
    let has_text = |events: &[String]| events.iter().any(|event| event.contains("output_text.delta"));
    join_all(jobs.iter().map(|job| client.sse(job, 0, has_text))).await;
    let worker = turn % stack.workers.len();
    let at = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?;
    if freeze {
        stack.workers[worker].signal(Signal::STOP);
    } else {
        stack.kill(worker).await;
    }
    let logs = join_all(jobs.iter().map(|job| client.sse(job, 0, |_| false))).await;
    if freeze {
        stack.workers[worker].signal(Signal::CONT);
    } else {
        stack.work(2).await;
    }
    for log in logs {
        ensure!(
            log.last().is_some_and(|end| end.contains("job.completed")),
            "a job did not end well: {log:?}"
        );
        for event in log {
            let event: Value = serde_json::from_str(&event)?;
            if event["type"] == "attempt.started" && event["attempt"].as_u64() > Some(1) {
                let started: Timestamp = event["at"].as_str().unwrap_or_default().to_owned().try_into()?;
                let waited = Duration::from_millis(started.as_millis()).saturating_sub(at);
                times.record(u64::try_from(waited.as_millis())?.max(1))?;
            }
        }
    }
    Ok(())
}

/// Some jobs from accept to end.
async fn run(stack: &Stack, question: &str) {
    let client = &stack.api.client;
    join_all((0..JOBS).map(|_| async { client.finished(&client.chat(question).await).await })).await;
}
