//! Many waiting jobs and many open streams: memory, accepts over HTTP, restart.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use anyhow::ensure;
use millhand_tests::{Launch, Server, wait_for};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::client::{self, find};
use crate::load::{Accepts, submit};
use crate::peer::Peer;
use crate::table::Table;
use crate::{ROUNDS, median};

const JOBS: usize = 10_000;
const CLIENTS: usize = 64;
const MIB: f64 = 1024.0 * 1024.0;

pub(crate) async fn measure(table: &mut Table) -> anyhow::Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit })?;
    idle(table).await?;
    let provider = Peer::start(&["provider"]).await?;
    let data = tempfile::tempdir()?;
    // The model never answers: some jobs run, the others stay queued.
    let launch = Launch::new(data.path()).model(&format!("http://{}/v1", provider.address));
    let server = launch.start().await;
    let address: SocketAddr = server.url.trim_start_matches("http://").parse()?;
    let ids = accepts(table, address).await?;
    open_streams(table, &server, address, &ids).await?;
    server.kill9().await;
    let mut times = Vec::new();
    for _ in 0..ROUNDS {
        let started = Instant::now();
        let server = launch.start().await;
        times.push(started.elapsed().as_secs_f64());
        let queues = server.operator().get("/v1/queues").await.json();
        let open = |name: &str| {
            queues["data"]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|lane| lane[name].as_u64())
                .sum::<u64>()
        };
        let held = open("ready") + open("waiting") + open("running");
        ensure!(held * 100 >= JOBS as u64 * 95, "only {held} jobs came back: {queues}");
        server.kill9().await;
    }
    let restart = median(times);
    table.row("restart with 10,000 queued jobs", (restart, None, "s"), "<= 2 s", Some(restart <= 2.0));
    Ok(())
}

/// A newcomer's first start, once its sample can be asked.
async fn idle(table: &mut Table) -> anyhow::Result<()> {
    let data = tempfile::tempdir()?;
    let server = Launch::with_sample(data.path()).start().await;
    wait_for("the sample to be loaded", || async { server.printed().contains("curl").then_some(()) }).await;
    server.idle().await;
    let resident = server.resident_bytes() as f64 / MIB;
    table.row("resident memory, idle", (resident, None, "MiB"), "<= 80 MiB", Some(resident <= 80.0));
    Ok(())
}

async fn accepts(table: &mut Table, address: SocketAddr) -> anyhow::Result<Vec<String>> {
    let Accepts { ids, times, rate } = submit(address, "stall=1", JOBS, CLIENTS).await?;
    table.row("accepts, HTTP", (rate, None, "/s"), "", None);
    for (name, quantile) in [("accept, HTTP p50", 0.5), ("accept, HTTP p99", 0.99)] {
        table.row(name, (times.value_at_quantile(quantile) as f64 / 1000.0, None, "ms"), "", None);
    }
    Ok(ids)
}

async fn open_streams(
    table: &mut Table,
    server: &Server,
    address: SocketAddr,
    ids: &[String],
) -> anyhow::Result<()> {
    let before = server.resident_bytes();
    let mut open = Vec::with_capacity(ids.len());
    for some in ids.chunks(CLIENTS) {
        let mut opening = JoinSet::new();
        for id in some {
            opening.spawn(open_stream(address, id.clone()));
        }
        while let Some(opened) = opening.join_next().await {
            open.push(opened??);
        }
    }
    tokio::time::sleep(Duration::from_secs(1)).await;
    ensure!(open.len() == JOBS, "{} streams are open", open.len());
    let each = server.resident_bytes().saturating_sub(before) as f64 / open.len() as f64 / 1024.0;
    table.row("memory of an open stream, of 10,000", (each, None, "KiB"), "<= 30 KiB", Some(each <= 30.0));
    Ok(())
}

/// A stream that has shown its first event.
async fn open_stream(address: SocketAddr, id: String) -> anyhow::Result<TcpStream> {
    let mut stream = TcpStream::connect(address).await?;
    client::open_events(&mut stream, &id).await?;
    let mut buffer = Vec::with_capacity(1024);
    while find(&buffer, b"job.queued").is_none() {
        ensure!(stream.read_buf(&mut buffer).await? > 0, "closed: {}", String::from_utf8_lossy(&buffer));
    }
    Ok(stream)
}
