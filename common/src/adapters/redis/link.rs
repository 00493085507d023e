//! Connections to the server or cluster: they come back by themselves, and an operation is repeated as
//! long as its patience lasts.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use redis::aio::{AsyncPushSender, MultiplexedConnection};
use redis::cluster::{ClusterClient, ClusterClientBuilder};
use redis::cluster_async::ClusterConnection;
use redis::cluster_routing::{MultipleNodeRoutingInfo, RoutingInfo};
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, ProtocolVersion, RedisError, RedisResult, ServerErrorKind,
    Value, cmd,
};

use crate::ports::StoreError;

use super::address::Address;
use super::fault::{Fault, fault, not_opened};
use super::options::OpenError;
use super::scripts::Script;

/// How long one command may stay unanswered.
const ANSWER: Duration = Duration::from_secs(1);
/// Before a failed operation is tried again; doubles up to [`LONGEST_PAUSE`].
const PAUSE: Duration = Duration::from_millis(10);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// A connection that many operations share.
#[derive(Clone)]
pub(super) enum Conn {
    Single(MultiplexedConnection),
    Cluster(ClusterConnection),
}

impl Conn {
    pub(super) async fn run(&mut self, command: &Cmd) -> RedisResult<Value> {
        match self {
            Self::Single(conn) => command.query_async(conn).await,
            Self::Cluster(conn) => command.query_async(conn).await,
        }
    }

    /// Runs a command on every master; each answer with its address.
    pub(super) async fn run_on_masters(&mut self, command: &Cmd) -> RedisResult<Vec<(String, Value)>> {
        match self {
            Self::Single(conn) => Ok(vec![(String::new(), command.query_async(conn).await?)]),
            Self::Cluster(conn) => {
                let route = RoutingInfo::MultiNode((MultipleNodeRoutingInfo::AllMasters, None));
                let answer: Value = conn.route_command(command.clone(), route).await?;
                Ok(match answer {
                    Value::Map(pairs) => {
                        pairs.into_iter().map(|(node, value)| (as_string(node), value)).collect()
                    }
                    Value::Array(nodes) => nodes
                        .into_iter()
                        .filter_map(|node| match node {
                            Value::Array(pair) => {
                                let mut pair = pair.into_iter();
                                Some((as_string(pair.next()?), pair.next()?))
                            }
                            _ => None,
                        })
                        .collect(),
                    other => vec![(String::new(), other)],
                })
            }
        }
    }
}

fn as_string(value: Value) -> String {
    redis::from_redis_value(value).unwrap_or_default()
}

/// Where the store is.
enum Target {
    /// One server, or a master and its replicas.
    Single(Vec<Client>),
    Cluster(Address),
}

pub(super) struct Link {
    target: Target,
    address: String,
    patience: Duration,
    /// Which of several servers was the master when it was last looked for.
    master: AtomicUsize,
    conn: Mutex<Option<(u64, Conn)>>,
    /// The number of the last one. One connects, the others wait for it.
    connecting: tokio::sync::Mutex<u64>,
    failed_at: Mutex<Option<Instant>>,
}

/// An answer; `repeated` says that an earlier try of this operation may have been done.
pub(super) struct Answer {
    pub(super) value: Value,
    pub(super) repeated: bool,
}

impl Link {
    /// Finds out whether `url` (several by comma) is a cluster, or one server with its replicas.
    pub(super) async fn find(url: &str, patience: Duration) -> Result<Self, OpenError> {
        let named = Address::parse(url)?;
        let mut failure = OpenError::Url("there is none".to_owned());
        for seed in &named.seeds {
            let address = seed.addr().to_string();
            let client = named.client(seed).map_err(bad_certificate)?;
            match says_of_itself(&client, "cluster", "cluster_enabled:1").await {
                Ok((is_cluster, conn)) => {
                    let target = if is_cluster {
                        Target::Cluster(named.clone())
                    } else {
                        let clients = named.seeds.iter().map(|seed| named.client(seed));
                        Target::Single(clients.collect::<RedisResult<_>>().map_err(bad_certificate)?)
                    };
                    // Of several servers this one may be a replica.
                    let is_only = !is_cluster && named.seeds.len() == 1;
                    return Ok(Self {
                        target,
                        address,
                        patience,
                        master: AtomicUsize::new(0),
                        conn: Mutex::new(is_only.then_some((1, Conn::Single(conn)))),
                        connecting: tokio::sync::Mutex::new(1),
                        failed_at: Mutex::default(),
                    });
                }
                Err(err) => failure = not_opened(address, named.has_password(), &err),
            }
        }
        Err(failure)
    }

    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn is_cluster(&self) -> bool {
        matches!(self.target, Target::Cluster(_))
    }

