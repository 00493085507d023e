//! Whole jobs against a server with no queue and no store: latency, tokens, processor time, rate.

use std::sync::Arc;

use hdrhistogram::Histogram;
use millhand_tests::Launch;

use crate::client::Pool;
use crate::load::{Seen, Target, full_load, open_loop};
use crate::peer::{Peer, cpu_ms};
use crate::table::Table;
use crate::{ROUNDS, disk, median};

pub(crate) const QUICK: &str = "tokens=20 gap=0";
/// As fast as a quick model writes.
pub(crate) const PACED: &str = "tokens=20 gap=15";
/// As many as the product runs at a time.
pub(crate) const CLIENTS: usize = 64;
/// Jobs a second, seconds.
pub(crate) const LOAD: (f64, f64) = (50.0, 5.0);

/// One quantile of each round.
pub(crate) fn across(rounds: &[Histogram<u64>], quantile: f64) -> f64 {
    median(rounds.iter().map(|seen| seen.value_at_quantile(quantile) as f64 / 1000.0).collect())
}

/// What was measured of one server or cluster, round by round.
#[derive(Default)]
pub(crate) struct Side {
    pub(crate) slow: Vec<Histogram<u64>>,
    pub(crate) busy: Vec<Histogram<u64>>,
    pub(crate) full: Vec<Histogram<u64>>,
    pub(crate) hops: Vec<Histogram<u64>>,
    /// Processor time of a job at [`LOAD`], of each process that was named.
    pub(crate) cpu: Vec<Vec<f64>>,
    pub(crate) rate: Vec<f64>,
}

impl Side {
    async fn slow_round(&mut self, target: &Target) -> anyhow::Result<()> {
        self.slow.push(open_loop(target, QUICK, 1.0, 5.0).await?.jobs);
        Ok(())
    }

    /// Everything but one job at a time; `pids` are the processes whose time is counted.
    pub(crate) async fn round(&mut self, target: &Target, pids: &[u32]) -> anyhow::Result<()> {
        let used = || pids.iter().map(|pid| cpu_ms(*pid)).collect::<anyhow::Result<Vec<f64>>>();
        let before = used()?;
        self.busy.push(open_loop(target, QUICK, LOAD.0, LOAD.1).await?.jobs);
        let each = used()?.into_iter().zip(before).map(|(now, then)| (now - then) / (LOAD.0 * LOAD.1));
        self.cpu.push(each.collect());
        self.hops.push(open_loop(target, PACED, LOAD.0, LOAD.1).await?.hops);
        let (rate, Seen { jobs, .. }) = full_load(target, QUICK, CLIENTS, 4.0).await?;
        self.rate.push(rate);
        self.full.push(jobs);
        Ok(())
    }

    /// Processor time of a job over those processes whose places are in `which`.
    pub(crate) fn cpu_of(&self, which: std::ops::Range<usize>) -> f64 {
        median(self.cpu.iter().map(|round| round[which.clone()].iter().sum()).collect())
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
        bare.slow_round(&floor_at).await?;
        bare.round(&floor_at, &[floor.pid()]).await?;
        syncs.push(disk::syncs(data.path())?);
        ours.slow_round(&ours_at).await?;
        ours.round(&ours_at, &[server.pid()]).await?;
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
    let (us, it) = (ours.cpu_of(0..1), bare.cpu_of(0..1));
    compare("processor time of a job", "ms", us, it, Some(("<= 2 x", 2.0 * it)));
    let (us, it) = (median(ours.rate), median(bare.rate));
    table.row("20-token jobs, sustained", (us, Some(it), "/s"), ">= 0.5 x", Some(us >= 0.5 * it));
    Ok(())
}
