//! The worker's side of parsing: starts a child for each document and tells how it ended.

use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{ExitStatus, Stdio};
use std::sync::Arc;
use std::time::Duration;

use millhand_common::model::CanonicalText;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, Command};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::timeout;

use super::child::{CPU_SECONDS, Request};
use super::parse::{MAX_TEXT_BYTES, ParseError};

/// Text grows in JSON, where a quote or line feed takes two bytes; more than this is no answer.
const MAX_ANSWER_BYTES: u64 = 2 * MAX_TEXT_BYTES as u64 + (16 << 20);
/// Enough of the child's last words to know memory shortage.
const MAX_STDERR_BYTES: u64 = 16 << 10;
/// Raised when the processor time is used up; the same number on all systems that are supported.
const SIGXCPU: i32 = 24;

/// Parses documents in child processes, so that a document which crashes or fills its parser is one
/// failed document. Clones share their places.
#[derive(Clone, Debug)]
pub struct Parser {
    exe: PathBuf,
    args: Vec<OsString>,
    timeout: Duration,
    places: Arc<Semaphore>,
}

impl Parser {
    /// `exe parse-document` must call [`super::parse_child_main`]. A child gets 60 s; as many run at
    /// once as there are cores.
    #[must_use]
    pub fn new(exe: PathBuf) -> Self {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self {
            exe,
            args: vec!["parse-document".into()],
            timeout: Duration::from_secs(CPU_SECONDS),
            places: Arc::new(Semaphore::new(cores)),
        }
    }

    /// With other arguments for `exe`.
    #[must_use]
    pub fn with_args(mut self, args: impl IntoIterator<Item = impl Into<OsString>>) -> Self {
        self.args = args.into_iter().map(Into::into).collect();
        self
    }

    /// With another limit on the time that one document takes.
    #[must_use]
    pub fn with_timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Waits for a place to run a child in. Take one before the document is read into memory: so no
    /// more documents lie there than are parsed. May be dropped.
    pub async fn place(&self) -> Place<'_> {
        let permit = self.places.acquire().await.expect("this semaphore is never closed");
        Place { parser: self, _permit: permit }
    }
}

/// The right to run one child.
#[derive(Debug)]
pub struct Place<'a> {
    parser: &'a Parser,
    _permit: SemaphorePermit<'a>,
}

impl Place<'_> {
    /// The canonical text of a document. May be dropped: the child is killed.
    ///
    /// # Errors
    /// The document's own, or how its parser ended.
    pub async fn parse(
        self,
        name: &str,
        content_type: Option<&str>,
        bytes: &[u8],
    ) -> Result<CanonicalText, ParseError> {
        let mut child = self.parser.spawn().map_err(|err| ParseError::Unavailable(err.to_string()))?;
        let request = Request {
            name: name.to_owned(),
            content_type: content_type.map(str::to_owned),
            bytes: bytes.len(),
        };
        let Ok(ended) = timeout(self.parser.timeout, exchange(&mut child, &request, bytes)).await else {
            // An error means that it has ended by itself meanwhile.
            let _ = child.kill().await;
            return Err(ParseError::TookTooLong(self.parser.timeout.as_secs()));
        };
        let ended = ended.map_err(|err| ParseError::Unavailable(err.to_string()))?;
        if !ended.status.success() {
            return Err(ended.failure());
        }
        // Large answers take a while to read.
        tokio::task::spawn_blocking(move || {
            serde_json::from_slice(&ended.answer).unwrap_or(Err(ParseError::TooMuchText))
        })
        .await
        .unwrap_or(Err(ParseError::Crashed))
    }
}

impl Parser {
    fn spawn(&self) -> std::io::Result<Child> {
        Command::new(&self.exe)
            .args(&self.args)
            // A parser that is taken over finds no keys.
            .env_clear()
            // Each arena reserves 64 MiB of the address space that is limited.
            .env("MALLOC_ARENA_MAX", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
    }
}

struct Ended {
    status: ExitStatus,
    answer: Vec<u8>,
    stderr: Vec<u8>,
}

impl Ended {
    fn failure(&self) -> ParseError {
        // What the standard library says before it aborts.
        const NO_MEMORY: &[u8] = b"memory allocation of";
        if self.status.signal() == Some(SIGXCPU) {
            ParseError::TookTooLong(CPU_SECONDS)
        } else if self.stderr.windows(NO_MEMORY.len()).any(|window| window == NO_MEMORY) {
            ParseError::OutOfMemory
        } else {
            ParseError::Crashed
        }
    }
}

/// Sends the document, and reads all that the child says until it ends.
async fn exchange(child: &mut Child, request: &Request, document: &[u8]) -> std::io::Result<Ended> {
    let (Some(mut stdin), Some(stdout), Some(stderr)) =
        (child.stdin.take(), child.stdout.take(), child.stderr.take())
    else {
        return Err(std::io::ErrorKind::BrokenPipe.into());
    };
    let mut header = serde_json::to_vec(request)?;
    header.push(b'\n');
    let send = async {
        stdin.write_all(&header).await?;
        stdin.write_all(document).await?;
        stdin.flush().await
    };
    let (_sent, answer, stderr) =
        tokio::join!(send, read_some(stdout, MAX_ANSWER_BYTES), read_some(stderr, MAX_STDERR_BYTES));
    // A child that died before it had read everything is told by its status, not by the broken pipe.
    let status = child.wait().await?;
    drop(stdin);
    Ok(Ended { status, answer: answer?, stderr: stderr? })
}

/// Reads to the end and keeps at most `limit` bytes.
async fn read_some(mut from: impl AsyncRead + Unpin, limit: u64) -> std::io::Result<Vec<u8>> {
    let mut kept = Vec::new();
    (&mut from).take(limit).read_to_end(&mut kept).await?;
    tokio::io::copy(&mut from, &mut tokio::io::sink()).await?;
    Ok(kept)
}
