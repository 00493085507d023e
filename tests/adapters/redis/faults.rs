//! What a store does while its server is killed, frozen, cut off, demoted, or forgets its scripts.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use millhand_common::adapters::redis::{RedisOptions, RedisStore};
use millhand_common::conformance::store::{Subject, chat, completed, delta, new_tenant, request};
use millhand_common::follow::{FollowError, Follower};
use millhand_common::model::{Event, Job, JobError, Lane, Terminal, WaitReason, WorkerId};
use millhand_common::ports::{
    Accepted, Appended, By, Claim, Claimed, Closed, JobReader, JobStore, Lease, Lookup, Released, Replayed,
    StoreError,
};
use millhand_tests::servers::Redis;
use millhand_tests::wait_for;
use rustix::process::Signal;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;

use super::{alone, shared, subject};

/// Forwards to a server; cuts the connection on which it sees the mark, before the answer passes.
struct Cutter {
    at: SocketAddr,
    mark: Arc<Mutex<Option<Vec<u8>>>>,
    cuts: Arc<AtomicU32>,
    _tasks: JoinSet<()>,
}

impl Cutter {
    async fn before(server: u16) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let at = listener.local_addr().unwrap();
        let (mark, cuts) = (Arc::new(Mutex::new(None)), Arc::new(AtomicU32::new(0)));
        let (its_mark, its_cuts) = (Arc::clone(&mark), Arc::clone(&cuts));
        let mut tasks = JoinSet::new();
        tasks.spawn(async move {
            let mut pairs = JoinSet::new();
            while let Ok((client, _)) = listener.accept().await {
                pairs.spawn(forward(client, server, Arc::clone(&its_mark), Arc::clone(&its_cuts)));
            }
        });
        Self { at, mark, cuts, _tasks: tasks }
    }

    /// The answer to the next request that holds `mark` is lost.
    fn lose_answer_to(&self, mark: &str) {
        *self.mark.lock().unwrap() = Some(mark.as_bytes().to_vec());
    }

    fn cuts(&self) -> u32 {
        self.cuts.load(Ordering::SeqCst)
    }
}

/// Whether this request holds the mark; then no later one does.
fn takes(mark: &Mutex<Option<Vec<u8>>>, asked: &[u8]) -> bool {
    let mut wanted = mark.lock().unwrap();
    let found =
        wanted.as_ref().is_some_and(|mark| asked.windows(mark.len()).any(|part| part == mark.as_slice()));
    if found {
        *wanted = None;
    }
    found
}

