//! What became of the work.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use anyhow::ensure;
use millhand_common::model::Timestamp;
use millhand_tests::load::History;
use millhand_tests::log::check_log;
use serde_json::Value;

use crate::script::Seen;

pub(crate) struct Report {
    accepted: usize,
    completed: usize,
    /// Accepted and without an end.
    lost: usize,
    /// Jobs that nobody asked for: a second one for a key, or one in the store for none.
    doubled: usize,
    /// Calls for work whose result was in the log already.
    bought_again: usize,
    /// Answers whose log does not tell.
    unjournaled: usize,
    /// Calls whose result nobody had written down: they are bought again, and said to be in doubt.
    in_doubt: usize,
    calls: usize,
    limited: u64,
    usd: f64,
    /// Attempts beyond the first of each job.
    more_attempts: u64,
    /// Connections of readers beyond the first.
    resumed: u32,
    /// Submits that were refused or not answered, and made again.
    refused: u32,
    parts: Vec<PartOf>,
    took: Duration,
    back_at_min: Option<Duration>,
    broken: Vec<String>,
}

/// One part of the day.
struct PartOf {
    name: &'static str,
    from: Duration,
    jobs: usize,
    /// From accept to the last token, in seconds.
    p50: f64,
    p95: f64,
    deepest: f64,
    workers: (f64, f64),
}

impl Report {
    pub(crate) fn of(seen: &Seen) -> Self {
        let histories = &seen.histories;
        for history in histories {
            check_log(&history.job, &history.streamed);
        }
        let ids: HashSet<&String> = histories.iter().flat_map(|history| &history.ids).collect();
        let paid = paid(seen);
        let completed: Vec<&History> =
            histories.iter().filter(|history| history.job["status"] == "completed").collect();
        let calls: usize = paid.values().map(Vec::len).sum();
        let needed = completed.iter().filter(|history| paid.contains_key(history.key.as_str())).count();
        let journals: Vec<Option<usize>> =
            completed.iter().map(|history| bought_again(history, &paid)).collect();
        let bought_again = journals.iter().flatten().sum();
        Self {
            accepted: ids.len() + seen.broken.len(),
            completed: completed.len(),
            lost: seen.broken.len() + histories.len().saturating_sub(ids.len()),
            doubled: ids.len().saturating_sub(histories.len())
                + seen.kept.saturating_sub(ids.len() + seen.broken.len()),
            bought_again,
            unjournaled: journals.iter().filter(|journal| journal.is_none()).count(),
            in_doubt: calls.saturating_sub(needed + bought_again),
            calls,
            limited: seen.ledger["totals"]["limited"].as_u64().unwrap_or_default(),
            usd: seen.ledger["totals"]["nano_usd"].as_f64().unwrap_or_default() / 1e9,
            more_attempts: histories
                .iter()
                .map(|history| history.job["attempt"].as_u64().unwrap_or_default().saturating_sub(1))
                .sum(),
            resumed: histories.iter().map(|history| history.connections.saturating_sub(1)).sum(),
            refused: histories.iter().map(|history| history.refused).sum(),
            parts: parts(seen),
            took: seen.took,
            back_at_min: seen.back_at_min,
            broken: seen.broken.clone(),
        }
    }

    /// An error when a promise was broken.
    pub(crate) fn verdict(&self) -> anyhow::Result<()> {
        ensure!(self.lost == 0, "{} jobs were lost:\n{}", self.lost, self.broken.join("\n"));
        ensure!(self.doubled == 0, "{} jobs exist that nobody asked for", self.doubled);
        ensure!(self.bought_again == 0, "{} journaled steps were bought again", self.bought_again);
        ensure!(self.unjournaled == 0, "{} answers have no journal", self.unjournaled);
        ensure!(
            self.completed == self.accepted,
            "only {} of {} were answered",
            self.completed,
            self.accepted
        );
        Ok(())
    }
}

/// The moments of the calls that the provider let in, by the job's marker.
fn paid(seen: &Seen) -> HashMap<&str, Vec<u64>> {
    let mut paid: HashMap<&str, Vec<u64>> = HashMap::new();
    for call in seen.calls.iter().filter(|call| call.status == 200) {
        let marker = call.question.split_whitespace().next().unwrap_or_default();
        paid.entry(marker).or_default().extend(moment(&call.entry["at"]));
    }
    paid
}

