//! Asked to stop: once politely, twice at once.

use std::io;
use std::os::fd::AsFd;

use tokio::io::AsyncReadExt;
use tokio::net::unix::pipe;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// What asks a server to stop.
pub(crate) struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Closed when the supervisor wants this process to stop, or is gone.
    supervisor: Option<pipe::Receiver>,
}

impl Signals {
    /// From now on the signals no longer end the process by themselves.
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            supervisor: None,
        })
    }

    /// The end of standard input, a pipe, is one more of them.
    pub(crate) fn with_supervisor(mut self) -> io::Result<Self> {
        let pipe = io::stdin().as_fd().try_clone_to_owned()?;
        self.supervisor = Some(pipe::Receiver::from_owned_fd(pipe)?);
        Ok(self)
    }

    /// The name of the next signal. Cancel-safe.
    pub(crate) async fn next(&mut self) -> &'static str {
        let Self { terminate, interrupt, supervisor } = self;
        // Cancel-safe: a signal that was not handed out is handed out next time.
        tokio::select! {
            _ = terminate.recv() => "SIGTERM",
            _ = interrupt.recv() => "SIGINT",
            () = closed(supervisor) => "supervisor",
        }
    }
}

/// Returns once when the pipe is closed. Cancel-safe.
async fn closed(pipe: &mut Option<pipe::Receiver>) {
    let Some(open) = pipe else { return std::future::pending().await };
    let mut ignored = [0; 64];
    while open.read(&mut ignored).await.is_ok_and(|bytes| bytes > 0) {}
    *pipe = None;
}