    /// Whether an operation failed less than `age` ago: then silence of others proves nothing.
    pub(super) fn failed_within(&self, age: Duration) -> bool {
        self.failed_at.lock().unwrap_or_else(PoisonError::into_inner).is_some_and(|at| at.elapsed() < age)
    }

    fn note_failure(&self) {
        *self.failed_at.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
    }

    /// A new connection; what the server pushes goes to `pushes`.
    pub(super) async fn connect(&self, pushes: Option<impl AsyncPushSender>) -> RedisResult<Conn> {
        match &self.target {
            Target::Single(clients) => {
                let client = self.master_of(clients).await?;
                let Some(pushes) = pushes else {
                    let conn = client.get_multiplexed_async_connection_with_config(&config()).await?;
                    return Ok(Conn::Single(conn));
                };
                let info = client.get_connection_info().clone();
                let settings = info.redis_settings().clone().set_protocol(ProtocolVersion::RESP3);
                let client = Client::open(info.set_redis_settings(settings))?;
                let config = config().set_push_sender(pushes);
                Ok(Conn::Single(client.get_multiplexed_async_connection_with_config(&config).await?))
            }
            Target::Cluster(named) => {
                let mut builder: ClusterClientBuilder = ClusterClient::builder(named.seeds.clone())
                    .connection_timeout(ANSWER)
                    .response_timeout(ANSWER)
                    .retries(3)
                    .max_retry_wait(200);
                if let Some(certificates) = named.certificates() {
                    builder = builder.certs(certificates);
                }
                if let Some(pushes) = pushes {
                    builder = builder.use_protocol(ProtocolVersion::RESP3).push_sender(pushes);
                }
                Ok(Conn::Cluster(builder.build()?.get_async_connection().await?))
            }
        }
    }

