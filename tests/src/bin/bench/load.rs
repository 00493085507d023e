//! Load on a server: at a rate that does not wait for answers, or as much as so many clients get.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use hdrhistogram::Histogram;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::client::{self, Pool};

/// Which protocol a server speaks.
#[derive(Clone)]
pub(crate) enum Target {
    /// Submit, then read the job's events.
    Ours(Arc<Pool>),
    /// The answer to the submit is the stream.
    Floor(Arc<Pool>),
}

impl Target {
    fn pool(&self) -> &Pool {
        let (Self::Ours(pool) | Self::Floor(pool)) = self;
        pool
    }
}

/// What clients saw, in microseconds.
pub(crate) struct Seen {
    /// From the moment a job was due to its last event read.
    pub(crate) jobs: Histogram<u64>,
    /// From the model writing a token to a reader having it.
    pub(crate) hops: Histogram<u64>,
}

impl Seen {
    fn new() -> anyhow::Result<Self> {
        Ok(Self { jobs: Histogram::new(3)?, hops: Histogram::new(3)? })
    }

    fn add(&mut self, (took, hops): (Duration, Vec<u64>)) -> anyhow::Result<()> {
        self.jobs.record(u64::try_from(took.as_micros())?.max(1))?;
        for hop in hops {
            self.hops.record((hop / 1000).max(1))?;
        }
        Ok(())
    }
}

/// One job; answers what it took since `due`, and its tokens' hops in nanoseconds.
async fn one(target: Target, question: Arc<str>, due: Instant) -> anyhow::Result<(Duration, Vec<u64>)> {
    let mut hops = Vec::with_capacity(20);
    let pool = target.pool();
    let mut stream = pool.take().await?;
    if let Target::Ours(_) = target {
        let job = client::accept(&mut stream, &question).await?;
        client::open_events(&mut stream, &job).await?;
    } else {
        tokio::io::AsyncWriteExt::write_all(&mut stream, client::submit(&question).as_bytes()).await?;
    }
    client::read_events(&mut stream, |hop| hops.push(hop)).await?;
    let took = due.elapsed();
    pool.put_back(stream);
    Ok((took, hops))
}

/// `rate` jobs a second for so long, each begun when it is due, whatever became of the others.
pub(crate) async fn open_loop(
    target: &Target,
    question: &str,
    rate: f64,
    seconds: f64,
) -> anyhow::Result<Seen> {
    target.pool().clear();
    let question: Arc<str> = question.into();
    let (due, mut begin) = mpsc::channel(8192);
    // A thread of its own: timers of the runtime are a millisecond coarse and wait for its work.
    let schedule = std::thread::spawn(move || {
        let start = Instant::now() + Duration::from_millis(20);
        for at in 0..(rate * seconds) as u32 {
            let moment = start + Duration::from_secs_f64(f64::from(at) / rate);
            std::thread::sleep(moment.saturating_duration_since(Instant::now()));
            if due.blocking_send(moment).is_err() {
                return;
            }
        }
    });
    let (mut jobs, mut seen) = (JoinSet::new(), Seen::new()?);
    while let Some(moment) = begin.recv().await {
        jobs.spawn(one(target.clone(), question.clone(), moment));
        while let Some(ended) = jobs.try_join_next() {
            seen.add(ended??)?;
        }
    }
    while let Some(ended) = jobs.join_next().await {
        seen.add(ended??)?;
    }
    schedule.join().ok().context("the schedule broke")?;
    Ok(seen)
}

/// So many clients, each with one job after the other; answers jobs per second too.
pub(crate) async fn full_load(
    target: &Target,
    question: &str,
    clients: usize,
    seconds: f64,
) -> anyhow::Result<(f64, Seen)> {
    target.pool().clear();
    let question: Arc<str> = question.into();
    let started = Instant::now();
    let until = started + Duration::from_secs_f64(seconds);
    let in_time = Arc::new(AtomicU64::new(0));
    let mut all = JoinSet::new();
    for _ in 0..clients {
        let (target, question, in_time) = (target.clone(), question.clone(), in_time.clone());
        all.spawn(async move {
            let mut seen = Vec::new();
            while Instant::now() < until {
                seen.push(one(target.clone(), question.clone(), Instant::now()).await?);
                if Instant::now() < until {
                    in_time.fetch_add(1, Ordering::Relaxed);
                }
            }
            anyhow::Ok(seen)
        });
    }
    let mut seen = Seen::new()?;
    while let Some(ended) = all.join_next().await {
        for job in ended?? {
            seen.add(job)?;
        }
    }
    Ok((in_time.load(Ordering::Relaxed) as f64 / seconds, seen))
}

/// What accepts came to.
pub(crate) struct Accepts {
    pub(crate) ids: Vec<String>,
    /// In microseconds.
    pub(crate) times: Histogram<u64>,
    /// A second.
    pub(crate) rate: f64,
}

/// Submits `jobs` jobs by so many clients, each over a connection of its own.
pub(crate) async fn submit(
    address: SocketAddr,
    question: &'static str,
    jobs: usize,
    clients: usize,
) -> anyhow::Result<Accepts> {
    let (left, pool) = (Arc::new(AtomicUsize::new(jobs)), Arc::new(Pool::new(address)));
    let started = Instant::now();
    let mut all = JoinSet::new();
    for _ in 0..clients {
        let (left, pool) = (left.clone(), pool.clone());
        all.spawn(async move {
            let (mut stream, mut ids, mut times) =
                (pool.take().await?, Vec::new(), Histogram::<u64>::new(3)?);
            let take = |left: usize| left.checked_sub(1);
            while left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, take).is_ok() {
                let begun = Instant::now();
                ids.push(client::accept(&mut stream, question).await?);
                times.record(u64::try_from(begun.elapsed().as_micros())?.max(1))?;
            }
            anyhow::Ok((ids, times))
        });
    }
    let (mut ids, mut times) = (Vec::new(), Histogram::<u64>::new(3)?);
    while let Some(ended) = all.join_next().await {
        let (some, took) = ended??;
        ids.extend(some);
        times.add(took)?;
    }
    Ok(Accepts { rate: ids.len() as f64 / started.elapsed().as_secs_f64(), ids, times })
}
