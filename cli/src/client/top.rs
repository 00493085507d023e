//! `millhand top`: what the system does, over the admin address.

use std::fmt::Write as _;
use std::io::{self, IsTerminal};
use std::time::Duration;

use serde_json::{Value, json};

use super::Client;
use super::operate::{lanes_table, rows, workers_table};
use crate::args::{ClientArgs, TopArgs};
use crate::terminal::{at, print, print_json, printable, table};

const EVERY: Duration = Duration::from_secs(1);
/// Clears the screen and goes to its first line.
const FRESH: &str = "\x1b[2J\x1b[H";
/// Dead letters that are counted; more are shown as that many and more.
const MOST_LETTERS: usize = 100;

pub(crate) async fn run(args: TopArgs) -> anyhow::Result<()> {
    let once = args.once || args.client.json || !io::stdout().is_terminal();
    let args: ClientArgs = args.client.into();
    let client = Client::new(&args)?;
    loop {
        let seen = look(&client).await?;
        if args.json {
            return print_json(&seen);
        }
        if once {
            return print(&render(&seen));
        }
        print(&format!("{FRESH}{}\nCtrl-C ends this.\n", render(&seen)))?;
        tokio::time::sleep(EVERY).await;
    }
}

/// One object with all that there is to see.
async fn look(client: &Client) -> anyhow::Result<Value> {
    let mut letters = client.url(["v1", "dead-letters"]);
    letters.query_pairs_mut().append_pair("limit", &MOST_LETTERS.to_string());
    let (lanes, workers, limits, letters) = tokio::try_join!(
        client.get(client.url(["v1", "queues"])),
        client.get(client.url(["v1", "workers"])),
        client.get(client.url(["v1", "limits"])),
        client.get(letters),
    )?;
    let total = |what: &str| rows(&workers).iter().filter_map(|worker| worker[what].as_u64()).sum::<u64>();
    Ok(json!({
        "lanes": lanes["data"],
        "workers": workers["data"],
        "slots": { "running": total("running"), "all": total("slots") },
        "limits": limits["data"],
        "dead_letters": { "count": rows(&letters).len(), "more": !letters["next_cursor"].is_null() },
    }))
}

fn render(seen: &Value) -> String {
    let list = |of: &str| seen[of].as_array().map_or(&[] as &[_], Vec::as_slice);
    let slots = &seen["slots"];
    let mut text = lanes_table(list("lanes"));
    let _ = writeln!(text, "\n{} of {} slots are busy\n", slots["running"], slots["all"]);
    text.push_str(&workers_table(list("workers")));
    if !list("limits").is_empty() {
        let limits: Vec<_> = list("limits").iter().map(limit).collect();
        let _ = write!(text, "\n{}", table(&["model", "limit", "calls/s", "used", "calls now"], &limits));
    }
    let letters = &seen["dead_letters"];
    let more = if letters["more"] == true { " and more" } else { "" };
    let hint = if letters["count"] == 0 { "" } else { ": millhand dead-letters" };
    let _ = writeln!(text, "\n{}{more} dead letters{hint}", letters["count"]);
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

#[cfg(test)]
mod tests {
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

        2 dead letters: millhand dead-letters
        ");
    }
}
