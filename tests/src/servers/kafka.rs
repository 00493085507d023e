//! A real Apache Kafka: one node in KRaft mode.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tokio::net::TcpStream;

use super::{Process, certify, free_port};

/// A Kafka node on loopback.
pub struct Kafka {
    process: Process,
    port: u16,
}

impl Kafka {
    /// Starts a node and waits until it listens.
    ///
    /// # Panics
    ///
    /// When Kafka is not in `target/servers/kafka` (`./tests/run` fetches it) or does not start.
    pub async fn start() -> Self {
        Self::start_with(|_, properties| properties, &[]).await
    }

    /// Starts a node that serves this user only.
    pub async fn start_for(user: &str, password: &str) -> Self {
        let login = format!("username=\"node\" password=\"n\" user_node=\"n\" user_{user}=\"{password}\"");
        let module = "org.apache.kafka.common.security.plain.PlainLoginModule";
        let jaas = format!("{module} required {login}");
        Self::start_with(|_, properties| secured(&properties, "SASL_PLAINTEXT", "PLAIN", &jaas), &[]).await
    }

    /// Starts a node that serves this user only, by SCRAM over TLS. Its authority is [`Self::authority`].
    pub async fn start_with_tls_for(user: &str, password: &str) -> Self {
        let module = "org.apache.kafka.common.security.scram.ScramLoginModule";
        let jaas = format!("{module} required username=\"node\" password=\"n\"");
        let users = [("node", "n"), (user, password)]
            .map(|(name, password)| format!("--add-scram=SCRAM-SHA-512=[name={name},password={password}]"));
        let with_tls = |folder: &Path, properties: String| {
            certify(folder);
            let read = |file: &str| fs::read_to_string(folder.join(file)).expect("it was made");
            fs::write(folder.join("keystore.pem"), read("node.key") + &read("node.pem"))
                .expect("the keystore can be written");
            let secured = secured(&properties, "SASL_SSL", "SCRAM-SHA-512", &jaas);
            // It is a client of its own.
            let trust = "ssl.truststore.type=PEM\nssl.truststore.location=authority.pem\n";
            format!("{secured}ssl.keystore.type=PEM\nssl.keystore.location=keystore.pem\n{trust}")
        };
        Self::start_with(with_tls, &users).await
    }

    async fn start_with(change: impl FnOnce(&Path, String) -> String, format: &[String]) -> Self {
        let (port, controller) = (free_port(), free_port());
        let folder = tempfile::tempdir().expect("a folder for Kafka");
        let properties = change(folder.path(), properties(folder.path(), port, controller));
        fs::write(folder.path().join("server.properties"), properties)
            .expect("its properties can be written");
        let formatted = java(folder.path())
            .args(["kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c"])
            .arg("server.properties")
            .args(format)
            .output()
            .expect("java runs; ./tests/run installs it");
        assert!(
            formatted.status.success(),
            "Kafka's folder cannot be formatted; run ./tests/run, which fetches Kafka: {}",
            String::from_utf8_lossy(&formatted.stderr)
        );
        let mut kafka = Self { process: Process::start("kafka", folder, server), port };
        kafka.listens().await;
        kafka
    }

    /// Ends it as a power cut would, and starts it again on what it kept.
    pub async fn restart(&mut self) {
        self.process.restart(server);
        self.listens().await;
    }

    async fn listens(&mut self) {
        let port = self.port;
        self.process.until(async || TcpStream::connect(("127.0.0.1", port)).await.is_ok()).await;
    }

    #[must_use]
    pub fn process(&self) -> &Process {
        &self.process
    }

    /// Who signed its certificate: a file.
    #[must_use]
    pub fn authority(&self) -> PathBuf {
        self.process.folder().join("authority.pem")
    }

    /// For clients: `host:port`.
    #[must_use]
    pub fn servers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
}

/// With one listener for clients and for itself, behind this protocol.
fn secured(properties: &str, protocol: &str, mechanism: &str, jaas: &str) -> String {
    let properties = properties.replace("=PLAINTEXT://", &format!("={protocol}://"));
    let (listener, login) = (protocol.to_lowercase(), mechanism.to_lowercase());
    format!(
        "{properties}\n\
         listener.security.protocol.map=CONTROLLER:PLAINTEXT,{protocol}:{protocol}\n\
         inter.broker.listener.name={protocol}\n\
         sasl.enabled.mechanisms={mechanism}\n\
         sasl.mechanism.inter.broker.protocol={mechanism}\n\
         listener.name.{listener}.{login}.sasl.jaas.config={jaas};\n"
    )
}

fn java(folder: &Path) -> Command {
    let jars = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../target/servers/kafka/lib/*");
    let mut java = Command::new("java");
    java.arg("-Xmx512m").arg("-cp").arg(jars).current_dir(folder);
    java
}

fn server(folder: &Path) -> Command {
    let mut java = java(folder);
    java.args(["kafka.Kafka", "server.properties"]);
    java
}

fn properties(folder: &Path, port: u16, controller: u16) -> String {
    include_str!("../../servers/kafka.properties")
        .replace("@PORT@", &port.to_string())
        .replace("@CONTROLLER@", &controller.to_string())
        .replace("@FOLDER@", &folder.display().to_string())
}
