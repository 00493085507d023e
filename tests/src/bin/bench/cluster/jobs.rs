//! Whole jobs against the floor server, tokens against a bare XADD and PUBLISH, and what each process
//! has used.

use std::sync::Arc;

use millhand_tests::server::resident_bytes;

use crate::client::Pool;
use crate::jobs::{CLIENTS, LOAD, QUICK, Side, across};
use crate::load::{Target, full_load};
use crate::peer::Peer;
use crate::table::Table;
use crate::{disk, median};

use super::hop;
use super::node::Node;
use super::stack::Stack;

/// They take 40 s each.
const ROUNDS: usize = 2;
const MIB: f64 = 1024.0 * 1024.0;

pub(super) async fn measure(table: &mut Table, stack: &Stack, node: &Node) -> anyhow::Result<()> {
    let floor = Peer::start(&["floor", &stack.provider.address.to_string()]).await?;
    let ours_at = Target::Ours(Arc::new(Pool::new(stack.api_address()?)));
    let floor_at = Target::Floor(Arc::new(Pool::new(floor.address)));
    for target in [&floor_at, &ours_at] {
        full_load(target, QUICK, CLIENTS, 1.0).await?;
    }
    // The product's own parts come first.
    let mut pids = vec![stack.api.pid()];
    pids.extend(stack.workers.iter().map(millhand_tests::Server::pid));
    let parts = pids.len();
    pids.extend([stack.redis.process().pid(), stack.queue.process().pid()]);
    let (mut ours, mut bare) = (Side::default(), Side::default());
    let (mut hops, mut syncs) = (Vec::new(), Vec::new());
    for _ in 0..ROUNDS {
        bare.round(&floor_at, &[floor.pid()]).await?;
        syncs.push(disk::syncs(stack.redis.process().folder())?);
        hops.push(hop::bare(&stack.redis.url(), LOAD).await?);
        ours.round(&ours_at, &pids).await?;
    }
    let name = stack.name();
    let below = |ratio: f64| format!("< {ratio:.1} x (Node)");
    let mut row = |what: &str, unit, ours: f64, floor: Option<f64>, aim: &str, met: Option<bool>| {
        table.row(&format!("{name}: {what}"), (ours, floor, unit), aim, met);
    };
    for (quantile, text) in [(0.5, "p50"), (0.99, "p99")] {
        row(&format!("fdatasync of this disk {text}"), "ms", across(&syncs, quantile), None, "", None);
    }
    let (us, it) = (across(&ours.busy, 0.5), across(&bare.busy, 0.5));
    row("job at 50/s p50", "ms", us, Some(it), &below(node.p50), Some(us < node.p50 * it));
    let (us, it) = (across(&ours.busy, 0.99), across(&bare.busy, 0.99));
    row("job at 50/s p99", "ms", us, Some(it), &below(node.p99), Some(us < node.p99 * it));
    let (us, it) = (ours.cpu_of(0..parts), bare.cpu_of(0..1));
    row(
        "processor time of a job, api and workers",
        "ms",
        us,
        Some(it),
        &below(node.cpu),
        Some(us < node.cpu * it),
    );
    row("the same, Redis", "ms", ours.cpu_of(parts..parts + 1), None, "", None);
    row("the same, broker", "ms", ours.cpu_of(parts + 1..parts + 2), None, "", None);
    let (us, it) = (median(ours.rate), median(bare.rate));
    let aim = format!("> {:.2} x (Node)", node.rate);
    row("20-token jobs, sustained", "/s", us, Some(it), &aim, Some(us > node.rate * it));
    for (quantile, text, node) in [(0.5, "p50", node.hop_p50), (0.99, "p99", node.hop_p99)] {
        let (us, it) = (across(&ours.hops, quantile), across(&hops, quantile));
        let what = format!("token to reader {text}, against XADD+PUBLISH");
        row(&what, "ms", us, Some(it), "<= 2 x", Some(us <= 2.0 * it));
        let what = format!("token to reader {text}, against the floor server");
        let it = across(&bare.hops, quantile);
        row(&what, "ms", us, Some(it), &below(node), Some(us < node * it));
    }
    let names = ["api", "worker", "worker", "Redis", "broker"];
    for (what, pid) in names.iter().zip(&pids) {
        row(&format!("memory, {what}"), "MiB", resident_bytes(*pid) as f64 / MIB, None, "", None);
    }
    Ok(())
}
