//! Redis, as the product asks for it: every write on disk before it is answered.

use std::net::TcpStream;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use super::certificates::certify;
use super::{Process, free_port};
use crate::wait::wait_for;

/// A running server.
pub struct Redis {
    process: Process,
    port: u16,
    tls_port: Option<u16>,
    args: Vec<String>,
}

impl Redis {
    /// A server that the product takes without a word.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// A server with more arguments, as `redis-server` takes them; they win.
    pub async fn start_with(args: &[&str]) -> Self {
        Self::start_in(tempfile::tempdir().expect("a folder"), args, None).await
    }

    /// A server that also speaks TLS, on a port of its own, with a certificate that [`Redis::authority`]
    /// signed.
    pub async fn start_with_tls() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        certify(folder.path());
        // It works in its folder, so names of files are enough.
        let (port, args) = (free_port(), "--tls-cert-file node.pem --tls-key-file node.key");
        let args = format!("--tls-port {port} {args} --tls-ca-cert-file authority.pem --tls-auth-clients no");
        Self::start_in(folder, &args.split(' ').collect::<Vec<_>>(), Some(port)).await
    }

    async fn start_in(folder: TempDir, args: &[&str], tls_port: Option<u16>) -> Self {
        let port = free_port();
        let args: Vec<String> = args.iter().map(ToString::to_string).collect();
        let process = Process::start("redis-server", folder, |dir| command(dir, port, &args));
        let mut server = Self { process, port, tls_port, args };
        server.is_up().await;
        server
    }

    async fn is_up(&mut self) {
        let port = self.port;
        self.process.until(async || says(port, "PING").is_some_and(|said| said.contains("PONG"))).await;
    }

    #[must_use]
    pub fn url(&self) -> String {
        format!("redis://127.0.0.1:{}", self.port)
    }

    /// Over TLS, as this user: `name:password`, percent-encoded.
    ///
    /// # Panics
    ///
    /// When it was started without TLS.
    #[must_use]
    pub fn tls_url_of(&self, user: &str) -> String {
        format!("rediss://{user}@127.0.0.1:{}", self.tls_port.expect("it speaks TLS"))
    }

    /// The certificate that signed this server's.
    #[must_use]
    pub fn authority(&self) -> String {
        self.process.folder().join("authority.pem").display().to_string()
    }

    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// What the server answers to one command, given as one types it; `None` when it does not.
    #[must_use]
    pub fn says(&self, command: &str) -> Option<String> {
        says(self.port, command)
    }

    /// The same of the server on this port.
    #[must_use]
    pub fn ask(port: u16, command: &str) -> Option<String> {
        says(port, command)
    }

    /// Ends it at once; what it has confirmed stays.
    pub fn kill9(&mut self) {
        self.process.kill9();
    }

    /// Starts it again on the same port and folder.
    pub async fn restart(&mut self) {
        let (port, args) = (self.port, self.args.clone());
        self.process.restart(|dir| command(dir, port, &args));
        self.is_up().await;
    }
}

fn command(dir: &Path, port: u16, args: &[String]) -> Command {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--bind", "127.0.0.1", "--save", "", "--dir"]).arg(dir);
    command.args(["--appendonly", "yes", "--appendfsync", "always", "--maxmemory-policy", "noeviction"]);
    command.args(["--enable-debug-command", "local"]).args(args);
    command
}

/// Speaks TLS only where it is a cluster's matter, and on this port.
fn tls_args(certificates: &Path, port: u16) -> String {
    let folder = certificates.display();
    format!(
        "--tls-cluster yes --tls-port {port} --tls-cert-file {folder}/node.pem --tls-key-file {folder}/node.key \
         --tls-ca-cert-file {folder}/authority.pem --tls-auth-clients no"
    )
}

/// One inline command over a connection of its own.
fn says(port: u16, command: &str) -> Option<String> {
    use std::io::{Read, Write};
    let mut conn = TcpStream::connect(("127.0.0.1", port)).ok()?;
    conn.set_read_timeout(Some(std::time::Duration::from_secs(5))).ok()?;
    conn.write_all(format!("{command}\r\nQUIT\r\n").as_bytes()).ok()?;
    let mut said = String::new();
    conn.read_to_string(&mut said).ok()?;
    Some(said)
}

/// A cluster of three masters.
pub struct RedisCluster {
    pub nodes: Vec<Redis>,
    /// Of one that speaks TLS: the certificates of all its nodes.
    certificates: Option<TempDir>,
}

impl RedisCluster {
    /// Three servers that know each other and share the slots.
    ///
    /// # Panics
    ///
    /// When they do not come to agree.
    pub async fn start() -> Self {
        Self::start_of(None).await
    }

    /// The same, which speak TLS with each other and with clients; one authority signed for all of them.
    ///
    /// # Panics
    ///
    /// When they do not come to agree.
    pub async fn start_with_tls() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        certify(folder.path());
        Self::start_of(Some(folder)).await
    }

    async fn start_of(certificates: Option<TempDir>) -> Self {
        let mut nodes = Vec::new();
        for _ in 0..3 {
            let bus = free_port().to_string();
            let args = format!("--cluster-enabled yes --cluster-port {bus} --cluster-node-timeout 2000");
            let tls_port = certificates.as_ref().map(|_| free_port());
            let tls = certificates.as_ref().zip(tls_port).map(|(folder, port)| tls_args(folder.path(), port));
            let args = format!("{args} {}", tls.unwrap_or_default());
            let args: Vec<&str> = args.split_whitespace().collect();
            let node = Redis::start_in(tempfile::tempdir().expect("a folder"), &args, tls_port).await;
            nodes.push((node, bus));
        }
        let slots = [(0, 5460), (5461, 10922), (10923, 16383)];
        for ((node, _), (from, to)) in nodes.iter().zip(slots) {
            let said = node.says(&format!("CLUSTER ADDSLOTSRANGE {from} {to}")).expect("it answers");
            assert!(said.starts_with("+OK"), "{said}");
        }
        let (first, _) = &nodes[0];
        for (node, bus) in &nodes[1..] {
            let port = node.tls_port.unwrap_or(node.port);
            let said = first.says(&format!("CLUSTER MEET 127.0.0.1 {port} {bus}")).expect("it answers");
            assert!(said.starts_with("+OK"), "{said}");
        }
        for (node, _) in &nodes {
            wait_for("the nodes to agree", async || {
                let info = node.says("CLUSTER INFO")?;
                (info.contains("cluster_state:ok") && info.contains("cluster_known_nodes:3")).then_some(())
            })
            .await;
        }
        Self { nodes: nodes.into_iter().map(|(node, _)| node).collect(), certificates }
    }

    /// Every node, as the store is told.
    #[must_use]
    pub fn url(&self) -> String {
        let Some(certificates) = &self.certificates else {
            return self.nodes.iter().map(Redis::url).collect::<Vec<_>>().join(",");
        };
        let authority = certificates.path().join("authority.pem");
        let url = |node: &Redis| {
            let port = node.tls_port.expect("it speaks TLS");
            format!("rediss://127.0.0.1:{port}?cacertfile={}", authority.display())
        };
        self.nodes.iter().map(url).collect::<Vec<_>>().join(",")
    }
}
