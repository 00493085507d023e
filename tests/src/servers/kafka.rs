//! A real Apache Kafka: one node in KRaft mode.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tokio::net::TcpStream;

use super::{Process, free_port};

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
        Self::start_with(str::to_owned).await
    }

    /// Starts a node that serves this user only.
    pub async fn start_for(user: &str, password: &str) -> Self {
        let login = format!("username=\"node\" password=\"n\" user_node=\"n\" user_{user}=\"{password}\"");
        Self::start_with(|properties| {
            let secured = properties.replace("=PLAINTEXT://", "=SASL_PLAINTEXT://");
            let module = "org.apache.kafka.common.security.plain.PlainLoginModule";
            format!(
                "{secured}\n\
                 listener.security.protocol.map=CONTROLLER:PLAINTEXT,SASL_PLAINTEXT:SASL_PLAINTEXT\n\
                 inter.broker.listener.name=SASL_PLAINTEXT\n\
                 sasl.enabled.mechanisms=PLAIN\n\
                 sasl.mechanism.inter.broker.protocol=PLAIN\n\
                 listener.name.sasl_plaintext.plain.sasl.jaas.config={module} required {login};\n"
            )
        })
        .await
    }

    async fn start_with(change: impl FnOnce(&str) -> String) -> Self {
        let (port, controller) = (free_port(), free_port());
        let folder = tempfile::tempdir().expect("a folder for Kafka");
        let properties = change(&properties(folder.path(), port, controller));
        fs::write(folder.path().join("server.properties"), properties)
            .expect("its properties can be written");
        let format = java(folder.path())
            .args(["kafka.tools.StorageTool", "format", "-t", "MkU3OEVBNTcwNTJENDM2Qg", "-c"])
            .arg("server.properties")
            .output()
            .expect("java runs; ./tests/run installs it");
        assert!(
            format.status.success(),
            "Kafka's folder cannot be formatted; run ./tests/run, which fetches Kafka: {}",
            String::from_utf8_lossy(&format.stderr)
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

    /// For clients: `host:port`.
    #[must_use]
    pub fn servers(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }
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
