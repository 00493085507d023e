//! A connection that cannot be held open by a peer that neither speaks nor listens.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::{Sleep, sleep};

/// How an HTTP/2 connection starts; until that is decided, hyper has no timer of its own.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// Fails with `TimedOut` when the protocol is not decided within `first_timeout`, or when the peer
/// takes no byte for `write_timeout` while some are waiting.
pub(crate) struct Guarded<T> {
    inner: T,
    write_timeout: Duration,
    /// Running until the first bytes tell HTTP/1 from HTTP/2, with the bytes of the preface so far.
    deciding: Option<(Pin<Box<Sleep>>, usize)>,
    /// Running while a write waits.
    stalled: Option<Pin<Box<Sleep>>>,
}

impl<T> Guarded<T> {
    pub(crate) fn new(inner: T, first_timeout: Duration, write_timeout: Duration) -> Self {
        Self { inner, write_timeout, deciding: Some((Box::pin(sleep(first_timeout)), 0)), stalled: None }
    }

    fn after_write(
        &mut self,
        cx: &mut Context<'_>,
        result: Poll<io::Result<usize>>,
    ) -> Poll<io::Result<usize>> {
        if result.is_ready() {
            self.stalled = None;
            return result;
        }
        let timer = self.stalled.get_or_insert_with(|| Box::pin(sleep(self.write_timeout)));
        timer.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()))
    }
}

impl<T: AsyncRead + Unpin> AsyncRead for Guarded<T> {
    fn poll_read(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        let this = self.get_mut();
        let before = buf.filled().len();
        let result = Pin::new(&mut this.inner).poll_read(cx, buf);
        let Some((timer, seen)) = &mut this.deciding else { return result };
        if result.is_pending() {
            return timer.as_mut().poll(cx).map(|()| Err(io::ErrorKind::TimedOut.into()));
        }
        let new = &buf.filled()[before..];
        let rest = &PREFACE[*seen..];
        if new.len() < rest.len() && rest.starts_with(new) {
            *seen += new.len();
        } else {
            this.deciding = None;
        }
        result
    }
}

impl<T: AsyncWrite + Unpin> AsyncWrite for Guarded<T> {
    fn poll_write(self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.inner).poll_write(cx, buf);
        this.after_write(cx, result)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let this = self.get_mut();
        let result = Pin::new(&mut this.inner).poll_write_vectored(cx, bufs);
        this.after_write(cx, result)
    }

    fn is_write_vectored(&self) -> bool {
        self.inner.is_write_vectored()
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().inner).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt, duplex};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_does_not_say_what_it_speaks_is_cut() {
        for first in [&b""[..], b"PRI * HTTP"] {
            let (mut peer, ours) = duplex(1024);
            let mut ours = Guarded::new(ours, 10 * SECOND, 30 * SECOND);
            peer.write_all(first).await.unwrap();
            let mut buffer = [0; 64];
            if !first.is_empty() {
                assert_eq!(ours.read(&mut buffer).await.unwrap(), first.len());
            }
            assert_eq!(ours.read(&mut buffer).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_peer_that_has_spoken_may_be_silent_and_one_that_never_reads_is_cut() {
        let (mut peer, ours) = duplex(8);
        let mut ours = Guarded::new(ours, 10 * SECOND, 30 * SECOND);
        peer.write_all(b"P").await.unwrap();
        peer.write_all(b"OST").await.unwrap();
        let mut buffer = [0; 64];
        assert_eq!(ours.read(&mut buffer).await.unwrap(), 4);
        assert!(tokio::time::timeout(60 * SECOND, ours.read(&mut buffer)).await.is_err());
        assert_eq!(ours.write_all(&[0; 64]).await.unwrap_err().kind(), io::ErrorKind::TimedOut);
    }
}
