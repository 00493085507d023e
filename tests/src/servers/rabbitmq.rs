//! A real RabbitMQ: one node with a name service, ports and a folder of its own.

use std::fs;
use std::path::Path;
use std::process::Command;

use tokio::net::TcpStream;

use super::certificates::certify;
use super::{Process, free_port};

/// The programs themselves: those in the path change the user and drop the environment.
const PROGRAMS: &str = "/usr/lib/rabbitmq/bin";

/// A running node. Users other than `guest` and further virtual hosts are made with [`RabbitMq::ctl`].
pub struct RabbitMq {
    /// Ends before the name service that it is known to.
    node: Process,
    _names: Process,
    ports: Ports,
}

#[derive(Clone, Copy)]
struct Ports {
    amqp: u16,
    amqps: u16,
    between_nodes: u16,
    names: u16,
}

impl RabbitMq {
    /// Starts a node and waits until it listens, which takes some seconds.
    ///
    /// # Panics
    ///
    /// When RabbitMQ is not installed (`./tests/run` does it) or does not start.
    pub async fn start() -> Self {
        let ports =
            Ports { amqp: free_port(), amqps: free_port(), between_nodes: free_port(), names: free_port() };
        // Were there none, the node would start one that outlives it.
        let folder = tempfile::tempdir().expect("a folder for the name service");
        let mut names = Process::start("epmd", folder, |_| {
            let mut epmd = Command::new("epmd");
            epmd.args(["-port", &ports.names.to_string(), "-address", "127.0.0.1"]);
            epmd
        });
        names.until(async || listens(ports.names).await).await;
        let folder = tempfile::tempdir().expect("a folder for RabbitMQ");
        configure(folder.path(), ports);
        let node = Process::start("rabbitmq-server", folder, |folder| server(folder, ports));
        let mut started = Self { node, _names: names, ports };
        started.is_up().await;
        started
    }

    async fn is_up(&mut self) {
        let ports = self.ports;
        self.node.until(async || listens(ports.amqp).await && listens(ports.amqps).await).await;
    }

    /// For clients, as `guest`.
    #[must_use]
    pub fn url(&self) -> String {
        self.url_of("guest:guest")
    }

    /// For clients, as another user: `name:password`, percent-encoded.
    #[must_use]
    pub fn url_of(&self, user: &str) -> String {
        format!("amqp://{user}@127.0.0.1:{}", self.ports.amqp)
    }

    /// The same over TLS; the file of certificates to trust is [`RabbitMq::authority`].
    #[must_use]
    pub fn tls_url(&self) -> String {
        format!("amqps://guest:guest@127.0.0.1:{}", self.ports.amqps)
    }

    /// The certificate that signed this node's.
    #[must_use]
    pub fn authority(&self) -> String {
        self.node.folder().join("authority.pem").display().to_string()
    }

    /// Ends it at once; what it has confirmed stays.
    pub fn kill9(&mut self) {
        self.node.kill9();
    }

    /// Starts it again on the same ports and folder, ending it first if it still runs.
    pub async fn restart(&mut self) {
        let ports = self.ports;
        self.node.restart(|folder| server(folder, ports));
        self.is_up().await;
    }

    #[must_use]
    pub fn process(&self) -> &Process {
        &self.node
    }

    /// What `rabbitmqctl` prints.
    ///
    /// # Panics
    ///
    /// When it fails.
    pub async fn ctl(&self, args: &[&str]) -> String {
        let mut ctl = program("rabbitmqctl", self.node.folder(), self.ports);
        ctl.arg("--quiet").args(args);
        let done = tokio::process::Command::from(ctl).output().await.expect("rabbitmqctl runs");
        let (out, err) = (String::from_utf8_lossy(&done.stdout), String::from_utf8_lossy(&done.stderr));
        assert!(done.status.success(), "rabbitmqctl {args:?}: {out}{err}\n{}", self.node.log());
        out.into_owned()
    }
}

async fn listens(port: u16) -> bool {
    TcpStream::connect(("127.0.0.1", port)).await.is_ok()
}

fn server(folder: &Path, ports: Ports) -> Command {
    let mut server = program("rabbitmq-server", folder, ports);
    // Then the script becomes the node instead of waiting for it, and the node ends with the test.
    server.env("RUNNING_UNDER_SYSTEMD", "true");
    // Idle threads would spin on a machine that is shared.
    server.env("RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS", "+sbwt none +sbwtdcpu none +sbwtdio none");
    server
}

fn program(name: &str, folder: &Path, ports: Ports) -> Command {
    let mut program = Command::new(Path::new(PROGRAMS).join(name));
    let path = |name: &str| folder.join(name);
    program
        .env("HOME", folder)
        .env("RABBITMQ_NODENAME", format!("test-{}@localhost", ports.amqp))
        .env("RABBITMQ_DIST_PORT", ports.between_nodes.to_string())
        .env("ERL_EPMD_PORT", ports.names.to_string())
        .env("ERL_EPMD_ADDRESS", "127.0.0.1")
        .env("RABBITMQ_MNESIA_BASE", path("data"))
        .env("RABBITMQ_LOG_BASE", path("logs"))
        .env("RABBITMQ_LOGS", "-")
        .env("RABBITMQ_PID_FILE", path("pid"))
        .env("RABBITMQ_ENABLED_PLUGINS_FILE", path("plugins"))
        // Nothing of the machine's own RabbitMQ reaches the test.
        .env("RABBITMQ_CONF_ENV_FILE", "/dev/null")
        .env("RABBITMQ_CONFIG_FILE", path("rabbitmq"))
        .env_remove("NOTIFY_SOCKET");
    program
}

fn configure(folder: &Path, ports: Ports) {
    let file = |name: &str| folder.join(name).display().to_string();
    certify(folder);
    let text = format!(
        "listeners.tcp.default = 127.0.0.1:{}\n\
         listeners.ssl.default = 127.0.0.1:{}\n\
         ssl_options.cacertfile = {}\n\
         ssl_options.certfile = {}\n\
         ssl_options.keyfile = {}\n\
         log.console.level = warning\n",
        ports.amqp,
        ports.amqps,
        file("authority.pem"),
        file("node.pem"),
        file("node.key"),
    );
    fs::write(file("rabbitmq.conf"), text).expect("its configuration can be written");
    fs::write(file("plugins"), "[].").expect("its plugins can be written");
}