    /// The one of `clients` that is the master now. A master that was replaced and comes back as one must
    /// be kept from us by whoever replaced it.
    async fn master_of<'a>(&self, clients: &'a [Client]) -> RedisResult<&'a Client> {
        if let [only] = clients {
            return Ok(only);
        }
        let mut failure = RedisError::from((
            ErrorKind::Server(ServerErrorKind::ReadOnly),
            "none of the servers is a master",
        ));
        let last = self.master.load(Ordering::Relaxed);
        for at in (last..clients.len()).chain(0..last) {
            match says_of_itself(&clients[at], "replication", "role:master").await {
                Ok((true, _)) => {
                    self.master.store(at, Ordering::Relaxed);
                    return Ok(&clients[at]);
                }
                Ok((false, _)) => {}
                Err(err) => failure = err,
            }
        }
        Err(failure)
    }

    async fn conn(&self) -> RedisResult<(u64, Conn)> {
        let current = || self.conn.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some(conn) = current() {
            return Ok(conn);
        }
        let mut made = self.connecting.lock().await;
        if let Some(conn) = current() {
            return Ok(conn);
        }
        let conn = self.connect(None::<fn(redis::PushInfo) -> Result<(), ()>>).await?;
        *made += 1;
        *self.conn.lock().unwrap_or_else(PoisonError::into_inner) = Some((*made, conn.clone()));
        Ok((*made, conn))
    }

    fn drop_conn(&self, number: u64) {
        let mut conn = self.conn.lock().unwrap_or_else(PoisonError::into_inner);
        if conn.as_ref().is_some_and(|(current, _)| *current == number) {
            *conn = None;
        }
    }

    /// Runs a script on `keys`, which lie in one slot. Dropping it leaves the operation done or not.
    pub(super) async fn call(
        &self,
        script: &Script,
        keys: &[String],
        args: &[String],
    ) -> Result<Answer, StoreError> {
        let mut command = cmd("EVALSHA");
        command.arg(&script.sha).arg(keys.len()).arg(keys).arg(args);
        let (value, repeated) = match self.patiently(&command, false).await {
            Err(Failed::NoScript { repeated }) => {
                let mut whole = cmd("EVAL");
                whole.arg(&script.source).arg(keys.len()).arg(keys).arg(args);
                let (value, again) = self.patiently(&whole, false).await?;
                (value, repeated || again)
            }
            answer => answer?,
        };
        Ok(Answer { value: value.into_iter().next().map_or(Value::Nil, |(_, value)| value), repeated })
    }

    /// Runs a plain command that may be repeated.
    pub(super) async fn command(&self, command: Cmd) -> Result<Value, StoreError> {
        let (value, _) = self.patiently(&command, false).await?;
        Ok(value.into_iter().next().map_or(Value::Nil, |(_, value)| value))
    }

    /// Runs a plain command that may be repeated on every master; each answer with its address.
    pub(super) async fn on_masters(&self, command: &Cmd) -> Result<Vec<(String, Value)>, StoreError> {
        Ok(self.patiently(command, true).await?.0)
    }

    async fn once(
        &self,
        command: &Cmd,
        on_masters: bool,
        used: &mut Option<u64>,
    ) -> RedisResult<Vec<(String, Value)>> {
        let (number, mut conn) = self.conn().await?;
        *used = Some(number);
        if on_masters {
            conn.run_on_masters(command).await
        } else {
            Ok(vec![(String::new(), conn.run(command).await?)])
        }
    }

    async fn patiently(
        &self,
        command: &Cmd,
        on_masters: bool,
    ) -> Result<(Vec<(String, Value)>, bool), Failed> {
        let until = Instant::now() + self.patience;
        let (mut pause, mut repeated) = (PAUSE, false);
        loop {
            let mut used = None;
            let err = match self.once(command, on_masters, &mut used).await {
                Ok(answer) => return Ok((answer, repeated)),
                Err(err) => err,
            };
            let is_lost = match fault(&err) {
                Fault::Full => return Err(Failed::Store(StoreError::Full)),
                Fault::NoScript => return Err(Failed::NoScript { repeated }),
                Fault::Broken => return Err(Failed::Store(StoreError::Damaged(err.to_string()))),
                Fault::Away { is_lost } => is_lost,
            };
            self.note_failure();
            if let Some(number) = used {
                repeated |= is_lost;
                // A cluster's connection mends itself; one to a single server, or to one that became a
                // replica, is made anew.
                if !self.is_cluster() {
                    self.drop_conn(number);
                }
            }
            if Instant::now() + pause >= until {
                return Err(Failed::Store(StoreError::Unreachable(err.to_string())));
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(LONGEST_PAUSE);
        }
    }
}

/// Why a command was given up.
enum Failed {
    /// The server does not have the script: it is new, or was started again after a try that may have
    /// been done.
    NoScript {
        repeated: bool,
    },
    Store(StoreError),
}

impl From<Failed> for StoreError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::NoScript { .. } => Self::Damaged("a script is missing".to_owned()),
            Failed::Store(err) => err,
        }
    }
}

/// Whether the server's words about itself hold `what`, and the connection on which they were said.
async fn says_of_itself(
    client: &Client,
    section: &str,
    what: &str,
) -> RedisResult<(bool, MultiplexedConnection)> {
    let mut conn = client.get_multiplexed_async_connection_with_config(&config()).await?;
    let info: String = cmd("INFO").arg(section).query_async(&mut conn).await?;
    Ok((info.contains(what), conn))
}

#[expect(clippy::needless_pass_by_value, reason = "it stands in map_err")]
fn bad_certificate(err: RedisError) -> OpenError {
    OpenError::Url(format!("its cacertfile: {err}"))
}

fn config() -> AsyncConnectionConfig {
    AsyncConnectionConfig::new().set_connection_timeout(Some(ANSWER)).set_response_timeout(Some(ANSWER))
}
