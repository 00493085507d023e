//! What came of one policy under one mode.

use std::time::Duration;

use super::calls::{Call, Reading};
use super::load::{Job, OVERLOAD, Size, Start};
use super::mode::{Mode, TOKENS_PER_MINUTE};

pub(super) struct Outcome {
    /// In percent of the quota.
    used: f64,
    /// From the first call on.
    limited: u64,
    /// For each thousand calls that were let in.
    limited_per_1000: f64,
    /// Mean waits, in seconds.
    small: f64,
    large: f64,
    /// Slot time spent waiting for quota, in percent of all slot time.
    waiting: f64,
    /// Jobs that were given up, in percent.
    given_up: f64,
}

/// What is known once a run is over.
pub(super) struct Run<'a> {
    pub(super) jobs: &'a [Job],
    pub(super) start: Start,
    pub(super) calls: &'a [Call],
    /// At the beginning and the end of what is measured.
    pub(super) readings: [Reading; 2],
    /// Seconds that slots have waited in between, and seconds there were of them.
    pub(super) waited: f64,
    pub(super) slots: f64,
    pub(super) given_up: usize,
}

impl Outcome {
    pub(super) const HEAD: [&str; 9] = [
        "mode",
        "policy",
        "quota used",
        "429s per 1,000",
        "wait small",
        "wait large",
        "large/small",
        "slots waiting",
        "given up",
    ];

    pub(super) fn of(run: &Run<'_>) -> Self {
        let [from, to] = run.readings;
        let measured = run.calls.iter().filter(|call| (from.at_ms..to.at_ms).contains(&call.at_ms));
        let (let_in, refused): (Vec<&Call>, Vec<&Call>) = measured.partition(|call| call.is_let_in());
        let limited = run.calls.iter().filter(|call| call.status == 429).count();
        Self {
            used: to.used_since(from, TOKENS_PER_MINUTE),
            limited: limited as u64,
            limited_per_1000: refused.len() as f64 * 1000.0 / let_in.len().max(1) as f64,
            small: run.mean_wait(Size::Small),
            large: run.mean_wait(Size::Large),
            waiting: run.waited * 100.0 / run.slots,
            given_up: run.given_up as f64 * 100.0 / run.jobs.len() as f64,
        }
    }

    /// `ours` is held to the aims.
    pub(super) fn row(&self, mode: Mode, policy: &str, ours: bool) -> Vec<String> {
        let ratio = self.large / self.small;
        let judged = |text: String, met: bool| match (ours, mode.aims()) {
            (true, Some(_)) if met => format!("{text} ok"),
            (true, Some(_)) => format!("{text} MISS"),
            _ => text,
        };
        let (least, most) = mode.aims().unwrap_or_default();
        vec![
            mode.as_str().to_owned(),
            policy.to_owned(),
            judged(format!("{:.1} %", self.used), self.used >= least),
            judged(format!("{:.1} ({} in all)", self.limited_per_1000, self.limited), self.limited <= most),
            format!("{:.1} s", self.small),
            format!("{:.1} s", self.large),
            judged(format!("{ratio:.2}"), ratio <= 1.2),
            format!("{:.2} %", self.waiting),
            format!("{:.1} %", self.given_up),
        ]
    }
}

impl Run<'_> {
    /// Of the jobs that a fair policy has come to by the end; those it has not come to wait until the end.
    fn mean_wait(&self, size: Size) -> f64 {
        let end = self.calls.last().map_or(self.start.wall, |call| call.at);
        let length = end.since(self.start.wall);
        let mut let_in = vec![None; self.jobs.len()];
        for call in self.calls.iter().filter(|call| call.is_let_in()) {
            if let Some(first) = call.job.and_then(|job| let_in.get_mut(job as usize)) {
                first.get_or_insert(call.at);
            }
        }
        let due =
            self.jobs.iter().filter(|job| job.size == size && job.due < length.div_f64(OVERLOAD * 1.05));
        let wait = |job: &Job| {
            let until = let_in[job.n as usize].unwrap_or(end);
            until.since(self.start.wall).saturating_sub(job.due)
        };
        let (sum, count) =
            due.fold((Duration::ZERO, 0_u32), |(sum, count), job| (sum + wait(job), count + 1));
        sum.as_secs_f64() / f64::from(count.max(1))
    }
}
