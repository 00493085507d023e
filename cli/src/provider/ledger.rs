//! Who called what, when, and what it would have cost.

use std::collections::{HashMap, VecDeque};

use millhand_common::model::Timestamp;
use serde::Serialize;
use serde_json::Value;

use super::faults::{Endpoint, Kind};

/// Calls that are kept; the sums are of all there ever were.
const KEPT: usize = 100_000;

/// One call, as it stands.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct Entry {
    /// Counts from 1.
    pub(crate) id: u64,
    pub(crate) at: Timestamp,
    /// Since the provider started, on a clock that never steps.
    pub(crate) at_ms: u64,
    /// Tells keys apart without telling them.
    pub(crate) caller: String,
    pub(crate) endpoint: Endpoint,
    pub(crate) model: String,
    pub(crate) stream: bool,
    /// Tells bodies apart without telling them.
    pub(crate) body: String,
    /// The earlier call that was let in with the same body of the same caller.
    pub(crate) repeat_of: Option<u64>,
    pub(crate) traceparent: Option<String>,
    pub(crate) input_tokens: u64,
    pub(crate) max_output_tokens: u64,
    /// Written so far.
    pub(crate) output_tokens: u64,
    pub(crate) status: u16,
    /// `running`, `refused`, `failed`, `finished`, `broken` (by a fault), `abandoned` (by the caller).
    pub(crate) ended: Ended,
    pub(crate) fault: Option<Kind>,
    pub(crate) first_token_ms: Option<u64>,
    pub(crate) took_ms: Option<u64>,
    pub(crate) nano_usd: u64,
    /// Only with `--keep-bodies`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) messages: Option<Value>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ended {
    Running,
    Refused,
    Failed,
    Finished,
    Broken,
    Abandoned,
}

/// Sums over all calls.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Totals {
    pub(crate) calls: u64,
    pub(crate) let_in: u64,
    /// Answered 429, by limits and by faults.
    pub(crate) limited: u64,
    pub(crate) failed: u64,
    pub(crate) abandoned: u64,
    pub(crate) input_tokens: u64,
    pub(crate) output_tokens: u64,
    pub(crate) nano_usd: u64,
    /// Calls let in with a body that had been let in before.
    pub(crate) repeated_bodies: u64,
    pub(crate) most_at_a_time: u32,
}

/// All calls.
#[derive(Debug, Default)]
pub(crate) struct Ledger {
    entries: VecDeque<Entry>,
    last: u64,
    /// The first call that was let in with a body, by caller and body.
    bodies: HashMap<(String, String), u64>,
    totals: Totals,
}

impl Ledger {
    /// Writes a call down; answers its id.
    pub(crate) fn add(&mut self, mut entry: Entry) -> u64 {
        self.last += 1;
        entry.id = self.last;
        self.totals.calls += 1;
        match entry.ended {
            Ended::Refused if entry.status == 429 => self.totals.limited += 1,
            Ended::Refused | Ended::Failed => self.totals.failed += 1,
            Ended::Running | Ended::Finished | Ended::Broken | Ended::Abandoned => self.let_in(&mut entry),
        }
        self.entries.push_back(entry);
        if self.entries.len() > KEPT
            && let Some(old) = self.entries.pop_front()
        {
            let body = (old.caller, old.body);
            if self.bodies.get(&body) == Some(&old.id) {
                self.bodies.remove(&body);
            }
        }
        self.last
    }

    fn let_in(&mut self, entry: &mut Entry) {
        self.totals.let_in += 1;
        self.totals.input_tokens += entry.input_tokens;
        self.totals.nano_usd += entry.nano_usd;
        let body = (entry.caller.clone(), entry.body.clone());
        entry.repeat_of = self.bodies.get(&body).copied();
        match entry.repeat_of {
            Some(_) => self.totals.repeated_bodies += 1,
            None => {
                self.bodies.insert(body, entry.id);
            }
        }
    }

    /// Changes a call that runs; one that is no longer kept stays in the sums only.
    pub(crate) fn change(&mut self, id: u64, change: impl FnOnce(&mut Entry)) {
        let first = self.entries.front().map_or(1, |entry| entry.id);
        let at = id.checked_sub(first).and_then(|at| usize::try_from(at).ok());
        let Some(entry) = at.and_then(|at| self.entries.get_mut(at)) else { return };
        let before = (entry.output_tokens, entry.nano_usd);
        change(entry);
        self.totals.output_tokens += entry.output_tokens - before.0;
        self.totals.nano_usd += entry.nano_usd - before.1;
        match entry.ended {
            Ended::Abandoned => self.totals.abandoned += 1,
            Ended::Failed => self.totals.failed += 1,
            Ended::Running | Ended::Refused | Ended::Finished | Ended::Broken => {}
        }
    }

    pub(crate) fn running(&mut self, running: u32) {
        self.totals.most_at_a_time = self.totals.most_at_a_time.max(running);
    }

    pub(crate) fn totals(&self) -> Totals {
        self.totals
    }

    /// At most `limit` calls after the one with the id `after`, oldest first.
    pub(crate) fn after(&self, after: u64, limit: usize) -> Vec<Entry> {
        let first = self.entries.partition_point(|entry| entry.id <= after);
        self.entries.iter().skip(first).take(limit).cloned().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(body: &str, ended: Ended, status: u16) -> Entry {
        Entry {
            id: 0,
            at: Timestamp::from_millis(0),
            at_ms: 0,
            caller: "anonymous".to_owned(),
            endpoint: Endpoint::Chat,
            model: "m".to_owned(),
            stream: true,
            body: body.to_owned(),
            repeat_of: None,
            traceparent: None,
            input_tokens: 10,
            max_output_tokens: 100,
            output_tokens: 0,
            status,
            ended,
            fault: None,
            first_token_ms: None,
            took_ms: None,
            nano_usd: 1,
            messages: None,
        }
    }

    #[test]
    fn bodies_that_were_let_in_twice_are_told() {
        let mut ledger = Ledger::default();
        ledger.add(entry("a", Ended::Refused, 429));
        let first = ledger.add(entry("a", Ended::Running, 200));
        ledger.add(entry("b", Ended::Running, 200));
        let again = ledger.add(entry("a", Ended::Running, 200));
        ledger.change(again, |entry| (entry.output_tokens, entry.nano_usd) = (7, 8));
        let calls = ledger.after(0, 10);
        assert_eq!(
            calls.iter().map(|call| call.repeat_of).collect::<Vec<_>>(),
            [None, None, None, Some(first)]
        );
        let totals = ledger.totals();
        assert_eq!((totals.calls, totals.let_in, totals.limited, totals.repeated_bodies), (4, 3, 1, 1));
        assert_eq!((totals.input_tokens, totals.output_tokens, totals.nano_usd), (30, 7, 10));
        assert_eq!(ledger.after(2, 1)[0].id, 3);
    }

    #[test]
    fn old_calls_leave_the_list_and_stay_in_the_sums() {
        let mut ledger = Ledger::default();
        for n in 0..KEPT + 5 {
            ledger.add(entry(&n.to_string(), Ended::Finished, 200));
        }
        ledger.change(1, |entry| entry.output_tokens = 9);
        assert_eq!(ledger.after(0, KEPT * 2).len(), KEPT);
        assert_eq!(ledger.after(0, 1)[0].id, 6);
        assert_eq!(ledger.totals().calls, (KEPT + 5) as u64);
    }
}
