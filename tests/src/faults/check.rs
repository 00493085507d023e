//! What must be true of everything that was seen.

use std::collections::{HashMap, HashSet};
use std::time::SystemTime;

use serde_json::Value;

use super::run::millis;
use crate::Call;
use crate::load::History;
use crate::log::check_log;
use millhand_common::model::Timestamp;

/// What a run came to.
#[derive(Clone, Debug, Default)]
pub struct Report {
    pub accepted: usize,
    /// Ended with an answer.
    pub completed: usize,
    pub cancelled: usize,
    /// Times the fault struck.
    pub strikes: usize,
    /// Jobs that were taken from a worker.
    pub taken_over: usize,
    /// Readers that came back at least once.
    pub resumed: usize,
    /// Submits that were refused or not answered, and repeated.
    pub refused: u32,
    /// Jobs accepted while the fault lasted.
    pub accepted_meanwhile: usize,
    /// Each time it struck, jobs were accepted before and after.
    pub under_way: bool,
    /// Writes of former owners that were refused.
    pub fenced: u64,
    /// Model calls for jobs that were answered.
    pub calls: usize,
    /// Milliseconds from a strike to the next attempt of each job it took, sorted.
    pub takeovers: Vec<u64>,
}

impl Report {
    /// Adds another run's.
    pub fn add(&mut self, other: &Self) {
        self.accepted += other.accepted;
        self.completed += other.completed;
        self.cancelled += other.cancelled;
        self.strikes += other.strikes;
        self.taken_over += other.taken_over;
        self.resumed += other.resumed;
        self.refused += other.refused;
        self.accepted_meanwhile += other.accepted_meanwhile;
        self.under_way |= other.under_way;
        self.fenced += other.fenced;
        self.calls += other.calls;
        self.takeovers.extend(&other.takeovers);
        self.takeovers.sort_unstable();
    }

    /// A quantile of the takeovers, in milliseconds.
    #[must_use]
    pub fn takeover(&self, quantile: f64) -> Option<u64> {
        let last = self.takeovers.len().checked_sub(1)?;
        self.takeovers.get((last as f64 * quantile).round() as usize).copied()
    }
}

/// Checks the promises P1-P5 and P13.
pub(super) fn check(histories: &[History], calls: &[Call], struck: &[(SystemTime, SystemTime)]) -> Report {
    let mut report = Report { accepted: histories.len(), strikes: struck.len(), ..Report::default() };
    let mut keys: HashMap<&str, &str> = HashMap::new();
    for history in histories {
        check_log(&history.job, &history.streamed);
        let distinct: HashSet<_> = history.ids.iter().collect();
        assert_eq!(distinct.len(), 1, "one key, one job: {history:?}");
        assert!(keys.insert(&history.ids[0], &history.key).is_none(), "two keys share a job");
        let mine = calls.iter().filter(|call| call.question.starts_with(&format!("{}:", history.key)));
        let (calls, attempts) = (mine.count(), history.job["attempt"].as_u64().unwrap_or_default());
        assert!(calls as u64 <= attempts, "paid {calls} times in {attempts} attempts: {}", history.job);
        match history.job["status"].as_str() {
            Some("completed") => {
                report.completed += 1;
                report.calls += calls;
            }
            Some("cancelled") => report.cancelled += 1,
            status => panic!("only a client or poison ends a job otherwise, not {status:?}: {}", history.job),
        }
        report.taken_over += usize::from(attempts > 1);
        report.resumed += usize::from(history.connections > 1);
        report.refused += history.refused;
        report.takeovers.extend(takeovers(history, struck));
    }
    report.takeovers.sort_unstable();
    check_turns(histories);
    assert!(report.completed * 2 > report.accepted, "most jobs are answered: {report:?}");
    let accepted: Vec<u128> =
        histories.iter().filter_map(|history| moment(&history.job["created_at"])).collect();
    let within = |at: &&u128| struck.iter().any(|(from, to)| millis(*from) <= **at && **at <= millis(*to));
    report.accepted_meanwhile = accepted.iter().filter(within).count();
    report.under_way = struck.iter().all(|(from, to)| {
        accepted.iter().any(|at| *at < millis(*from)) && accepted.iter().any(|at| millis(*to) < *at)
    });
    report
}

/// Within a conversation no attempt starts before the job ahead of it is over.
fn check_turns(histories: &[History]) {
    let mut conversations: HashMap<&str, Vec<&Value>> = HashMap::new();
    for history in histories {
        let conversation = history.job["conversation_id"].as_str().expect("a conversation");
        conversations.entry(conversation).or_default().push(&history.job);
    }
    for mut turns in conversations.into_values() {
        turns.retain(|job| !job["started_at"].is_null());
        turns.sort_by_key(|job| job["started_at"].as_str().map(str::to_owned));
        for pair in turns.windows(2) {
            let (ended, started) = (pair[0]["finished_at"].as_str(), pair[1]["started_at"].as_str());
            assert!(ended <= started, "{} and {} overlap", pair[0], pair[1]);
        }
    }
}

/// From each strike that hit the job to its next attempt.
fn takeovers(history: &History, struck: &[(SystemTime, SystemTime)]) -> Vec<u64> {
    let events = history.streamed.iter().map(|event| serde_json::from_str::<Value>(event).expect("JSON"));
    let starts: Vec<u128> = events
        .filter(|event| event["type"] == "attempt.started")
        .filter_map(|event| moment(&event["at"]))
        .collect();
    let hit = |pair: &[u128]| {
        let strike =
            struck.iter().map(|(at, _)| millis(*at)).filter(|at| pair[0] <= *at && *at <= pair[1]).max();
        strike.and_then(|at| u64::try_from(pair[1] - at).ok())
    };
    starts.windows(2).filter_map(hit).collect()
}

/// Milliseconds since 1970 of a moment as the product writes it.
fn moment(text: &Value) -> Option<u128> {
    let at = Timestamp::try_from(text.as_str()?.to_owned()).ok()?;
    Some(u128::from(at.as_millis()))
}
