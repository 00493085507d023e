//! The store as a whole: what it stands on, and what its parts share.

use std::sync::Arc;

use redis::Value;
use tokio::task::JoinSet;
use uuid::Uuid;

use crate::model::{Event, JobId, Status, TenantId, Terminal};
use crate::ports::StoreError;
use crate::telemetry;

use super::super::ending::{Outcome, at_deadline, cited, last_event};
use super::crowd::Crowd;
use super::due::{Heads, SHARDS};
use super::feed::Feed;
use super::link::{Answer, Link};
use super::options::{OpenError, RedisOptions};
use super::presence::Connected;
use super::reply::{at, list, name, number, text};
use super::scripts::{self, Script};
use super::server::{self, Room};

/// The store in Redis. Clones of the `Arc` share its connections; dropping the last one closes them.
pub struct RedisStore {
    pub(super) link: Arc<Link>,
    pub(super) heads: Arc<Heads>,
    pub(super) feed: Arc<Feed>,
    pub(super) options: RedisOptions,
    pub(super) room: Room,
    pub(super) connected: Connected,
    pub(super) crowd: Crowd,
    /// Keeps the subscription connection; ends with the store.
    _tasks: JoinSet<()>,
}

impl RedisStore {
    /// Connects to `redis://[user:password@]host[:port][/db]` (`rediss://` for TLS, `?cacertfile=FILE` to
    /// trust the certificates in there; several by comma are nodes of a cluster, or a
    /// master and its replicas, of which the one is used that is master) and checks that the server keeps what it confirms.
    pub fn open(
        url: &str,
        options: RedisOptions,
    ) -> impl Future<Output = Result<Arc<Self>, OpenError>> + Send + 'static {
        Self::connect_to(url.to_owned(), options)
    }

    async fn connect_to(url: String, options: RedisOptions) -> Result<Arc<Self>, OpenError> {
        let link = Arc::new(Link::find(&url, options.patience).await?);
        server::check(&link, &options, format!("{}:{{s0}}:format", options.prefix)).await?;
        let heads = Arc::new(Heads::new(options.clock.clone()));
        let (feed, keep) = Feed::new(Arc::clone(&link), Arc::clone(&heads), &options.prefix);
        // A worker must hear its signals from its first claim on.
        feed.connect().await.map_err(|err| StoreError::Unreachable(err.to_string()))?;
        let mut tasks = JoinSet::new();
        tasks.spawn(keep);
        let (room, connected, crowd) = (Room::default(), Connected::default(), Crowd::default());
        let store = Self { link, heads, feed, options, room, connected, crowd, _tasks: tasks };
        store.write_shares().await?;
        Ok(Arc::new(store))
    }

    pub(super) fn prefix_of(&self, shard: u32) -> String {
        format!("{}:{{s{shard}}}", self.options.prefix)
    }

    /// Runs a script in one shard. The first argument, the time, is added here.
    pub(super) async fn run<const N: usize>(
        &self,
        script: &Script,
        shard: u32,
        args: [String; N],
    ) -> Result<Answer, StoreError> {
        self.run_with(script, vec![self.prefix_of(shard)], args.into()).await
    }

    pub(super) async fn run_with(
        &self,
        script: &Script,
        keys: Vec<String>,
        args: Vec<String>,
    ) -> Result<Answer, StoreError> {
        let clock = self.options.clock.manual_now().map_or(String::new(), |now| now.as_millis().to_string());
        let args: Vec<String> = std::iter::once(clock).chain(args).collect();
        self.link.call(script, &keys, &args).await
    }

    /// Runs a script that takes many shards: in one call on a single server, in one for each shard on a
    /// cluster. Answers come with the shards they are of.
    pub(super) async fn run_over(
        &self,
        script: &Script,
        shards: &[u32],
        args: &[String],
    ) -> Vec<(Vec<u32>, Result<Value, StoreError>)> {
        let together = if self.link.is_cluster() { 1 } else { shards.len().max(1) };
        let calls = shards.chunks(together).map(|some| self.run_for(script, some, args));
        futures::future::join_all(calls).await
    }

    async fn run_for(
        &self,
        script: &Script,
        shards: &[u32],
        args: &[String],
    ) -> (Vec<u32>, Result<Value, StoreError>) {
        let keys = shards.iter().map(|shard| self.prefix_of(*shard)).collect();
        let answer = self.run_with(script, keys, args.to_vec()).await;
        (shards.to_vec(), answer.map(|answer| answer.value))
    }

    /// Runs a script in every shard, side by side; answers in the order of shards.
    pub(super) async fn run_everywhere(
        &self,
        script: &Script,
        args: &[String],
    ) -> Vec<Result<Value, StoreError>> {
        let shards: Vec<u32> = (0..SHARDS).collect();
        self.run_in(script, &shards, args).await
    }

    /// Runs a script in each of these shards, side by side; answers in their order.
    pub(super) async fn run_in(
        &self,
        script: &Script,
        shards: &[u32],
        args: &[String],
    ) -> Vec<Result<Value, StoreError>> {
        let calls = shards.chunks(1).map(|one| self.run_for(script, one, args));
        futures::future::join_all(calls).await.into_iter().map(|(_, answer)| answer).collect()
    }

    /// Runs a command on the same key in every shard, side by side.
    pub(super) async fn ask_everywhere(
        &self,
        command: &str,
        key: &str,
        arg: Option<Uuid>,
    ) -> Result<Vec<Value>, StoreError> {
        let calls = (0..SHARDS).map(|shard| {
            let mut ask = redis::cmd(command);
            ask.arg(format!("{}:{key}", self.prefix_of(shard)));
            if let Some(arg) = arg {
                ask.arg(arg.simple().to_string());
            }
            self.link.command(ask)
        });
        futures::future::try_join_all(calls).await
    }

    /// Closes a job whose deadline has passed: what its log says is folded here, and the script closes
    /// it only if the log still ends there.
    pub(super) async fn expire(&self, tenant: &TenantId, job: JobId) -> Result<bool, StoreError> {
        let op = Uuid::now_v7();
        for _ in 0..10 {
            let Some((last_seq, log)) = self.whole_log(tenant, job).await? else { return Ok(false) };
            let by = CloseBy { word: "deadline", epoch: 0, seq: last_seq, tail: Vec::new() };
            let answer = self.close_by(tenant, job, op, by, &at_deadline(&log)).await?;
            match text(at(list(&answer.value)?, 0)?)? {
                "again" => {}
                "ok" => return Ok(true),
                _ => return Ok(false),
            }
        }
        // Its owner writes faster than it is read; the next sweep finds the lease gone.
        Ok(false)
    }

    async fn whole_log(
        &self,
        tenant: &TenantId,
        job: JobId,
    ) -> Result<Option<(u64, Vec<Event>)>, StoreError> {
        let args = [name(tenant, job.uuid()), "0".to_owned(), i64::MAX.to_string()];
        let answer = self.run(&scripts::LOG, shard_of(tenant), args).await?.value;
        let answer = list(&answer)?;
        if text(at(answer, 0)?)? != "log" {
            return Ok(None);
        }
        Ok(Some((number(at(answer, 2)?)?, super::reply::log(job, at(answer, 4)?)?)))
    }

    pub(super) async fn close_by(
        &self,
        tenant: &TenantId,
        job: JobId,
        op: Uuid,
        by: CloseBy,
        terminal: &Terminal,
    ) -> Result<Answer, StoreError> {
        let (kind, data) = last_event(terminal).parts();
        let cites = cited(terminal.output.as_ref());
        let mut args = vec![
            name(tenant, job.uuid()),
            op.simple().to_string(),
            by.word.to_owned(),
            by.epoch.to_string(),
            by.seq.to_string(),
            terminal.status.as_str().to_owned(),
            kind,
            data.get().to_owned(),
            outcome(terminal),
            cites.len().to_string(),
        ];
        args.extend(cites.iter().map(|document| document.simple().to_string()));
        args.extend(by.tail);
        let shard = shard_of(tenant);
        let answer = self.run_with(&scripts::CLOSE, vec![self.prefix_of(shard)], args).await?;
        self.heads.mark(shard);
        let parts = list(&answer.value)?;
        if let Some(ended) = parts.get(1).filter(|_| matches!(parts.first().map(text), Some(Ok("ok")))) {
            count_ended(ended)?;
        }
        Ok(answer)
    }
}

