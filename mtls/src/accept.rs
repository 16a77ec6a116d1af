//! The server's side: connections whose client has proved who it is.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::Arc,
    time::{Duration, SystemTime},
};

use futures_util::{Stream, stream};
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tonic::transport::Server;
use tracing::{debug, warn};

use crate::{
    identity::{Identity, IdentityError},
    reload::{Reload, not_after},
    verify::readable,
};

mod stream_type;

pub use stream_type::TlsStream;

/// What a client may cost before it has proved who it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AcceptLimits {
    /// A handshake that takes longer is dropped.
    pub handshake_deadline: Duration,
    /// Handshakes at a time. One more drops the oldest: an honest one is done
    /// in milliseconds, so the oldest is the least likely to be honest.
    pub max_half_open: usize,
}

impl Default for AcceptLimits {
    fn default() -> Self {
        Self {
            handshake_deadline: Duration::from_secs(5),
            max_half_open: 256,
        }
    }
}

/// Who is at the other end of a connection: `request.extensions().get::<Peer>()`.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Peer {
    /// From the certificate, checked against our authorities.
    pub identity: Identity,
    /// Where it called from.
    pub address: SocketAddr,
    /// When its certificate expires: a connection should not outlive it.
    pub not_after: SystemTime,
}

/// Why a connection was not taken.
#[derive(Debug, thiserror::Error)]
enum Refused {
    #[error("no TLS handshake within {0:?}")]
    Deadline(Duration),
    #[error("the TLS handshake failed")]
    Handshake(#[source] io::Error),
    #[error("the client has no certificate")]
    NoCertificate,
    #[error("the client does not speak HTTP/2 (ALPN h2)")]
    NoHttp2,
    #[error("the client's certificate names nobody")]
    Identity(#[source] IdentityError),
}

/// A gRPC server with the keepalive that finds dead clients.
pub fn server() -> Server {
    Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(Duration::from_secs(10)))
        .http2_keepalive_timeout(Some(Duration::from_secs(10)))
}

/// Connections of clients that have proved who they are, for
/// [`tonic::transport::server::Router::serve_with_incoming`].
///
/// Handshakes run side by side; each takes the certificate that is newest when
/// it begins. The stream does not end and yields no errors: a client that fails
/// is dropped, and when descriptors run out it waits for some.
pub fn incoming(
    listener: TcpListener,
    reload: Arc<Reload>,
    limits: AcceptLimits,
) -> impl Stream<Item = io::Result<TlsStream>> + Send + Unpin {
    let accepting = Accepting {
        listener,
        reload,
        limits,
        handshakes: JoinSet::new(),
        half_open: BTreeMap::new(),
        accepted: 0,
    };
    Box::pin(stream::unfold(accepting, |mut accepting| async move {
        let stream = accepting.next().await;
        Some((Ok(stream), accepting))
    }))
}

struct Accepting {
    listener: TcpListener,
    reload: Arc<Reload>,
    limits: AcceptLimits,
    handshakes: JoinSet<(u64, Option<TlsStream>)>,
    /// By order of arrival.
    half_open: BTreeMap<u64, AbortHandle>,
    accepted: u64,
}

impl Accepting {
    async fn next(&mut self) -> TlsStream {
        loop {
            tokio::select! {
                accepted = self.listener.accept() => match accepted {
                    Ok((tcp, address)) => self.begin(tcp, address),
                    Err(error) => wait_out(&error).await,
                },
                Some(ended) = self.handshakes.join_next() => {
                    // An aborted one left the map when it was aborted.
                    if let Ok((number, stream)) = ended {
                        self.half_open.remove(&number);
                        if let Some(stream) = stream {
                            return stream;
                        }
                    }
                }
            }
        }
    }

    fn begin(&mut self, tcp: TcpStream, address: SocketAddr) {
        while self.half_open.len() >= self.limits.max_half_open.max(1) {
            if let Some((_, oldest)) = self.half_open.pop_first() {
                oldest.abort();
            }
        }
        let number = self.accepted;
        self.accepted += 1;
        let reload = Arc::clone(&self.reload);
        let deadline = self.limits.handshake_deadline;
        let task = self.handshakes.spawn(async move {
            let shaken = timeout(deadline, handshake(tcp, address, &reload))
                .await
                .unwrap_or(Err(Refused::Deadline(deadline)));
            let stream = shaken.map_err(|error| {
                // Anybody can cause this, as often as they like: not a warning.
                debug!(%address, error = &error as &dyn std::error::Error, "connection refused");
            });
            (number, stream.ok())
        });
        self.half_open.insert(number, task);
    }
}

async fn handshake(
    tcp: TcpStream,
    address: SocketAddr,
    reload: &Reload,
) -> Result<TlsStream, Refused> {
    tcp.set_nodelay(true).map_err(Refused::Handshake)?;
    let tls = TlsAcceptor::from(reload.server_config())
        .accept(tcp)
        .await
        .map_err(|error| Refused::Handshake(readable(error)))?;
    let (_, session) = tls.get_ref();
    if session.alpn_protocol() != Some(b"h2") {
        return Err(Refused::NoHttp2);
    }
    let certificate = session
        .peer_certificates()
        .and_then(<[_]>::first)
        .ok_or(Refused::NoCertificate)?;
    let identity =
        Identity::of_certificate(reload.trust_domain(), certificate).map_err(Refused::Identity)?;
    let not_after = not_after(certificate).map_err(Refused::Identity)?;
    let peer = Peer {
        identity,
        address,
        not_after,
    };
    Ok(TlsStream::new(tls, peer))
}

/// A client that went away is nothing; no descriptors left is, and asking again
/// at once would only burn the processor.
async fn wait_out(error: &io::Error) {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    if !matches!(
        error.kind(),
        ConnectionAborted | ConnectionReset | Interrupted
    ) {
        warn!(
            error = error as &dyn std::error::Error,
            "cannot accept connections; trying again"
        );
        sleep(Duration::from_millis(100)).await;
    }
}
