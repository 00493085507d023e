//! One process of the product, on ports of its own.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};

use crate::Client;
use crate::wait::{PATIENCE, wait_for};

/// The product's binary.
///
/// # Panics
///
/// When it is not built.
#[must_use]
pub fn binary() -> PathBuf {
    let exe = std::env::current_exe().expect("a running test has a path");
    // target/<profile>/deps/<test>, or target/<profile>/<program>.
    let folder = exe.ancestors().skip(1).find(|folder| folder.join("millhand").is_file());
    folder.expect("the binary is not built: run `./tests/run`, or `cargo build` first").join("millhand")
}

/// How to start a server.
#[derive(Clone)]
pub struct Launch {
    binary: PathBuf,
    role: &'static str,
    /// Of `up` only: the others keep nothing.
    data: Option<PathBuf>,
    /// Where clients are served; any free port else.
    listen: String,
    args: Vec<String>,
    env: Vec<(String, String)>,
}

/// Any port of loopback.
const ANY: &str = "127.0.0.1:0";

impl Launch {
    /// A server on this data folder, without the sample.
    #[must_use]
    pub fn new(data: &Path) -> Self {
        Self::with_sample(data).arg("--no-sample")
    }

    /// A process that only serves clients, or only works: `api`, `worker`.
    #[must_use]
    pub fn shared(role: &'static str) -> Self {
        Self { binary: binary(), role, data: None, listen: ANY.to_owned(), args: Vec::new(), env: Vec::new() }
    }

    /// Another build of the product.
    #[must_use]
    pub fn of(mut self, binary: &Path) -> Self {
        binary.clone_into(&mut self.binary);
        self
    }

    /// As a newcomer starts it.
    #[must_use]
    pub fn with_sample(data: &Path) -> Self {
        Self { data: Some(data.to_owned()), ..Self::shared("up") }
    }

    /// Serves at the address of an earlier server, `http://…`.
    #[must_use]
    pub fn at(mut self, url: &str) -> Self {
        url.trim_start_matches("http://").clone_into(&mut self.listen);
        self
    }

    #[must_use]
    pub fn arg(mut self, arg: &str) -> Self {
        self.args.push(arg.to_owned());
        self
    }

    #[must_use]
    pub fn env(mut self, name: &str, value: impl Into<String>) -> Self {
        self.env.push((name.to_owned(), value.into()));
        self
    }

    /// Asks this model.
    #[must_use]
    pub fn model(self, base_url: &str) -> Self {
        self.env("MILLHAND_MODEL__BASE_URL", base_url)
            .env("MILLHAND_MODEL__NAME", "fake-1")
            .env("MILLHAND_MODEL__API_KEY", "sk-canary-key-5f1c")
    }

    /// Aborts at the `hit`-th pass of a crash point.
    #[must_use]
    pub fn crash(self, point: &str, hit: u32) -> Self {
        self.env("MILLHAND_CRASH", format!("{point}@{hit}"))
    }

    fn listens(&self) -> bool {
        !matches!(self.role, "worker" | "scale")
    }

    /// Whether it speaks HTTP where it listens.
    fn serves(&self) -> bool {
        matches!(self.role, "up" | "api")
    }

