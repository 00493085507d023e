//! Durable accepts against a loop that appends the same bytes with the same engine, one sync per group.

use std::sync::Arc;
use std::time::{Duration, Instant};

use hdrhistogram::Histogram;
use millhand_common::adapters::embedded::{EmbeddedStore, Folder, StoreOptions};
use millhand_common::model::{
    AgentName, ConversationId, JobId, JobInput, JobSpec, Lane, Message, OnBusy, Role, TenantId,
};
use millhand_common::ports::{Accept, Accepted, Expected, JobStore};
use rusqlite::Connection;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;

use crate::table::Table;
use crate::{ROUNDS, median};

pub(crate) const WRITERS: usize = 64;
const GROUP: usize = 256;
const SECONDS: f64 = 2.0;

pub(crate) fn accept() -> Accept {
    let content = "At what water level must the wheel not be started?".to_owned();
    let spec = JobSpec {
        id: JobId::new(),
        tenant: TenantId::default(),
        input: JobInput::Chat { messages: vec![Message { role: Role::User, content }] },
        agent: AgentName::rag(),
        lane: Lane::Interactive,
        conversation_id: Some(ConversationId::new()),
        collection: None,
        filter: None,
        deadline: Duration::from_secs(3600),
        not_before: None,
        max_output_tokens: None,
        metadata: None,
        replay_of: None,
        traceparent: None,
    };
    Accept {
        spec,
        known_conversation: false,
        on_busy: OnBusy::Enqueue,
        replays_only: false,
        idempotency: None,
        expected: Expected::default(),
    }
}

/// Runs `write` with all writers; answers writes per second and their times in microseconds.
pub(crate) async fn writers<W, F>(write: W) -> anyhow::Result<(f64, Histogram<u64>)>
where
    W: Fn() -> F + Clone + Send + 'static,
    F: Future<Output = anyhow::Result<()>> + Send,
{
    let started = Instant::now();
    let mut all = JoinSet::new();
    for _ in 0..WRITERS {
        let write = write.clone();
        all.spawn(async move {
            let mut times = Histogram::<u64>::new(3)?;
            while started.elapsed().as_secs_f64() < SECONDS {
                let begun = Instant::now();
                write().await?;
                times.record(u64::try_from(begun.elapsed().as_micros())?.max(1))?;
            }
            anyhow::Ok(times)
        });
    }
    let mut times = Histogram::new(3)?;
    while let Some(ended) = all.join_next().await {
        times.add(ended??)?;
    }
    Ok((times.len() as f64 / started.elapsed().as_secs_f64(), times))
}

async fn ours() -> anyhow::Result<(f64, Histogram<u64>)> {
    let dir = tempfile::tempdir()?;
    let folder = Arc::new(Folder::open(dir.path())?);
    let store = EmbeddedStore::open(&folder, StoreOptions::default())?;
    writers(move || {
        let store = store.clone();
        async move {
            anyhow::ensure!(matches!(store.accept(accept()).await?, Accepted::Created(_)), "not created");
            Ok(())
        }
    })
    .await
}

type Append = (Vec<u8>, oneshot::Sender<()>);

/// The loop itself: whatever waits is one transaction.
fn append(db: &mut Connection, mut queue: mpsc::Receiver<Append>) -> rusqlite::Result<()> {
    let mut answers = Vec::with_capacity(GROUP);
    while let Some(mut next) = queue.blocking_recv() {
        let group = db.transaction()?;
        loop {
            group.prepare_cached("INSERT INTO log (payload) VALUES (?1)")?.execute([next.0])?;
            answers.push(next.1);
            match queue.try_recv() {
                Ok(more) if answers.len() < GROUP => next = more,
                Ok(more) => {
                    // The group is full: this one is its last.
                    group.prepare_cached("INSERT INTO log (payload) VALUES (?1)")?.execute([more.0])?;
                    answers.push(more.1);
                    break;
                }
                Err(_) => break,
            }
        }
        group.commit()?;
        for answer in answers.drain(..) {
            // An error means nobody waits any more.
            let _ = answer.send(());
        }
    }
    Ok(())
}

async fn floor() -> anyhow::Result<(f64, Histogram<u64>)> {
    let dir = tempfile::tempdir()?;
    let mut db = Connection::open(dir.path().join("log.db"))?;
    db.execute_batch(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0;
         CREATE TABLE log (id INTEGER PRIMARY KEY, payload BLOB NOT NULL);",
    )?;
    let (sender, queue) = mpsc::channel::<Append>(1024);
    let thread = std::thread::spawn(move || append(&mut db, queue));
    let measured = writers(move || {
        let sender = sender.clone();
        async move {
            let payload = serde_json::to_vec(&accept().spec)?;
            let (answer, answered) = oneshot::channel();
            sender.send((payload, answer)).await?;
            Ok(answered.await?)
        }
    })
    .await?;
    thread.join().map_err(|_| anyhow::anyhow!("the append loop broke"))??;
    Ok(measured)
}

pub(crate) async fn measure(table: &mut Table) -> anyhow::Result<()> {
    let (mut rates, mut p50s, mut p99s) = ([vec![], vec![]], [vec![], vec![]], [vec![], vec![]]);
    for _ in 0..ROUNDS {
        for (side, (rate, times)) in [floor().await?, ours().await?].into_iter().enumerate() {
            rates[side].push(rate);
            p50s[side].push(times.value_at_quantile(0.5) as f64 / 1000.0);
            p99s[side].push(times.value_at_quantile(0.99) as f64 / 1000.0);
        }
    }
    let [floor, ours] = rates.map(median);
    table.row("accepts, store", (ours, Some(floor), "/s"), ">= 0.6 x", Some(ours >= 0.6 * floor));
    let [floor, ours] = p50s.map(median);
    table.row("accept, store p50", (ours, Some(floor), "ms"), "", None);
    let [floor, ours] = p99s.map(median);
    table.row("accept, store p99", (ours, Some(floor), "ms"), "", None);
    Ok(())
}
