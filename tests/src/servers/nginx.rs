//! nginx in front of two ingresses, with the configuration that `compose/` ships.

use std::fs;
use std::path::Path;
use std::process::Command;

use rustix::process::Signal;
use tokio::net::TcpStream;

use super::{Process, free_port};

/// Where Debian puts it; not every user looks there.
const INSTALLED: &str = "/usr/sbin/nginx";
const CONFIGURATION: &str = include_str!("../../../compose/nginx/nginx.conf");
const SERVERS: &str = include_str!("../../../compose/nginx/servers.conf");

/// A running nginx.
pub struct Nginx {
    process: Process,
    port: u16,
}

impl Nginx {
    /// One in front of these two, given by address (`http://…`).
    ///
    /// # Panics
    ///
    /// When it is not installed, or does not start.
    pub async fn start(ingresses: [&str; 2]) -> Self {
        let (folder, port) = (tempfile::tempdir().expect("a folder for nginx"), free_port());
        let servers = ["api-1:8080", "api-2:8080"].iter().zip(ingresses);
        let servers = servers.fold(SERVERS.to_owned(), |text, (name, ingress)| {
            assert!(text.contains(name), "servers.conf has {name}");
            text.replace(name, ingress.trim_start_matches("http://"))
        });
        let files = [
            ("nginx.conf", CONFIGURATION.to_owned()),
            ("servers.conf", servers),
            ("listen.conf", format!("listen 127.0.0.1:{port};")),
        ];
        for (name, text) in files {
            fs::write(folder.path().join(name), text).expect("its files can be written");
        }
        let mut nginx = Self { process: Process::start("nginx", folder, command), port };
        nginx.process.until(async || TcpStream::connect(("127.0.0.1", port)).await.is_ok()).await;
        nginx
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    /// What it has logged: a line of JSON for each request, and its errors.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // A killed master leaves its workers behind.
        self.process.end_by(Signal::TERM);
    }
}

fn command(folder: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "TERM", "--", INSTALLED, "-p"]).arg(folder);
    command.arg("-c").arg(folder.join("nginx.conf"));
    // Its workers would be of another user, who may not enter the folder.
    let user = if rustix::process::geteuid().is_root() { " user root;" } else { "" };
    command.arg("-g").arg(format!("daemon off;{user}"));
    command
}
