//! How jobs ended, how fast they do, and what went wrong.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::{Value, json};

use crate::terminal::at;

/// How many jobs ever ended, over all lanes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Ends {
    answered: u64,
    failed: u64,
    expired: u64,
}

impl Ends {
    pub(super) fn of(lanes: &[Value]) -> Self {
        let sum = |of: &str| lanes.iter().filter_map(|lane| lane[of].as_u64()).sum();
        Self { answered: sum("ended"), failed: sum("failed"), expired: sum("expired") }
    }

    /// Jobs a second since an earlier look.
    pub(super) fn rates(self, earlier: Self, within: Duration) -> Value {
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / within.as_secs_f64().max(0.001);
        json!({
            "answered_per_second": rate(self.answered, earlier.answered),
            "failed_per_second": rate(self.failed, earlier.failed),
            "expired_per_second": rate(self.expired, earlier.expired),
        })
    }
}

/// What these dead letters failed with, the most frequent first, and when one did so last.
pub(super) fn by_code(letters: &[Value]) -> Vec<Value> {
    let mut codes: BTreeMap<&str, (usize, &str)> = BTreeMap::new();
    for letter in letters {
        let (jobs, last) = codes.entry(at(letter, &["job", "error", "code"])).or_default();
        *jobs += 1;
        // All are in the same zone and of the same length.
        *last = at(letter, &["buried_at"]).max(last);
    }
    let mut codes: Vec<_> = codes.into_iter().collect();
    codes.sort_by_key(|(_, (jobs, _))| std::cmp::Reverse(*jobs));
    codes
        .into_iter()
        .map(|(code, (jobs, last))| json!({ "code": code, "jobs": jobs, "last": last }))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ends_are_summed_over_lanes_and_divided_by_the_time_between() {
        let lanes =
            [json!({"ended": 7, "failed": 1, "expired": 0}), json!({"ended": 3, "failed": 1, "expired": 2})];
        let now = Ends::of(&lanes);
        assert_eq!(now, Ends { answered: 10, failed: 2, expired: 2 });
        let rates = now.rates(Ends { answered: 6, failed: 2, expired: 1 }, Duration::from_secs(2));
        assert_eq!(
            rates,
            json!({"answered_per_second": 2.0, "failed_per_second": 0.0, "expired_per_second": 0.5})
        );
        let anew = Ends::default().rates(now, Duration::from_secs(2));
        assert_eq!(anew["answered_per_second"], 0.0, "counters that were started anew");
    }

    #[test]
    fn failures_are_grouped_by_their_code() {
        let letter = |code: &str, at: &str| json!({"buried_at": at, "job": {"error": {"code": code}}});
        let letters = [
            letter("poison", "2026-11-24T18:55:03.000Z"),
            letter("rejected", "2026-11-24T18:55:02.000Z"),
            letter("rejected", "2026-11-24T18:55:01.000Z"),
        ];
        assert_eq!(
            by_code(&letters),
            [
                json!({"code": "rejected", "jobs": 2, "last": "2026-11-24T18:55:02.000Z"}),
                json!({"code": "poison", "jobs": 1, "last": "2026-11-24T18:55:03.000Z"}),
            ]
        );
    }
}
