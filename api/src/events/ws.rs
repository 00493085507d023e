//! WebSockets: limits, liveness and closing, shared by both socket routes; and one job's events.

use std::time::Duration;

use axum::extract::ws::{CloseFrame, Message, WebSocket, WebSocketUpgrade, close_code};
use axum::response::Response;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval, timeout};
use tokio_tungstenite::tungstenite;
use tokio_util::sync::CancellationToken;

use crate::state::{Api, ApiInner};

use super::Feed;

/// How often a silent peer is asked whether it is there.
const PING_EVERY: Duration = Duration::from_secs(15);
/// A peer that says nothing for this long is gone.
const SILENCE: Duration = Duration::from_secs(60);
/// How long a closed peer has to say goodbye.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(2);
/// Small: it is held for each open socket.
const BUFFER_BYTES: usize = 4 * 1024;
/// Most that may wait to be written to one socket.
const MAX_WRITE_BYTES: usize = 1024 * 1024;

/// The events of one job, one text frame each, then close 1000. `None`: there are none.
pub(super) fn follow(
    api: Api,
    upgrade: WebSocketUpgrade,
    feed: Option<Feed>,
    ending: CancellationToken,
) -> Response {
    accept(api, upgrade, async move |mut socket: Socket| {
        let Some(mut feed) = feed else { return socket.close(close_code::NORMAL, "").await };
        loop {
            // Cancel-safe: `Feed::next` and `Socket::receive` keep what they do not hand out.
            let end = tokio::select! {
                event = feed.next() => match event {
                    Some(event) => match socket.send(event.to_json()).await {
                        Ok(()) if !event.is_terminal() => None,
                        Ok(()) => Some((close_code::NORMAL, "")),
                        Err(()) => return,
                    },
                    None => Some((close_code::AGAIN, "resume with the last seq")),
                },
                received = socket.receive() => match received {
                    // There is nothing to say here.
                    Received::Text(_) => None,
                    Received::Close(code, reason) => Some((code, reason)),
                    Received::Gone => return,
                },
                () = ending.cancelled() => Some((close_code::AWAY, "shutting down")),
            };
            if let Some((code, reason)) = end {
                return socket.close(code, reason).await;
            }
        }
    })
}

/// Answers the upgrade; `serve` runs with the socket, known to the server's shutdown.
pub(crate) fn accept<F: Future<Output = ()> + Send + 'static>(
    api: Api,
    upgrade: WebSocketUpgrade,
    serve: impl FnOnce(Socket) -> F + Send + 'static,
) -> Response {
    let limits = &api.ports.config.limits;
    let most = limits.socket_message_bytes;
    let token = api.sockets.token();
    upgrade
        .max_message_size(most)
        .max_frame_size(most)
        .read_buffer_size(BUFFER_BYTES)
        .write_buffer_size(0)
        .max_write_buffer_size(MAX_WRITE_BYTES)
        .on_upgrade(move |socket| async move {
            let _token = token;
            serve(Socket::new(socket, &api)).await;
        })
}

/// A socket whose peer is watched.
pub(crate) struct Socket {
    inner: WebSocket,
    ping: Interval,
    last_heard: Instant,
    /// Messages the peer may send now; refilled each second up to twice the rate.
    allowance: f64,
    refilled: Instant,
    messages_per_second: f64,
}

/// What came from the peer.
pub(crate) enum Received {
    Text(String),
    /// The peer broke a rule, closed, or is silent: close with this code.
    Close(u16, &'static str),
    /// The connection is lost: nothing can be sent.
    Gone,
}

impl Socket {
    fn new(inner: WebSocket, api: &ApiInner) -> Self {
        let mut ping = interval(PING_EVERY);
        ping.set_missed_tick_behavior(MissedTickBehavior::Delay);
        ping.reset();
        let rate = f64::from(api.ports.config.limits.socket_messages_per_second);
        let now = Instant::now();
        Self { inner, ping, last_heard: now, allowance: 2.0 * rate, refilled: now, messages_per_second: rate }
    }

    /// Sends one text frame. Not cancel-safe: a dropped send may cut the frame.
    pub(crate) async fn send(&mut self, text: String) -> Result<(), ()> {
        self.inner.send(Message::Text(text.into())).await.map_err(|_| ())
    }

    /// Next thing from the peer; pings it meanwhile. Cancel-safe, but for a ping that is half sent:
    /// the sink keeps the rest.
    pub(crate) async fn receive(&mut self) -> Received {
        loop {
            let message = tokio::select! {
                message = self.inner.recv() => message,
                _ = self.ping.tick() => {
                    if SILENCE <= self.last_heard.elapsed() {
                        return Received::Close(close_code::POLICY, "no sign of life");
                    }
                    if self.inner.send(Message::Ping(bytes::Bytes::new())).await.is_err() {
                        return Received::Gone;
                    }
                    continue;
                }
            };
            self.last_heard = Instant::now();
            match message {
                None => return Received::Gone,
                Some(Err(error)) => return violation(error),
                Some(Ok(_)) if !self.may_speak() => {
                    return Received::Close(close_code::POLICY, "too many messages");
                }
                Some(Ok(Message::Text(text))) => return Received::Text(text.as_str().to_owned()),
                Some(Ok(Message::Binary(_))) => {
                    return Received::Close(close_code::UNSUPPORTED, "text frames only");
                }
                Some(Ok(Message::Close(_))) => return Received::Close(close_code::NORMAL, ""),
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
            }
        }
    }

    fn may_speak(&mut self) -> bool {
        let refill = self.refilled.elapsed().as_secs_f64() * self.messages_per_second;
        self.refilled = Instant::now();
        self.allowance = (self.allowance + refill).min(2.0 * self.messages_per_second) - 1.0;
        0.0 <= self.allowance
    }

    /// Says goodbye and waits a moment for the peer's.
    pub(crate) async fn close(mut self, code: u16, reason: &'static str) {
        let frame = CloseFrame { code, reason: reason.into() };
        let goodbye = async {
            if self.inner.send(Message::Close(Some(frame))).await.is_ok() {
                while let Some(Ok(_)) = self.inner.recv().await {}
            }
        };
        let _late = timeout(CLOSE_TIMEOUT, goodbye).await;
    }
}

/// The close code for what the peer did wrong.
fn violation(error: axum::Error) -> Received {
    let Ok(error) = error.into_inner().downcast::<tungstenite::Error>() else { return Received::Gone };
    match *error {
        tungstenite::Error::Capacity(_) => Received::Close(close_code::SIZE, "message too large"),
        tungstenite::Error::Utf8(_) => Received::Close(close_code::INVALID, "not UTF-8"),
        tungstenite::Error::Protocol(tungstenite::error::ProtocolError::ResetWithoutClosingHandshake) => {
            Received::Gone
        }
        tungstenite::Error::Protocol(_) => {
            Received::Close(close_code::PROTOCOL, "not the WebSocket protocol")
        }
        _ => Received::Gone,
    }
}
