//! `millhand top`: what the system does, over the admin address.

mod errors;
mod page;

use std::io::{self, IsTerminal};
use std::time::Duration;

use serde_json::{Value, json};
use tokio::time::Instant;

use super::Client;
use super::operate::rows;
use crate::args::{ClientArgs, TopArgs};
use crate::terminal::{print, print_json};
use errors::{Ends, by_code};

const EVERY: Duration = Duration::from_secs(1);
/// Clears the screen and goes to its first line.
const FRESH: &str = "\x1b[2J\x1b[H";
/// Dead letters that are counted; more are shown as that many and more.
const MOST_LETTERS: usize = 100;
/// Tenants that are shown one by one.
const MOST_TENANTS: usize = 10;

pub(crate) async fn run(args: TopArgs) -> anyhow::Result<()> {
    let once = args.once || args.client.json || !io::stdout().is_terminal();
    let args: ClientArgs = args.client.into();
    let client = Client::new(&args)?;
    let mut before = None;
    loop {
        let seen = look(&client, &mut before).await?;
        if args.json {
            return print_json(&seen);
        }
        if once {
            return print(&page::render(&seen));
        }
        print(&format!("{FRESH}{}\nCtrl-C ends this.\n", page::render(&seen)))?;
        tokio::time::sleep(EVERY).await;
    }
}

/// One object with all that there is to see; `before` is what the last look found.
async fn look(client: &Client, before: &mut Option<(Instant, Ends)>) -> anyhow::Result<Value> {
    let of_at_most = |what, most: usize| {
        let mut url = client.url(["v1", what]);
        url.query_pairs_mut().append_pair("limit", &most.to_string());
        url
    };
    let (lanes, workers, limits, tenants, letters) = tokio::try_join!(
        client.get(client.url(["v1", "queues"])),
        client.get(client.url(["v1", "workers"])),
        client.get(client.url(["v1", "limits"])),
        client.get(of_at_most("tenants", MOST_TENANTS)),
        client.get(of_at_most("dead-letters", MOST_LETTERS)),
    )?;
    let (now, ends) = (Instant::now(), Ends::of(rows(&lanes)));
    let rates = before.map(|(then, earlier)| ends.rates(earlier, now - then));
    *before = Some((now, ends));
    let total = |what: &str| rows(&workers).iter().filter_map(|worker| worker[what].as_u64()).sum::<u64>();
    Ok(json!({
        "lanes": lanes["data"],
        "workers": workers["data"],
        "slots": { "running": total("running"), "all": total("slots") },
        "limits": limits["data"],
        "tenants": { "data": tenants["data"], "others": tenants["others"] },
        "ends": ends,
        "rates": rates,
        "errors": by_code(rows(&letters)),
        "dead_letters": { "count": rows(&letters).len(), "more": !letters["next_cursor"].is_null() },
    }))
}
