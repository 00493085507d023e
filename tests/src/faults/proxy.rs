//! A TCP proxy that goes wrong on demand: between one process and one server, so that a fault can hit
//! one link and no other. It knows AMQP and Redis well enough to cut at the moment that hurts most.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// What becomes of bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Pass,
    /// Connections stay open and nothing comes through, either way.
    Silent,
    /// The server hears everything and nothing comes back: half open.
    Deaf,
    /// Connections are reset, new ones too.
    Cut,
}

/// The proxy. Dropped, its connections are.
pub struct Proxy {
    address: SocketAddr,
    shared: Arc<Shared>,
    _tasks: JoinSet<()>,
}

struct Shared {
    to: String,
    mode: watch::Sender<Mode>,
    /// Of so many confirms or script replies one is lost with its connection; 0: none.
    lose_one_in: AtomicU32,
    counted: AtomicU32,
    lost: AtomicU64,
}

impl Proxy {
    /// A proxy of the server at `to`, that passes everything on.
    pub async fn start(to: &str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("loopback has a free port");
        let address = listener.local_addr().expect("it is bound");
        let shared = Arc::new(Shared {
            to: to.to_owned(),
            mode: watch::Sender::new(Mode::Pass),
            lose_one_in: AtomicU32::new(0),
            counted: AtomicU32::new(0),
            lost: AtomicU64::new(0),
        });
        let mut tasks = JoinSet::new();
        tasks.spawn(serve(listener, Arc::clone(&shared)));
        Self { address, shared, _tasks: tasks }
    }

    /// `host:port` of this side.
    #[must_use]
    pub fn address(&self) -> String {
        self.address.to_string()
    }

    pub fn set(&self, mode: Mode) {
        self.shared.mode.send_replace(mode);
    }

    /// From now on the answer to one in `n` publishes (a confirm) or writes (a script's reply) is lost on its
    /// way, together with its connection: what was asked for has happened, and nobody is told. 0 ends it.
    pub fn lose_one_in(&self, n: u32) {
        self.shared.lose_one_in.store(n, Ordering::Relaxed);
    }

    /// How many answers were lost so.
    #[must_use]
    pub fn lost(&self) -> u64 {
        self.shared.lost.load(Ordering::Relaxed)
    }
}

impl Shared {
    /// Whether this answer is one to lose.
    fn loses(&self) -> bool {
        let n = self.lose_one_in.load(Ordering::Relaxed);
        let lost = n > 0 && self.counted.fetch_add(1, Ordering::Relaxed) % n == n - 1;
        if lost {
            self.lost.fetch_add(1, Ordering::Relaxed);
        }
        lost
    }
}

async fn serve(listener: TcpListener, shared: Arc<Shared>) {
    let mut connections = JoinSet::new();
    while let Ok((client, _)) = listener.accept().await {
        connections.spawn(connection(client, Arc::clone(&shared)));
        while connections.try_join_next().is_some() {}
    }
}

async fn connection(client: TcpStream, shared: Arc<Shared>) {
    let mut mode = shared.mode.subscribe();
    let whole = async {
        let server = TcpStream::connect(&shared.to).await?;
        // Without it the proxy adds 40 ms now and then.
        client.set_nodelay(true)?;
        server.set_nodelay(true)?;
        let (from_client, to_client) = client.into_split();
        let (from_server, to_server) = server.into_split();
        let scripts = AtomicU32::new(0);
        // Either end is the end of both: the rest is dropped, which closes them.
        tokio::select! {
            ended = forward(from_client, to_server, &shared, Way::Asks(&scripts)) => ended,
            ended = forward(from_server, to_client, &shared, Way::Answers(&scripts)) => ended,
        }
    };
    // An error is the end of a connection, which is what both sides see.
    tokio::select! {
        _ended = whole => {}
        _cut = mode.wait_for(|mode| *mode == Mode::Cut) => {}
    }
}

enum Way<'a> {
    /// Counts the scripts that Redis is asked to run.
    Asks(&'a AtomicU32),
    Answers(&'a AtomicU32),
}

async fn forward(
    mut from: OwnedReadHalf,
    mut to: OwnedWriteHalf,
    shared: &Shared,
    way: Way<'_>,
) -> std::io::Result<()> {
    let mut mode = shared.mode.subscribe();
    let mut buffer = vec![0; 16 * 1024];
    let mut frames = Frames::default();
    loop {
        let read = from.read(&mut buffer).await?;
        if read == 0 {
            return Ok(());
        }
        let bytes = &buffer[..read];
        let (passes, lost): (fn(&Mode) -> bool, bool) = match &way {
            Way::Asks(scripts) => {
                let asked = bytes.windows(7).filter(|word| *word == b"EVALSHA").count();
                scripts.fetch_add(u32::try_from(asked).unwrap_or(0), Ordering::Relaxed);
                (|mode| *mode != Mode::Silent, false)
            }
            Way::Answers(scripts) => {
                let answered = scripts.swap(0, Ordering::Relaxed) + frames.confirms(bytes);
                (|mode| matches!(mode, Mode::Pass | Mode::Cut), (0..answered).any(|_| shared.loses()))
            }
        };
        if lost {
            return Ok(());
        }
        // An error means the proxy is gone.
        let _ = mode.wait_for(passes).await;
        to.write_all(bytes).await?;
    }
}

/// Frames of AMQP in a stream of bytes, wherever reads cut it.
#[derive(Default)]
struct Frames {
    bytes: Vec<u8>,
    /// These bytes are of another protocol.
    foreign: bool,
}

impl Frames {
    /// How many confirms end in `more`.
    fn confirms(&mut self, more: &[u8]) -> u32 {
        // A method's frame: type 1, channel 0, or the first byte of Redis' answers.
        if self.foreign || (self.bytes.is_empty() && !(1..=8).contains(&more[0])) {
            self.foreign = true;
            return 0;
        }
        self.bytes.extend_from_slice(more);
        let mut confirms = 0;
        // type, channel (2), size (4), payload, end mark.
        while let Some(size) = self.bytes.get(3..7) {
            let whole = 8 + u32::from_be_bytes(size.try_into().expect("four bytes")) as usize;
            if self.bytes.len() < whole {
                break;
            }
            let is_ack = self.bytes[0] == 1 && self.bytes.get(7..11) == Some(&[0, 60, 0, 80]);
            confirms += u32::from(is_ack);
            self.bytes.drain(..whole);
        }
        confirms
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confirms_are_counted_however_bytes_are_cut() {
        let ack = [1, 0, 1, 0, 0, 0, 13, 0, 60, 0, 80, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0xCE];
        let heartbeat = [8, 0, 0, 0, 0, 0, 0, 0xCE];
        let stream = [&heartbeat[..], &ack[..], &heartbeat[..], &ack[..]].concat();
        for cut in 1..stream.len() {
            let mut frames = Frames::default();
            let counted = frames.confirms(&stream[..cut]) + frames.confirms(&stream[cut..]);
            assert_eq!(counted, 2, "cut at {cut}");
        }
        assert_eq!(Frames::default().confirms(b"*3\r\n$7\r\n"), 0);
    }
}