/// Calls that began after the log had the result of the first; `None` when it never had one.
fn bought_again(history: &History, paid: &HashMap<&str, Vec<u64>>) -> Option<usize> {
    let mut events = history.streamed.iter().filter_map(|event| serde_json::from_str::<Value>(event).ok());
    // A job of the day makes one kind of step.
    let journaled =
        events.find(|event| event["type"] == "step.completed" && event["data"]["kind"] == "model_call")?;
    let at = moment(&journaled["at"])?;
    let calls = paid.get(history.key.as_str());
    Some(calls.map_or(0, |calls| calls.iter().filter(|call| **call > at).count()))
}

fn moment(at: &Value) -> Option<u64> {
    Timestamp::try_from(at.as_str()?.to_owned()).ok().map(Timestamp::as_millis)
}

/// When a job came and how long it took, in seconds from the first job's accept.
pub(crate) fn latencies(seen: &Seen) -> Vec<(f64, f64)> {
    let times = |job: &Value| Some((moment(&job["created_at"])?, moment(&job["finished_at"])?));
    let all: Vec<(u64, u64)> = seen.histories.iter().filter_map(|history| times(&history.job)).collect();
    let first = all.iter().map(|(created, _)| *created).min().unwrap_or_default();
    let seconds = |millis: u64| millis as f64 / 1000.0;
    let mut all: Vec<(f64, f64)> = all
        .into_iter()
        .map(|(created, finished)| (seconds(created - first), seconds(finished.saturating_sub(created))))
        .collect();
    all.sort_by(|a, b| a.0.total_cmp(&b.0));
    all
}

/// A quantile of values in any order; 0 when there are none.
pub(crate) fn quantile(mut values: Vec<f64>, share: f64) -> f64 {
    values.sort_by(f64::total_cmp);
    let last = values.len().saturating_sub(1);
    values.get((last as f64 * share).round() as usize).copied().unwrap_or_default()
}

fn parts(seen: &Seen) -> Vec<PartOf> {
    let latencies = latencies(seen);
    let ends = seen.parts.iter().skip(1).map(|(at, _)| *at).chain([seen.took]);
    let part = |((from, name), to): (&(Duration, &'static str), Duration)| {
        let within = |at: f64| (from.as_secs_f64()..to.as_secs_f64()).contains(&at);
        let took: Vec<f64> = latencies.iter().filter(|(at, _)| within(*at)).map(|(_, took)| *took).collect();
        let samples = || seen.samples.iter().filter(|sample| within(sample.at.as_secs_f64()));
        let workers = samples().map(|sample| sample.workers);
        PartOf {
            name,
            from: *from,
            jobs: took.len(),
            p50: quantile(took.clone(), 0.5),
            p95: quantile(took, 0.95),
            deepest: samples().map(|sample| sample.ready).fold(0.0, f64::max),
            workers: (workers.clone().fold(f64::INFINITY, f64::min), workers.fold(0.0, f64::max)),
        }
    };
    seen.parts.iter().zip(ends).map(part).collect()
}

impl fmt::Display for Report {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(out, "A day of {} s on RabbitMQ, Redis and a provider in a box\n", self.took.as_secs())?;
        writeln!(
            out,
            "{:>7}  {:<28} {:>5} {:>8} {:>8} {:>8}  workers",
            "from", "", "jobs", "p50", "p95", "deepest"
        )?;
        for part in &self.parts {
            let (least, most) = part.workers;
            writeln!(
                out,
                "{:>5} s  {:<28} {:>5} {:>6.1} s {:>6.1} s {:>8}  {least}-{most}",
                part.from.as_secs(),
                part.name,
                part.jobs,
                part.p50,
                part.p95,
                part.deepest,
            )?;
        }
        writeln!(out, "\n{:>8}  accepted\n{:>8}  completed", self.accepted, self.completed)?;
        writeln!(out, "{:>8}  lost                              must be 0", self.lost)?;
        writeln!(out, "{:>8}  duplicated                        must be 0", self.doubled)?;
        writeln!(
            out,
            "{:>8}  journaled steps bought again      must be 0, by the provider's ledger",
            self.bought_again
        )?;
        writeln!(out, "{:>8}  calls in doubt, bought again", self.in_doubt)?;
        writeln!(out, "{:>8}  model calls, ${:.4}; {} times 429", self.calls, self.usd, self.limited)?;
        writeln!(out, "{:>8}  attempts beyond the first", self.more_attempts)?;
        writeln!(out, "{:>8}  submits made again; {} times a reader came back", self.refused, self.resumed)?;
        match self.back_at_min {
            Some(after) => writeln!(out, "{:>6} s  from the last answer to one worker", after.as_secs()),
            None => writeln!(out, "       -  more than one worker was left a minute after the last answer"),
        }
    }
}
