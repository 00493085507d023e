//! What happens when.

use std::time::Duration;

use anyhow::Context;
use millhand_tests::load::History;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until};

use crate::load;
use crate::mill::{LIMIT, Mill};
use crate::watch::{self, Sample};

/// A part of the day.
struct Part {
    name: &'static str,
    /// Of the whole day.
    share: f64,
    /// Jobs that come a second.
    rate: f64,
    /// What happens when it begins.
    event: Event,
}

#[derive(Clone, Copy)]
enum Event {
    None,
    Halve,
    Restore,
    Kill,
    Restart,
    Deploy,
}

const QUIET: f64 = 0.5;
const BURST: f64 = 20.0 * QUIET;
const USUAL: f64 = 4.0;

const DAY: [Part; 8] = [
    Part { name: "quiet", share: 0.10, rate: QUIET, event: Event::None },
    Part { name: "burst of 20 times as much", share: 0.16, rate: BURST, event: Event::None },
    Part { name: "provider's limit halved", share: 0.16, rate: BURST, event: Event::Halve },
    Part { name: "limit as before", share: 0.12, rate: USUAL, event: Event::Restore },
    Part { name: "a worker killed", share: 0.10, rate: USUAL, event: Event::Kill },
    Part { name: "the broker restarted", share: 0.12, rate: USUAL, event: Event::Restart },
    Part { name: "rolling deploy", share: 0.14, rate: USUAL, event: Event::Deploy },
    Part { name: "quiet", share: 0.10, rate: QUIET, event: Event::None },
];
/// What is waited for after the last job: that the workers have gone back to one.
const EVENING: Duration = Duration::from_secs(60);

/// All that was seen of a day.
pub(crate) struct Seen {
    /// When each part began.
    pub(crate) parts: Vec<(Duration, &'static str)>,
    pub(crate) samples: Vec<Sample>,
    pub(crate) histories: Vec<History>,
    /// Clients that gave up, or saw what the contract does not have: what they said.
    pub(crate) broken: Vec<String>,
    /// Jobs that the store has.
    pub(crate) kept: usize,
    pub(crate) calls: Vec<millhand_tests::Call>,
    pub(crate) ledger: serde_json::Value,
    pub(crate) took: Duration,
    /// From the last job's end until one worker was left.
    pub(crate) back_at_min: Option<Duration>,
}

/// Plays a day of this length.
pub(crate) async fn play(mut mill: Mill, length: Duration) -> anyhow::Result<Seen> {
    let start = Instant::now();
    let mut watching = JoinSet::new();
    let (over, until) = tokio::sync::watch::channel(false);
    watching.spawn(watch::watch(mill.desk.subscribe(), mill.provider.client().clone(), start, until));
    let (mut clients, mut parts, mut begins) = (JoinSet::new(), Vec::new(), Duration::ZERO);
    let mut number = 0;
    for part in &DAY {
        sleep_until(start + begins).await;
        parts.push((start.elapsed(), part.name));
        eprintln!("{:>5.0} s  {}", start.elapsed().as_secs_f64(), part.name);
        let lasts = length.mul_f64(part.share);
        let doors = mill.doors.each_ref().map(tokio::sync::watch::Sender::subscribe);
        let jobs = load::jobs(number, part.rate, lasts);
        number += jobs.len() as u32;
        let coming = load::come(&mut clients, jobs, doors, start + begins);
        let event = happen(&mut mill, part.event);
        let ((), event) = futures::join!(coming, event);
        event.with_context(|| part.name)?;
        begins += lasts;
    }
    let (mut histories, mut broken) = (Vec::new(), Vec::new());
    while let Some(ended) = clients.join_next().await {
        match ended {
            Ok(history) => histories.push(history),
            Err(err) => broken.push(err.to_string()),
        }
    }
    let ended = Instant::now();
    let desk = mill.desk.subscribe();
    let back_at_min = loop {
        let workers = watch::workers(&desk.borrow().clone()).await;
        if workers == Some(1) {
            break Some(ended.elapsed());
        }
        if ended.elapsed() > EVENING {
            break None;
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
    };
    over.send_replace(true);
    let samples = watching.join_next().await.context("it watches")??;
    let client = mill.doors[0].borrow().clone();
    let kept = load::kept(&client).await;
    let (calls, ledger) = (mill.provider.calls().await, mill.provider.ledger().await);
    mill.stop().await?;
    Ok(Seen { parts, samples, histories, broken, kept, calls, ledger, took: start.elapsed(), back_at_min })
}

async fn happen(mill: &mut Mill, event: Event) -> anyhow::Result<()> {
    match event {
        Event::None => Ok(()),
        Event::Halve => {
            mill.limit(LIMIT / 2).await;
            Ok(())
        }
        Event::Restore => {
            mill.limit(LIMIT).await;
            Ok(())
        }
        Event::Kill => mill.kill_a_worker(),
        Event::Restart => {
            mill.restart_the_broker().await;
            Ok(())
        }
        Event::Deploy => mill.deploy().await,
    }
}
