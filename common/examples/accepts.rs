#![allow(clippy::unwrap_used, clippy::disallowed_methods)]
use std::sync::Arc;
use std::time::{Duration, Instant};
use millhand_common::adapters::embedded::*;
use millhand_common::model::*;
use millhand_common::ports::*;
fn question(text: &str) -> Accept {
    let message = Message { role: Role::User, content: text.to_owned() };
    let spec = JobSpec { id: JobId::new(), tenant: TenantId::default(), input: JobInput::Chat { messages: vec![message] },
        agent: AgentName::rag(), lane: Lane::Interactive, conversation_id: Some(ConversationId::new()), collection: None, filter: None,
        deadline: Duration::from_secs(120), not_before: None, max_output_tokens: None, metadata: None, replay_of: None, traceparent: None };
    Accept { spec, known_conversation: false, on_busy: OnBusy::Enqueue, idempotency: None }
}
#[tokio::main]
async fn main() {
    let dir = std::env::args().nth(1).unwrap();
    let writers: usize = std::env::args().nth(2).unwrap().parse().unwrap();
    let folder = Arc::new(Folder::open(std::path::Path::new(&dir)).unwrap());
    let store = EmbeddedStore::open(&folder, StoreOptions::default()).unwrap();
    let text = "x".repeat(700);
    let start = Instant::now();
    let n = 20000usize;
    let mut set = tokio::task::JoinSet::new();
    for _ in 0..writers { let store = store.clone(); let text = text.clone();
        set.spawn(async move { for _ in 0..n/writers { store.accept(question(&text)).await.unwrap(); } }); }
    while set.join_next().await.is_some() {}
    println!("accepts/s {:.0}", n as f64 / start.elapsed().as_secs_f64());
    // floor
    let db = rusqlite::Connection::open(std::path::Path::new(&dir).join("floor.db")).unwrap();
    db.execute_batch("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; PRAGMA wal_autocheckpoint=0; CREATE TABLE t(n INTEGER PRIMARY KEY, v BLOB)").unwrap();
    let (tx, rx) = std::sync::mpsc::sync_channel::<tokio::sync::oneshot::Sender<()>>(1024);
    let th = std::thread::spawn(move || { let v = vec![7u8; 1024];
        while let Ok(first) = rx.recv() { let mut b = vec![first]; while b.len() < 256 { match rx.try_recv() { Ok(x) => b.push(x), Err(_) => break } }
            db.execute_batch("BEGIN").unwrap(); for _ in &b { db.prepare_cached("INSERT INTO t(v) VALUES(?1)").unwrap().execute([&v]).unwrap(); } db.execute_batch("COMMIT").unwrap();
            for s in b { let _ = s.send(()); } } });
    let start = Instant::now();
    let mut set = tokio::task::JoinSet::new();
    for _ in 0..writers { let tx = tx.clone(); set.spawn(async move { for _ in 0..n/writers { let (a, b) = tokio::sync::oneshot::channel(); tx.send(a).unwrap(); b.await.unwrap(); } }); }
    while set.join_next().await.is_some() {}
    println!("floor/s {:.0}", n as f64 / start.elapsed().as_secs_f64());
    drop(tx); th.join().unwrap();
}
