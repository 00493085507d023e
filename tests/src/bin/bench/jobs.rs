//! Whole jobs against a server with no queue and no store: latency, tokens, processor time, rate.

use std::sync::Arc;

use hdrhistogram::Histogram;
use millhand_tests::Launch;

use crate::client::Pool;
use crate::load::{Seen, Target, full_load, open_loop};
use crate::peer::{Peer, cpu_ms};
use crate::table::Table;
use crate::{ROUNDS, disk, median};

const QUICK: &str = "tokens=20 gap=0";
/// As fast as a quick model writes.
const PACED: &str = "tokens=20 gap=15";
/// As many as the product runs at a time.
const CLIENTS: usize = 64;
const LOAD: (f64, f64) = (50.0, 5.0);

/// One quantile of each round.
fn across(rounds: &[Histogram<u64>], quantile: f64) -> f64 {
    median(rounds.iter().map(|seen| seen.value_at_quantile(quantile) as f64 / 1000.0).collect())
}

#[derive(Default)]
struct Side {
    slow: Vec<Histogram<u64>>,
    busy: Vec<Histogram<u64>>,
    full: Vec<Histogram<u64>>,
    hops: Vec<Histogram<u64>>,
    cpu: Vec<f64>,
    rate: Vec<f64>,
}

impl Side {
    async fn round(&mut self, target: &Target, pid: u32) -> anyhow::Result<()> {
        self.slow.push(open_loop(target, QUICK, 1.0, 5.0).await?.jobs);
        let before = cpu_ms(pid)?;
        self.busy.push(open_loop(target, QUICK, LOAD.0, LOAD.1).await?.jobs);
        self.cpu.push((cpu_ms(pid)? - before) / (LOAD.0 * LOAD.1));
        self.hops.push(open_loop(target, PACED, LOAD.0, LOAD.1).await?.hops);
        let (rate, Seen { jobs, .. }) = full_load(target, QUICK, CLIENTS, 4.0).await?;
        self.rate.push(rate);
        self.full.push(jobs);
        Ok(())
    }
}

pub(crate) async fn measure(table: &mut Table) -> anyhow::Result<()> {
    let provider = Peer::start(&["provider"]).await?;
    let floor = Peer::start(&["floor", &provider.address.to_string()]).await?;
    let data = tempfile::tempdir()?;
    let server = Launch::new(data.path()).model(&format!("http://{}/v1", provider.address)).start().await;
    let address = server.url.trim_start_matches("http://").parse()?;
    let ours_at = Target::Ours(Arc::new(Pool::new(address)));
    let floor_at = Target::Floor(Arc::new(Pool::new(floor.address)));
    // Connections, caches and code paths are warm before anything counts.
    for target in [&floor_at, &ours_at] {
        full_load(target, QUICK, CLIENTS, 1.0).await?;
    }
    let (mut ours, mut bare, mut syncs) = (Side::default(), Side::default(), Vec::new());
    for _ in 0..ROUNDS {
        bare.round(&floor_at, floor.pid()).await?;
        syncs.push(disk::syncs(data.path())?);
        ours.round(&ours_at, server.pid()).await?;
    }
    let (sync_p50, sync_p99) = (across(&syncs, 0.5), across(&syncs, 0.99));
    table.row("fdatasync of this disk p50", (sync_p50, None, "ms"), "", None);
    table.row("fdatasync of this disk p99", (sync_p99, None, "ms"), "", None);
    let mut compare = |what: &str, unit, ours: f64, floor: f64, aim: Option<(&str, f64)>| {
        let met = aim.map(|(_, most)| ours <= most);
        table.row(what, (ours, Some(floor), unit), aim.map_or("", |(text, _)| text), met);
    };
    let both = |of: fn(&Side) -> &Vec<Histogram<u64>>, quantile| {
        (across(of(&ours), quantile), across(of(&bare), quantile))
    };
    let (us, it) = both(|side| &side.slow, 0.5);
    compare("job at 1/s p50", "ms", us, it, None);
    let (us, it) = both(|side| &side.busy, 0.5);
    compare("job at 50/s p50", "ms", us, it, Some(("<= 2 x", 2.0 * it)));
    let (us, it) = both(|side| &side.busy, 0.99);
    let most = 1.3 * (it + 2.0 * sync_p99);
    compare("job at 50/s p99", "ms", us, it, Some(("<= 1.3 x (floor + 2 syncs p99)", most)));
    let (us, it) = both(|side| &side.full, 0.5);
    compare("job at full load p50", "ms", us, it, None);
    let (us, it) = both(|side| &side.hops, 0.5);
    compare("token to reader p50", "ms", us, it, Some(("<= 2 x + 1 sync p50", 2.0 * it + sync_p50)));
    let (us, it) = both(|side| &side.hops, 0.99);
    compare("token to reader p99", "ms", us, it, None);
    let (us, it) = (median(ours.cpu), median(bare.cpu));
    compare("processor time of a job", "ms", us, it, Some(("<= 2 x", 2.0 * it)));
    let (us, it) = (median(ours.rate), median(bare.rate));
    table.row("20-token jobs, sustained", (us, Some(it), "/s"), ">= 0.5 x", Some(us >= 0.5 * it));
    Ok(())
}