    fn command(&self) -> Command {
        let mut command = Command::new(&self.binary);
        command
            .args([self.role, "--admin", ANY])
            .args(self.listens().then_some(["--listen", &self.listen]).into_iter().flatten())
            .args(self.data.iter().flat_map(|data| [Path::new("--data"), data]))
            .args(&self.args)
            // Nothing of the machine's own configuration reaches the test.
            .env_remove("OPENAI_BASE_URL")
            .env_remove("OPENAI_API_KEY")
            .envs(self.env.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .kill_on_drop(true);
        command
    }

    /// Starts it and waits until it serves.
    pub async fn start(&self) -> Server {
        match self.try_start().await {
            Ok(server) => server,
            Err((status, log)) => panic!("the server ended with {status} before it was ready:\n{log}"),
        }
    }

    /// Starts it; the exit status and everything it said when it ends before it serves.
    pub async fn try_start(&self) -> Result<Server, (ExitStatus, String)> {
        let out = tempfile::tempdir().expect("a folder for its output");
        let path = |name| out.path().join(name);
        let file = |name| File::create(path(name)).expect("a file for its output");
        let (stdout, stderr) = (file("stdout"), file("stderr"));
        let mut child = self.command().stdout(stdout).stderr(stderr).spawn().expect("the binary starts");
        let read = |name| fs::read_to_string(out.path().join(name)).unwrap_or_default();
        let started = std::time::Instant::now();
        loop {
            let text = read("stdout");
            let url = if self.serves() { address(&text, "API") } else { Some(String::new()) };
            // The line of limits is the banner's last.
            if let (Some(url), Some(admin), true) = (url, address(&text, "Admin"), text.contains("Limits")) {
                return Ok(Server { child, client: Client::new(&url), url, admin, out });
            }
            if let Some(status) = child.try_wait().expect("its state can be asked") {
                return Err((status, format!("{text}\n{}", read("stderr"))));
            }
            assert!(started.elapsed() < PATIENCE, "not ready in {PATIENCE:?}:\n{text}\n{}", read("stderr"));
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
}

/// `  API      http://127.0.0.1:40000  (…)` → the address.
fn address(banner: &str, name: &str) -> Option<String> {
    let mut words = banner.lines().find(|line| line.trim_start().starts_with(name))?.split_whitespace();
    words.nth(1).filter(|word| word.starts_with("http://")).map(str::to_owned)
}

/// Resident memory of a process, in bytes; 0 when there is none.
#[must_use]
pub fn resident_bytes(pid: u32) -> u64 {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    line.and_then(|line| line.trim().trim_end_matches(" kB").trim().parse::<u64>().ok()).unwrap_or(0) * 1024
}

/// A running server. Dropped, it is killed.
pub struct Server {
    child: Child,
    pub client: Client,
    pub url: String,
    pub admin: String,
    out: tempfile::TempDir,
}

impl Server {
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id().expect("it is not waited for yet")
    }

    /// Everything it has logged.
    #[must_use]
    pub fn logged(&self) -> String {
        fs::read_to_string(self.out.path().join("stderr")).unwrap_or_default()
    }

    /// Everything it has printed.
    #[must_use]
    pub fn printed(&self) -> String {
        fs::read_to_string(self.out.path().join("stdout")).unwrap_or_default()
    }

    /// Ends it as a power cut would, as far as a process can tell.
    pub async fn kill9(mut self) {
        self.child.kill().await.expect("it can be killed");
    }

    pub fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.pid()).ok().and_then(Pid::from_raw).expect("a process id");
        kill_process(pid, signal).expect("it runs");
    }

    /// Its exit status once it ends by itself, and what it logged.
    pub async fn ended(mut self) -> (ExitStatus, String) {
        let status = tokio::time::timeout(PATIENCE, self.child.wait()).await;
        let status =
            status.unwrap_or_else(|_| panic!("it still runs after {PATIENCE:?}:\n{}", self.logged()));
        (status.expect("it can be waited for"), self.logged())
    }

    /// Asks it to stop and waits for that.
    pub async fn sigterm(self) -> (ExitStatus, String) {
        self.signal(Signal::TERM);
        self.ended().await
    }

    pub fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("its state can be asked").is_none()
    }

    /// The sum of a metric over its labels, 0 while it is not there.
    pub async fn metric(&self, name: &str) -> f64 {
        let text = self.metrics().await;
        let values = text
            .lines()
            .filter(|line| line.strip_prefix(name).is_some_and(|rest| rest.starts_with([' ', '{'])));
        values.filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok()).sum()
    }

    pub async fn metrics(&self) -> String {
        let answer = Client::new(&self.admin).get("/metrics").await;
        assert_eq!(answer.status, 200);
        answer.text
    }

    /// A client of the operators' side.
    #[must_use]
    pub fn operator(&self) -> Client {
        Client::new(&self.admin)
    }

    /// Resident memory, in bytes.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        resident_bytes(self.pid())
    }

    /// Waits until nothing is ready, waiting or running.
    pub async fn idle(&self) {
        let operator = self.operator();
        wait_for("the queue to be empty", || async {
            let queues = operator.get("/v1/queues").await;
            let busy = ["\"ready\":0", "\"waiting\":0", "\"running\":0"]
                .iter()
                .any(|zero| queues.text.matches(zero).count() < 2);
            (queues.status == 200 && !busy).then_some(())
        })
        .await;
    }
}
