//! What was seen, as text for a terminal.

use std::fmt::Write as _;

use serde_json::Value;

use super::super::operate::{lanes_table, workers_table};
use crate::terminal::{at, printable, table};

pub(super) fn render(seen: &Value) -> String {
    let list = |of: &str| seen[of].as_array().map_or(&[] as &[_], Vec::as_slice);
    let slots = &seen["slots"];
    let mut text = lanes_table(list("lanes"));
    let _ = writeln!(text, "\n{} of {} slots are busy\n", slots["running"], slots["all"]);
    text.push_str(&workers_table(list("workers")));
    if !list("limits").is_empty() {
        let limits: Vec<_> = list("limits").iter().map(limit).collect();
        let _ = write!(text, "\n{}", table(&["model", "limit", "calls/s", "used", "calls now"], &limits));
    }
    text.push_str(&tenants(&seen["tenants"]));
    let _ = writeln!(text, "\n{}", ends(seen));
    let letters = &seen["dead_letters"];
    let more = if letters["more"] == true { " and more" } else { "" };
    let hint = if letters["count"] == 0 { "" } else { ": millhand dead-letters" };
    let _ = writeln!(text, "{}{more} dead letters{hint}", letters["count"]);
    if !list("errors").is_empty() {
        let errors: Vec<_> = list("errors").iter().map(error).collect();
        let _ = write!(text, "\n{}", table(&["error", "jobs", "last"], &errors));
    }
    text
}

fn limit(pool: &Value) -> Vec<String> {
    let number = |of: &str, unit: &str, by: f64| {
        pool[of].as_f64().map_or_else(|| "-".to_owned(), |number| format!("{:.1}{unit}", number * by))
    };
    vec![
        printable(at(pool, &["pool"])),
        pool["limit"].as_str().map_or_else(|| "-".to_owned(), printable),
        number("calls_per_second", "", 1.0),
        number("used", " %", 100.0),
        pool["calls_now"].as_u64().map_or_else(|| "-".to_owned(), |calls| calls.to_string()),
    ]
}

/// Who has jobs, the others in one line; nothing when nobody has any.
fn tenants(seen: &Value) -> String {
    let row = |tenant: &Value| {
        let unserved = tenant["unserved_ms"].as_f64().unwrap_or(0.0) / 1000.0;
        vec![
            printable(at(tenant, &["tenant"])),
            tenant["waiting"].to_string(),
            tenant["running"].to_string(),
            if tenant["at_cap"] == true { "yes" } else { "no" }.to_owned(),
            format!("{unserved:.1} s"),
        ]
    };
    let mut rows: Vec<_> = seen["data"].as_array().into_iter().flatten().map(row).collect();
    if rows.is_empty() {
        return String::new();
    }
    let others = &seen["others"];
    if others["tenants"].as_u64().is_some_and(|others| 0 < others) {
        let name = format!("{} others", others["tenants"]);
        let (waiting, running) = (others["waiting"].to_string(), others["running"].to_string());
        rows.push(vec![name, waiting, running, "-".to_owned(), "-".to_owned()]);
    }
    format!("\n{}", table(&["tenant", "waiting", "running", "at its cap", "unserved for"], &rows))
}

/// How many jobs ended how, and how fast they do since the last look.
fn ends(seen: &Value) -> String {
    let part = |what: &str| {
        let rate = seen["rates"][format!("{what}_per_second")].as_f64();
        let rate = rate.map_or_else(String::new, |rate| format!(" ({rate:.1}/s)"));
        format!("{} {what}{rate}", seen["ends"][what])
    };
    ["answered", "failed", "expired"].map(part).join(", ")
}

fn error(code: &Value) -> Vec<String> {
    vec![printable(at(code, &["code"])), code["jobs"].to_string(), printable(at(code, &["last"]))]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn everything_is_on_one_page() {
        let seen = json!({
            "lanes": [{"lane": "interactive", "ready": 7, "waiting": 0, "running": 3, "oldest_ready_ms": 400,
                "paused": false, "ended": 120}],
            "workers": [{"id": "worker_1", "slots": 4, "running": 3, "draining": false}],
            "slots": {"running": 3, "all": 4},
            "limits": [{"pool": "default", "limit": "tokens/min", "calls_per_second": 2.5, "used": 0.98, "calls_now": 1},
                {"pool": "spare", "limit": null, "calls_per_second": null, "used": null, "calls_now": null}],
            "tenants": {"data": [{"tenant": "acme", "waiting": 6, "running": 2, "at_cap": true, "unserved_ms": 0},
                {"tenant": "birch", "waiting": 1, "running": 1, "at_cap": false, "unserved_ms": 2340}],
                "others": {"tenants": 12, "waiting": 30, "running": 0}},
            "ends": {"answered": 120, "failed": 2, "expired": 1},
            "rates": {"answered_per_second": 3.0, "failed_per_second": 0.5, "expired_per_second": 0.0},
            "errors": [{"code": "poison", "jobs": 2, "last": "2026-11-24T18:55:00.123Z"}],
            "dead_letters": {"count": 2, "more": false},
        });
        insta::assert_snapshot!(render(&seen), @r"
        lane         state  ready  waiting  running  oldest  answered
        interactive  open   7      0        3        0.4 s   120

        3 of 4 slots are busy

        worker    state  running  slots
        worker_1  works  3        4

        model    limit       calls/s  used    calls now
        default  tokens/min  2.5      98.0 %  1
        spare    -           -        -       -

        tenant     waiting  running  at its cap  unserved for
        acme       6        2        yes         0.0 s
        birch      1        1        no          2.3 s
        12 others  30       0        -           -

        120 answered (3.0/s), 2 failed (0.5/s), 1 expired (0.0/s)
        2 dead letters: millhand dead-letters

        error   jobs  last
        poison  2     2026-11-24T18:55:00.123Z
        ");
    }

    #[test]
    fn a_first_look_has_no_rates() {
        let seen = json!({"ends": {"answered": 1, "failed": 0, "expired": 0}, "rates": null,
            "tenants": {"data": [], "others": {"tenants": 0, "waiting": 0, "running": 0}},
            "slots": {"running": 0, "all": 0}, "dead_letters": {"count": 0, "more": false}});
        let page = render(&seen);
        assert!(page.contains("1 answered, 0 failed, 0 expired\n0 dead letters\n"), "{page}");
        assert!(!page.contains("tenant") && !page.contains("error"), "{page}");
    }
}
