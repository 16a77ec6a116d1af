//! A connection that does not outlive its client's certificate.

use std::{
    io,
    pin::Pin,
    task::{Context, Poll},
    time::{Duration, SystemTime},
};

use sluice_mtls::{Caller, accept::TlsStream};
use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Sleep, sleep},
};
use tonic::transport::server::Connected;

/// Streams are told first; see [`left`].
const AFTER_STREAMS: Duration = Duration::from_secs(2);
/// Timers do not reach further than two years; such a connection does not
/// live that long.
const FAR: Duration = Duration::from_secs(365 * 24 * 3600);

/// How long a certificate is still good, as far as timers reach.
pub(super) fn left(not_after: SystemTime) -> Duration {
    let left = not_after.duration_since(SystemTime::now());
    left.unwrap_or_default().min(FAR)
}

/// Fails to read shortly after the certificate has expired, so that the agent
/// comes back with a fresh one.
pub(super) struct Expiring {
    stream: TlsStream,
    expires: Pin<Box<Sleep>>,
}

impl Expiring {
    pub(super) fn new(stream: TlsStream) -> Self {
        // Without a certificate there is nothing to outlive; its time is short.
        let good = stream.caller().not_after().map_or(FAR, left);
        let expires = Box::pin(sleep(good + AFTER_STREAMS));
        Self { stream, expires }
    }
}

impl Connected for Expiring {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.stream.connect_info()
    }
}

impl AsyncRead for Expiring {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.expires.as_mut().poll(cx).is_ready() {
            let expired = "the client's certificate has expired";
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::TimedOut, expired)));
        }
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl AsyncWrite for Expiring {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}
