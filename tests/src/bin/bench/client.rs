//! A client that costs little: HTTP/1.1 by hand over kept connections, so that the servers are what is
//! measured.

use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};

use anyhow::{Context, bail, ensure};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::provider::now_ns;

/// Idle connections to one server.
pub(crate) struct Pool {
    address: SocketAddr,
    idle: Mutex<Vec<TcpStream>>,
}

impl Pool {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address, idle: Mutex::default() }
    }

    /// Hangs up what is idle: servers close connections that are quiet for long.
    pub(crate) fn clear(&self) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    pub(crate) async fn take(&self) -> anyhow::Result<TcpStream> {
        let idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
        if let Some(stream) = idle {
            return Ok(stream);
        }
        let stream = TcpStream::connect(self.address).await?;
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    pub(crate) fn put_back(&self, stream: TcpStream) {
        self.idle.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
    }
}

/// The bytes of a submit.
pub(crate) fn submit(question: &str) -> String {
    let body = format!(r#"{{"input":"{question}","agent":"chat","deadline_seconds":3600}}"#);
    format!(
        "POST /v1/jobs HTTP/1.1\r\nhost: bench\r\ncontent-type: application/json\r\n\
         content-length: {}\r\n\r\n{body}",
        body.len()
    )
}

/// Submits a job and answers its id.
pub(crate) async fn accept(stream: &mut TcpStream, question: &str) -> anyhow::Result<String> {
    stream.write_all(submit(question).as_bytes()).await?;
    let mut buffer = Vec::with_capacity(2048);
    let (head, length) = loop {
        ensure!(stream.read_buf(&mut buffer).await? > 0, "the server hung up");
        if let Some(head) = find(&buffer, b"\r\n\r\n") {
            let text = std::str::from_utf8(&buffer[..head])?.to_ascii_lowercase();
            ensure!(text.starts_with("http/1.1 202"), "refused: {}", String::from_utf8_lossy(&buffer));
            let length = text.split("content-length: ").nth(1).context("a length")?;
            break (head + 4, length.split("\r\n").next().unwrap_or_default().parse::<usize>()?);
        }
    };
    while buffer.len() < head + length {
        ensure!(stream.read_buf(&mut buffer).await? > 0, "the server hung up");
    }
    let body = std::str::from_utf8(&buffer[head..])?;
    let id = body.split(r#""id":""#).nth(1).and_then(|rest| rest.split('"').next());
    Ok(id.context("an id")?.to_owned())
}

/// Asks for a job's events.
pub(crate) async fn open_events(stream: &mut TcpStream, job: &str) -> anyhow::Result<()> {
    let request =
        format!("GET /v1/jobs/{job}/events HTTP/1.1\r\nhost: bench\r\naccept: text/event-stream\r\n\r\n");
    Ok(stream.write_all(request.as_bytes()).await?)
}

/// Reads an event stream to its end; `hop` is told what each token took from the model, in nanoseconds.
///
/// Servers write whole events, so what chunks put between them is lines that are no `data`.
pub(crate) async fn read_events(stream: &mut TcpStream, mut hop: impl FnMut(u64)) -> anyhow::Result<()> {
    let (mut buffer, mut read, mut completed) = (Vec::with_capacity(8192), 0, false);
    while !buffer.ends_with(b"0\r\n\r\n") {
        ensure!(stream.read_buf(&mut buffer).await? > 0, "the server hung up");
        let now = now_ns();
        while let Some(end) = find(&buffer[read..], b"\n") {
            let line = std::str::from_utf8(&buffer[read..read + end])?;
            read += end + 1;
            if line.starts_with("HTTP/1.1") {
                ensure!(line.contains(" 200"), "refused: {line}");
            }
            let Some(data) = line.strip_prefix("data: ") else { continue };
            if data.contains(r#""output_text.delta""#) {
                let text = data.split(r#""text":""#).nth(1).and_then(|rest| rest.split('"').next());
                for written in text.unwrap_or_default().split_whitespace() {
                    hop(now.saturating_sub(written.parse()?));
                }
            } else if data.contains(r#""type":"job.completed""#) {
                completed = true;
            } else if data.contains(r#""type":"job.failed""#) {
                bail!("a job failed: {data}");
            }
        }
    }
    ensure!(completed, "the stream ended before the job did");
    Ok(())
}

pub(crate) fn find(bytes: &[u8], what: &[u8]) -> Option<usize> {
    bytes.windows(what.len()).position(|window| window == what)
}