/// Who closes, as the script wants it.
pub(super) struct CloseBy {
    pub(super) word: &'static str,
    pub(super) epoch: u64,
    pub(super) seq: u64,
    /// Type and data of each event.
    pub(super) tail: Vec<String>,
}

/// Where all that belongs to a tenant lies.
pub(super) fn shard_of(tenant: &TenantId) -> u32 {
    crc32fast::hash(tenant.as_str().as_bytes()) % SHARDS
}

pub(super) fn outcome(terminal: &Terminal) -> String {
    let outcome =
        Outcome { output: terminal.output.clone(), usage: terminal.usage, error: terminal.error.clone() };
    serde_json::to_string(&outcome).expect("an outcome is plain data with string keys")
}

/// Records what a script ended: `<status> <milliseconds> <attempts>` of each.
pub(super) fn count_ended(ended: &Value) -> Result<(), StoreError> {
    for line in list(ended)? {
        let mut parts = text(line)?.split(' ');
        let status = parts.next().and_then(Status::parse).map_or("failed", Status::as_str);
        let mut amount = || parts.next().and_then(|part| part.parse::<f64>().ok()).unwrap_or(0.0);
        let (millis, attempts) = (amount(), amount());
        metrics::counter!(telemetry::JOBS_TERMINAL, "status" => status).increment(1);
        metrics::histogram!(telemetry::JOB_DURATION).record(millis / 1000.0);
        metrics::histogram!(telemetry::JOB_ATTEMPTS).record(attempts);
    }
    Ok(())
}
