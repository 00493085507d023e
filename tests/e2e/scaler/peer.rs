//! Who the scaler speaks to: programs of another language, with what their own tools make of the protocols.

use std::io::{BufRead, BufReader, Write};
use std::path::Path;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::LazyLock;

use serde_json::Value;
use tempfile::TempDir;

const HERE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/e2e/scaler");
const KEDA: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../cli/proto");
const HEALTH: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/data");

/// What protoc makes of the two files.
static STUBS: LazyLock<TempDir> = LazyLock::new(|| {
    let folder = tempfile::tempdir().unwrap();
    let mut protoc = Command::new("protoc");
    protoc.args(["-I", KEDA, "-I", HEALTH, "--plugin=protoc-gen-grpc=/usr/bin/grpc_python_plugin"]);
    for option in ["--python_out", "--grpc_out"] {
        protoc.arg(format!("{option}={}", folder.path().display()));
    }
    let made = protoc.args(["externalscaler.proto", "health.proto"]).output();
    let made = made.expect("protoc runs; ./tests/run installs it");
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    folder
});

/// A program that is asked in lines and answers in lines of JSON. Dropped, it is killed.
pub(crate) struct Peer {
    child: Child,
    asks: ChildStdin,
    says: BufReader<ChildStdout>,
}

impl Peer {
    /// Asks as KEDA does; `tls` are files: authorities, then its own key and certificate.
    pub(crate) fn keda(address: &str, tls: &[&str]) -> Self {
        let stubs = STUBS.path().display().to_string();
        Self::start("keda.py", &[&[stubs.as_str(), address], tls].concat())
    }

    /// Is told what pods cost.
    pub(crate) fn kubernetes(certificate: &Path, key: &Path) -> Self {
        Self::start("kubernetes.py", &[&certificate.display().to_string(), &key.display().to_string()])
    }

    fn start(script: &str, args: &[&str]) -> Self {
        // Debian's, which has Debian's packages.
        let mut python = Command::new("/usr/bin/python3");
        python.arg(Path::new(HERE).join(script)).args(args).stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = python.spawn().expect("python3 runs; ./tests/run installs it");
        let (asks, says) = (child.stdin.take().unwrap(), BufReader::new(child.stdout.take().unwrap()));
        Self { child, asks, says }
    }

    /// The first answer to a question.
    pub(crate) fn ask(&mut self, question: &str) -> Value {
        writeln!(self.asks, "{question}").unwrap();
        self.said()
    }

    /// The next thing it says; waits for it.
    pub(crate) fn said(&mut self) -> Value {
        let mut line = String::new();
        self.says.read_line(&mut line).unwrap();
        serde_json::from_str(&line).unwrap_or_else(|err| panic!("{err}: {line:?}"))
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ended_before = self.child.kill();
        let _status = self.child.wait();
    }
}
