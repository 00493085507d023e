//! A server's process, held by the test that started it.

use std::fs::{self, File};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{LazyLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;

use crate::wait::PATIENCE;

/// Below the ports that the system gives to connections and to listeners that ask for any (32768 and up on Linux):
/// nobody takes one of these by chance between two starts of a server, nor before its first.
const PORTS: std::ops::Range<u32> = 12_000..32_000;
/// Where this program looks next; others began elsewhere.
static NEXT: LazyLock<AtomicU32> = LazyLock::new(|| AtomicU32::new(std::process::id().wrapping_mul(97)));

/// A port that nobody listens on and that this program was not given before. Servers that can bind port 0
/// themselves should.
#[must_use]
pub fn free_port() -> u16 {
    loop {
        let at = NEXT.fetch_add(1, Ordering::Relaxed) % (PORTS.end - PORTS.start);
        let port = u16::try_from(PORTS.start + at).expect("the range is one of ports");
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

type Start = (Command, mpsc::SyncSender<std::io::Result<Child>>);

/// Starts every server: the kernel kills a child with `--pdeathsig` when the *thread* that started it
/// ends, and this one ends with the program only.
static STARTER: LazyLock<mpsc::SyncSender<Start>> = LazyLock::new(|| {
    let (send, wanted) = mpsc::sync_channel::<Start>(16);
    thread::spawn(move || {
        for (mut command, started) in wanted {
            // Whoever asked has given up.
            let _gone = started.send(command.spawn());
        }
    });
    send
});

/// A running server. Dropped, it is killed.
pub struct Process {
    name: &'static str,
    child: Child,
    log: PathBuf,
    /// Everything it keeps; gone with it.
    folder: TempDir,
}

impl Process {
    /// Starts `program` with `args` made for its new folder; its output goes to `log` in there.
    ///
    /// # Panics
    ///
    /// When it cannot be started: `./tests/run` installs every server.
    #[must_use]
    pub fn start(name: &'static str, folder: TempDir, command: impl FnOnce(&Path) -> Command) -> Self {
        let child = spawn(name, folder.path(), command(folder.path()));
        Self { name, child, log: folder.path().join("log"), folder }
    }

    /// Its folder.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it has printed.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("it runs");
    }

    /// Ends it as `signal` asks for, and waits for that: for servers whose children outlive a kill.
    ///
    /// # Panics
    ///
    /// When it does not end.
    pub fn end_by(&self, signal: Signal) {
        self.signal(signal);
        // Nobody waits for it until it is killed, so its id stays its own.
        let ended = || {
            let stat = fs::read_to_string(format!("/proc/{}/stat", self.pid()));
            stat.is_ok_and(|stat| stat.contains(") Z "))
        };
        let started = Instant::now();
        while !ended() {
            assert!(started.elapsed() < PATIENCE, "{} does not end", self.name);
            thread::sleep(Duration::from_millis(5));
        }
    }

    /// Ends it at once; what it kept stays in its folder.
    pub fn kill9(&mut self) {
        let _ended_before = self.child.kill();
        let _status = self.child.wait();
    }

    /// Starts it again on the same folder.
    pub fn restart(&mut self, command: impl FnOnce(&Path) -> Command) {
        self.kill9();
        self.child = spawn(self.name, self.folder.path(), command(self.folder.path()));
    }

    /// Waits until `ready` says so.
    ///
    /// # Panics
    ///
    /// With its output, when it ends before or takes too long.
    pub async fn until(&mut self, mut ready: impl AsyncFnMut() -> bool) {
        let started = Instant::now();
        while !ready().await {
            if let Some(status) = self.child.try_wait().expect("its state can be asked") {
                panic!("{} ended with {status} before it was ready:\n{}", self.name, self.log());
            }
            assert!(started.elapsed() < PATIENCE, "{} is not ready:\n{}", self.name, self.log());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

fn spawn(name: &str, folder: &Path, command: Command) -> Child {
    let log =
        File::options().create(true).append(true).open(folder.join("log")).expect("a file for its output");
    let errors = log.try_clone().expect("the same file");
    // It dies with this program, also when that is killed.
    let mut held = Command::new("setpriv");
    held.args(["--pdeathsig", "KILL", "--"]).arg(command.get_program()).args(command.get_args());
    for (key, value) in command.get_envs() {
        match value {
            Some(value) => held.env(key, value),
            None => held.env_remove(key),
        };
    }
    held.current_dir(folder).stdin(Stdio::null()).stdout(log).stderr(errors);
    let (send, started) = mpsc::sync_channel(1);
    STARTER.send((held, send)).expect("the starter lives as long as the program");
    let child = started.recv().expect("the starter answers");
    child.unwrap_or_else(|err| panic!("cannot start {name}: {err}; run ./tests/run, which installs it"))
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill9();
    }
}
