//! Accepts through one ingress against raw publishing, and how fast the workers get through what was
//! accepted.

use crate::accepts::WRITERS;
use crate::load::submit;
use crate::table::Table;
use crate::{ROUNDS, median};

use super::raw;
use super::stack::Stack;

pub(super) async fn measure(table: &mut Table, stack: &mut Stack, queued: usize) -> anyhow::Result<()> {
    let (mut rates, mut p50s, mut p99s) = ([vec![], vec![]], [vec![], vec![]], [vec![], vec![]]);
    let address = stack.api_address()?;
    let mut accepted = 0;
    for round in 1..=ROUNDS {
        let (floor, floor_times) = raw::publish(&stack.queue).await?;
        // Nobody works yet: all of it stays queued.
        let ours = submit(address, "tokens=1 gap=0", queued * round / ROUNDS - accepted, WRITERS).await?;
        accepted += ours.ids.len();
        for (side, (rate, times)) in [(floor, floor_times), (ours.rate, ours.times)].into_iter().enumerate() {
            rates[side].push(rate);
            p50s[side].push(times.value_at_quantile(0.5) as f64 / 1000.0);
            p99s[side].push(times.value_at_quantile(0.99) as f64 / 1000.0);
        }
    }
    let name = stack.name();
    let [floor, ours] = rates.map(median);
    let what = format!("{name}: accepts, HTTP, against raw publishing");
    table.row(&what, (ours, Some(floor), "/s"), ">= 0.6 x", Some(ours >= 0.6 * floor));
    let [floor, ours] = p50s.map(median);
    table.row(&format!("{name}: accept, HTTP p50"), (ours, Some(floor), "ms"), "", None);
    let [floor, ours] = p99s.map(median);
    table.row(&format!("{name}: accept, HTTP p99"), (ours, Some(floor), "ms"), "", None);
    stack.work(2).await;
    let (jobs, seconds) = stack.drained(accepted).await?;
    table.row(&format!("{name}: drain of {accepted} queued jobs"), (jobs / seconds, None, "/s"), "", None);
    Ok(())
}
