//! A client that sends exactly what it is told, good or bad.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::Value;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// No answer in this time fails the test.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Clone, Copy)]
pub(crate) struct Client {
    pub(crate) address: SocketAddr,
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }
}

/// An answer whose body is still coming.
pub(crate) struct Streaming {
    pub(crate) head: Answer,
    reader: BufReader<TcpStream>,
    chunked: bool,
    buffer: Vec<u8>,
    ended: bool,
    head_only: bool,
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Self {
        Self { address }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send("GET", path, &[], b"").await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.send("DELETE", path, &[], b"").await
    }

    pub(crate) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_with(path, &[], body).await
    }

    pub(crate) async fn post_with(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let headers = [&[("Content-Type", "application/json")], headers].concat();
        self.send("POST", path, &headers, body.to_string().as_bytes()).await
    }

    pub(crate) async fn send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: &[u8],
    ) -> Answer {
        let mut request =
            format!("{method} {path} HTTP/1.1\r\nHost: {}\r\nConnection: close\r\n", self.address);
        for (name, value) in headers {
            request.push_str(&format!("{name}: {value}\r\n"));
        }
        if !body.is_empty() {
            request.push_str(&format!("Content-Length: {}\r\n", body.len()));
        }
        request.push_str("\r\n");
        self.raw(&[request.as_bytes(), body].concat()).await
    }

    /// Sends these bytes and reads one answer.
    pub(crate) async fn raw(&self, request: &[u8]) -> Answer {
        self.open(request).await.whole().await
    }

    /// Sends these bytes and reads the head of the answer.
    pub(crate) async fn open(&self, request: &[u8]) -> Streaming {
        let mut stream = TcpStream::connect(self.address).await.unwrap();
        // An early refusal may close before everything is written.
        let _refused = stream.write_all(request).await;
        let mut answer = Streaming::read_head(stream).await;
        answer.head_only = request.starts_with(b"HEAD ");
        answer
    }

    /// An SSE stream, after what it begins with: when to come back if it breaks.
    pub(crate) async fn sse(&self, path: &str, headers: &str) -> Streaming {
        let host = self.address;
        let request =
            format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n{headers}\r\n");
        let mut stream = self.open(request.as_bytes()).await;
        if stream.head.status == 200 {
            let first = stream.block().await.unwrap();
            let millis: u64 = first.trim().strip_prefix("retry: ").unwrap().parse().unwrap();
            assert!((1000..=10_000).contains(&millis), "{first}");
        }
        stream
    }

    pub(crate) async fn websocket(
        &self,
        path: &str,
        headers: &[(&'static str, &str)],
    ) -> Result<WebSocketStream<TcpStream>, u16> {
        use tokio_tungstenite::tungstenite::Error;
        let mut request = format!("ws://{}{path}", self.address).into_client_request().unwrap();
        for (name, value) in headers {
            request.headers_mut().insert(*name, value.parse().unwrap());
        }
        let stream = TcpStream::connect(self.address).await.unwrap();
        let connecting = tokio_tungstenite::client_async(request, stream);
        match tokio::time::timeout(PATIENCE, connecting).await.unwrap() {
            Ok((socket, _)) => Ok(socket),
            Err(Error::Http(response)) => Err(response.status().as_u16()),
            Err(error) => panic!("no WebSocket: {error}"),
        }
    }
}

impl Streaming {
    async fn read_head(stream: TcpStream) -> Self {
        let mut reader = BufReader::new(stream);
        let read = async {
            let mut lines = Vec::new();
            loop {
                let mut line = String::new();
                if reader.read_line(&mut line).await.unwrap() == 0 || line == "\r\n" {
                    return lines;
                }
                lines.push(line.trim_end().to_owned());
            }
        };
        let lines = tokio::time::timeout(PATIENCE, read).await.expect("an answer in time");
        let first = lines.first().expect("an answer before the end of the connection");
        let status = first.split(' ').nth(1).unwrap().parse().unwrap();
        let pairs = lines[1..].iter().filter_map(|line| line.split_once(": "));
        let headers: Vec<_> = pairs.map(|(key, value)| (key.to_lowercase(), value.to_owned())).collect();
        let head = Answer { status, headers, body: Vec::new() };
        let chunked = head.header("transfer-encoding") == Some("chunked");
        Self { head, reader, chunked, buffer: Vec::new(), ended: false, head_only: false }
    }

    /// The answer with all of its body.
    pub(crate) async fn whole(mut self) -> Answer {
        let length = self.head.header("content-length").and_then(|length| length.parse().ok());
        match length {
            // As an answer to HEAD.
            Some(_) if self.head_only => {}
            Some(length) => {
                let mut body = vec![0; length];
                let read = self.reader.read_exact(&mut body);
                tokio::time::timeout(PATIENCE, read).await.expect("a body in time").unwrap();
                self.head.body = body;
            }
            None if self.chunked => {
                while self.more().await {}
                self.head.body = std::mem::take(&mut self.buffer);
            }
            None => {}
        }
        self.head
    }

    /// The next block of a stream of server-sent events; `None` at its end.
    pub(crate) async fn block(&mut self) -> Option<String> {
        loop {
            if let Some(end) = self.buffer.windows(2).position(|pair| pair == b"\n\n") {
                let block = self.buffer.drain(..end + 2).collect();
                return Some(String::from_utf8(block).unwrap());
            }
            if !self.more().await {
                return None;
            }
        }
    }

    async fn more(&mut self) -> bool {
        if self.ended {
            return false;
        }
        let read = async {
            let mut size = String::new();
            if self.reader.read_line(&mut size).await.unwrap() == 0 {
                return false;
            }
            let size = usize::from_str_radix(size.trim(), 16).unwrap();
            let mut chunk = vec![0; size + 2];
            self.reader.read_exact(&mut chunk).await.unwrap();
            self.buffer.extend_from_slice(&chunk[..size]);
            size > 0
        };
        let more = tokio::time::timeout(PATIENCE, read).await.expect("a chunk in time");
        self.ended = !more;
        more
    }
}