async fn forward(
    mut client: TcpStream,
    server: u16,
    mark: Arc<Mutex<Option<Vec<u8>>>>,
    cuts: Arc<AtomicU32>,
) {
    let Ok(mut server) = TcpStream::connect(("127.0.0.1", server)).await else { return };
    let (mut asked, mut answered) = (vec![0; 64 << 10], vec![0; 64 << 10]);
    let mut is_marked = false;
    loop {
        tokio::select! {
            read = client.read(&mut asked) => {
                let Ok(length @ 1..) = read else { return };
                is_marked |= takes(&mark, &asked[..length]);
                if server.write_all(&asked[..length]).await.is_err() { return };
            }
            read = server.read(&mut answered) => {
                let Ok(length @ 1..) = read else { return };
                if is_marked {
                    cuts.fetch_add(1, Ordering::SeqCst);
                    return;
                }
                if client.write_all(&answered[..length]).await.is_err() { return };
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_operation_whose_answer_is_lost_is_done_once_and_answered() {
    let cutter = Cutter::before(shared().await.port()).await;
    let options = alone();
    let clock = options.clock.clone();
    let store = RedisStore::open(&format!("redis://{}", cutter.at), options).await.unwrap();
    let on = subject(Arc::clone(&store), clock.clone());
    let (tenant, worker) = (new_tenant(), WorkerId::new());
    let lose = || cutter.lose_answer_to(tenant.as_str());

    lose();
    let Accepted::Created(job) = store.accept(request(chat(&tenant, "q"))).await.unwrap() else {
        panic!("it was new")
    };
    lose();
    let Claimed::Run(run) = store.claim(&tenant, job.spec.id, Claim::new(worker)).await.unwrap() else {
        panic!("it was free")
    };
    assert_eq!((run.job.attempt, run.lease.epoch), (1, 1));
    lose();
    assert_eq!(on.append(&run.lease, 3, &["once"]).await, Appended::Ok);
    lose();
    let released = store.release(&run.lease, None, WaitReason::Retry).await.unwrap();
    assert_eq!(released, Released::Ok);

    // From the due index: the tenant is not in the request, the owner is.
    cutter.lose_answer_to(&format!("\r\n{worker}\r\n"));
    let run = store.claim_due(Lane::Interactive, Claim::new(worker)).await.unwrap().expect("it is due");
    assert_eq!((run.job.attempt, run.job.deaths), (2, 0));
    lose();
    let by = By::Owner { epoch: run.lease.epoch, first_seq: 6, tail: vec![delta("twice")] };
    let failed = Terminal::failed(JobError::new("model_error", "it broke", false));
    assert_eq!(store.close(&tenant, job.spec.id, by, failed).await.unwrap(), Closed::Ok);
    let kinds = on.kinds(&job).await;
    let expected = [
        "job.queued",
        "attempt.started",
        "output_text.delta",
        "job.waiting",
        "attempt.started",
        "output_text.delta",
        "job.failed",
    ];
    assert_eq!(kinds, expected);

    lose();
    let Replayed::Job(_, made) = store.replay(job.spec.id).await.unwrap() else { panic!("it is kept") };
    assert!(made);
    let other = on.accept(chat(&tenant, "another")).await;
    lose();
    let cancelled = Terminal::bare(millhand_common::model::Status::Cancelled);
    assert_eq!(store.close(&tenant, other.spec.id, By::Anyone, cancelled).await.unwrap(), Closed::Ok);
    lose();
    assert!(JobStore::delete(&*store, &tenant, other.spec.id).await.unwrap());
    assert_eq!(cutter.cuts(), 9, "every answer above was lost once");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_forgot_its_scripts_is_given_them_again() {
    let server = Redis::start().await;
    let options = alone();
    let clock = options.clock.clone();
    let on = subject(RedisStore::open(&server.url(), options).await.unwrap(), clock);
    let job = on.accept(chat(&new_tenant(), "q")).await;
    server.says("SCRIPT FLUSH SYNC").unwrap();
    let run = on.claim(&job, WorkerId::new()).await;
    server.says("SCRIPT FLUSH SYNC").unwrap();
    assert_eq!(on.finish(&run, completed("a")).await, Closed::Ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_frozen_or_demoted_server_is_unreachable_in_time_and_then_goes_on() {
    let server = Redis::start().await;
    let options = RedisOptions { patience: Duration::from_millis(1500), ..alone() };
    let store = RedisStore::open(&server.url(), options).await.unwrap();
    let tenant = new_tenant();
    let accept = async || store.accept(request(chat(&tenant, "q"))).await;
    accept().await.unwrap();

    server.process().signal(Signal::STOP);
    let asked = Instant::now();
    assert!(matches!(accept().await, Err(StoreError::Unreachable(_))));
    assert!(asked.elapsed() < Duration::from_secs(5), "{:?}", asked.elapsed());
    server.process().signal(Signal::CONT);
    wait_for("the server to go on", async || accept().await.ok()).await;

    // A failover away from this server: it refuses writes.
    assert!(server.says("REPLICAOF 127.0.0.1 1").unwrap().starts_with("+OK"));
    assert!(matches!(accept().await, Err(StoreError::Unreachable(_))));
    assert!(store.ready().await.is_err());
    assert!(server.says("REPLICAOF NO ONE").unwrap().starts_with("+OK"));
    wait_for("it to be master again", async || accept().await.ok()).await;
    store.ready().await.unwrap();
}

/// Follows a log to its end as a client does: after an error it asks again from what it has.
pub(super) async fn follow_through(store: Arc<RedisStore>, job: Job) -> (Vec<Arc<Event>>, u32) {
    let (mut events, mut errors): (Vec<Arc<Event>>, u32) = (Vec::new(), 0);
    loop {
        let after = events.last().map_or(0, |event| event.seq);
        let mut follower = Follower::new(store.clone(), job.spec.tenant.clone(), job.spec.id, after);
        loop {
            match follower.next().await {
                Ok(Some(event)) => events.push(event),
                Ok(None) => return (events, errors),
                Err(FollowError::Store(StoreError::Unreachable(_))) => break,
                Err(err) => panic!("{err}"),
            }
        }
        errors += 1;
    }
}

/// Writes `batches` of events and ends the job, repeating what was not answered.
pub(super) async fn write_through(
    store: &RedisStore,
    lease: &Lease,
    batches: u64,
    mut between: impl AsyncFnMut(u64),
) {
    let mut next = 3;
    for batch in 0..batches {
        between(batch).await;
        let events = vec![delta("字"), delta(&batch.to_string())];
        loop {
            match store.append(lease, next, events.clone()).await {
                Ok(Appended::Ok | Appended::Duplicate) => break,
                Ok(other) => panic!("{other:?}"),
                Err(StoreError::Unreachable(_)) => {}
                Err(err) => panic!("{err}"),
            }
        }
        next += 2;
    }
    let by = By::Owner { epoch: lease.epoch, first_seq: next, tail: Vec::new() };
    let closed = store.close(&lease.tenant, lease.job, by, completed("")).await.unwrap();
    assert_eq!(closed, Closed::Ok);
}

#[tokio::test(flavor = "multi_thread")]
async fn readers_miss_nothing_when_the_server_is_killed_or_their_subscription_cut() {
    let mut server = Redis::start().await;
    let options = alone();
    let clock = options.clock.clone();
    let store = RedisStore::open(&server.url(), options).await.unwrap();
    let on: Subject = subject(Arc::clone(&store), clock);
    let job = on.accept(chat(&new_tenant(), "q")).await;
    let run = on.claim(&job, WorkerId::new()).await;
    let mut readers = JoinSet::new();
    for _ in 0..20 {
        readers.spawn(follow_through(Arc::clone(&store), job.clone()));
    }
    write_through(&store, &run.lease, 200, async |batch| match batch {
        50 | 150 => {
            server.kill9();
            server.restart().await;
        }
        20 | 100 | 180 => {
            // After a restart the subscription may still be on its way.
            wait_for("a subscription to cut", async || {
                let said = server.says("CLIENT KILL TYPE pubsub").unwrap();
                (!said.starts_with(":0")).then_some(())
            })
            .await;
        }
        _ => {}
    })
    .await;
    let whole = on.log(&job).await;
    assert_eq!(whole.len(), 403);
    while let Some(reader) = readers.join_next().await {
        let (events, errors) = reader.unwrap();
        assert_eq!(events, whole, "with {errors} errors on the way");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_killed_server_loses_nothing_that_was_confirmed() {
    let mut server = Redis::start().await;
    let store = RedisStore::open(&server.url(), alone()).await.unwrap();
    let tenant = new_tenant();
    let confirmed = Arc::new(Mutex::new(Vec::new()));
    let (stop, stopped) = tokio::sync::watch::channel(false);
    let mut writers = JoinSet::new();
    for _ in 0..4 {
        let (store, tenant, confirmed, stopped) =
            (Arc::clone(&store), tenant.clone(), Arc::clone(&confirmed), stopped.clone());
        writers.spawn(async move {
            let mut unanswered = 0_u32;
            while !*stopped.borrow() {
                match store.accept(request(chat(&tenant, "q"))).await {
                    Ok(Accepted::Created(job)) => confirmed.lock().unwrap().push(job.spec.id),
                    Ok(other) => panic!("{other:?}"),
                    Err(StoreError::Unreachable(_)) => unanswered += 1,
                    Err(err) => panic!("{err}"),
                }
            }
            unanswered
        });
    }
    for _ in 0..4 {
        let enough = confirmed.lock().unwrap().len() + 100;
        wait_for("accepts", async || (confirmed.lock().unwrap().len() >= enough).then_some(())).await;
        server.kill9();
        server.restart().await;
    }
    stop.send(true).unwrap();
    while let Some(writer) = writers.join_next().await {
        writer.unwrap();
    }
    let confirmed = confirmed.lock().unwrap().clone();
    assert!(confirmed.len() >= 400);
    for job in confirmed {
        let found = JobReader::get(&*store, &tenant, job).await.unwrap();
        assert!(matches!(found, Lookup::Found(_)), "{job} was confirmed: {found:?}");
    }
}
