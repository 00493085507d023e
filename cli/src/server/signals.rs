//! Asked to stop: once politely, twice at once.

use std::io;

use tokio::signal::unix::{Signal, SignalKind, signal};

/// What asks a server to stop.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    /// From now on the signals no longer end the process by themselves.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self { terminate: signal(SignalKind::terminate())?, interrupt: signal(SignalKind::interrupt())? })
    }

    /// The name of the next signal. Cancel-safe.
    pub(crate) async fn next(&mut self) -> &'static str {
        // Cancel-safe: a signal that was not handed out is handed out next time.
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
