//! An accepted connection, as tonic wants it.

use std::{
    io::{self, IoSlice},
    pin::Pin,
    task::{Context, Poll},
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    net::TcpStream,
};
use tonic::transport::server::Connected;

use super::{Caller, anonymous::Seat};
use crate::revoke::Registered;

/// An encrypted connection and who is at its other end.
pub struct TlsStream {
    tls: tokio_rustls::server::TlsStream<TcpStream>,
    caller: Caller,
    /// Comes true with the reason why the connection ends.
    end: Pin<Box<dyn Future<Output = &'static str> + Send>>,
    /// Its place among those of its kind.
    _place: Place,
}

/// Kept as long as the connection is open.
pub(super) enum Place {
    Known { _registered: Registered },
    Anonymous { _seat: Seat },
}

impl std::fmt::Debug for TlsStream {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TlsStream")
            .field("caller", &self.caller)
            .finish_non_exhaustive()
    }
}

impl TlsStream {
    pub(super) fn new(
        tls: tokio_rustls::server::TlsStream<TcpStream>,
        caller: Caller,
        place: Place,
        end: impl Future<Output = &'static str> + Send + 'static,
    ) -> Self {
        Self {
            tls,
            caller,
            end: Box::pin(end),
            _place: place,
        }
    }

    /// Who is at the other end.
    pub fn caller(&self) -> &Caller {
        &self.caller
    }
}

impl Connected for TlsStream {
    type ConnectInfo = Caller;

    fn connect_info(&self) -> Caller {
        self.caller.clone()
    }
}

impl AsyncRead for TlsStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if let Poll::Ready(why) = self.end.as_mut().poll(cx) {
            return Poll::Ready(Err(io::Error::new(io::ErrorKind::ConnectionAborted, why)));
        }
        Pin::new(&mut self.tls).poll_read(cx, buf)
    }
}

impl AsyncWrite for TlsStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write(cx, buf)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.tls).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.tls.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.tls).poll_shutdown(cx)
    }
}
