//! The server's side: connections whose client has proved who it is.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use futures_util::{Stream, stream};
use rustls_pki_types::CertificateDer;
use tokio::{
    net::{TcpListener, TcpStream},
    task::{AbortHandle, JoinSet},
    time::{sleep, timeout},
};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tonic::transport::Server;
use tracing::{debug, warn};

use crate::{
    connect::KEEPALIVE,
    identity::{Identity, IdentityError},
    reload::{Material, Reload, not_after},
    verify::readable,
};

mod anonymous;
mod caller;
mod crowd;
mod stream_type;

use anonymous::Anonymous;
use caller::AFTER_STREAMS;
pub use caller::{Caller, Peer, Stranger};
use crowd::Crowd;
pub use crowd::origin;
use stream_type::Place;
pub use stream_type::TlsStream;

/// What a client may cost before it has proved who it is.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub struct AcceptLimits {
    /// A handshake that takes longer is dropped.
    pub handshake_deadline: Duration,
    /// Handshakes at a time. One more drops the oldest of the address that has
    /// most: an honest one is done in milliseconds, so the oldest is the least
    /// likely to be honest.
    pub max_half_open: usize,
    /// Open connections of clients without a certificate; one more drops
    /// another in the same way. 0: such clients are refused in the handshake.
    pub max_anonymous: usize,
    /// How long such a connection may last: enough to ask for a certificate.
    pub anonymous_lifetime: Duration,
}

impl Default for AcceptLimits {
    fn default() -> Self {
        Self {
            handshake_deadline: Duration::from_secs(5),
            max_half_open: 256,
            max_anonymous: 0,
            anonymous_lifetime: Duration::from_secs(30),
        }
    }
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
    #[error("this server has no certificate yet")]
    NotReady,
    #[error("the client's certificate has just been revoked")]
    Revoked,
    #[error("the client does not speak HTTP/2 (ALPN h2)")]
    NoHttp2,
    #[error("the client's certificate names nobody")]
    Identity(#[source] IdentityError),
}

/// A gRPC server with the keepalive that finds dead clients.
pub fn server() -> Server {
    Server::builder()
        .tcp_nodelay(true)
        .http2_keepalive_interval(Some(KEEPALIVE))
        .http2_keepalive_timeout(Some(KEEPALIVE))
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
        half_open: Crowd::default(),
        anonymous: Anonymous::default(),
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
    half_open: Crowd<AbortHandle>,
    anonymous: Anonymous,
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
                        self.half_open.leave(number);
                        if let Some(stream) = stream {
                            return stream;
                        }
                    }
                }
            }
        }
    }

    fn begin(&mut self, tcp: TcpStream, address: SocketAddr) {
        if let Some(victim) = self.half_open.make_room(self.limits.max_half_open) {
            victim.abort();
        }
        let number = self.half_open.next();
        let handshake = Handshake {
            address,
            reload: Arc::clone(&self.reload),
            limits: self.limits,
            anonymous: self.anonymous.clone(),
        };
        let deadline = self.limits.handshake_deadline;
        let task = self.handshakes.spawn(async move {
            let shaken = timeout(deadline, handshake.run(tcp))
                .await
                .unwrap_or(Err(Refused::Deadline(deadline)));
            let stream = shaken.map_err(|error| {
                // Anybody can cause this, as often as they like: not a warning.
                debug!(%address, error = &error as &dyn std::error::Error, "connection refused");
            });
            (number, stream.ok())
        });
        self.half_open.enter(address, task);
    }
}

type Shaken = tokio_rustls::server::TlsStream<TcpStream>;

struct Handshake {
    address: SocketAddr,
    reload: Arc<Reload>,
    limits: AcceptLimits,
    anonymous: Anonymous,
}

impl Handshake {
    async fn run(self, tcp: TcpStream) -> Result<TlsStream, Refused> {
        tcp.set_nodelay(true).map_err(Refused::Handshake)?;
        let material = self.reload.material().ok_or(Refused::NotReady)?;
        let config = match self.limits.max_anonymous {
            0 => &material.server,
            _ => &material.open_server,
        };
        let tls = TlsAcceptor::from(Arc::clone(config))
            .accept(tcp)
            .await
            .map_err(|error| Refused::Handshake(readable(error)))?;
        let (_, session) = tls.get_ref();
        if session.alpn_protocol() != Some(b"h2") {
            return Err(Refused::NoHttp2);
        }
        match session.peer_certificates() {
            Some(chain) if !chain.is_empty() => {
                let chain: Vec<_> = chain.iter().map(|der| der.clone().into_owned()).collect();
                self.known(tls, &chain, &material)
            }
            _ => self.unknown(tls),
        }
    }

    fn known(
        self,
        tls: Shaken,
        chain: &[CertificateDer<'static>],
        material: &Arc<Material>,
    ) -> Result<TlsStream, Refused> {
        let leaf = chain.first().ok_or(Refused::NoCertificate)?;
        let peer = Peer {
            identity: Identity::of_certificate(self.reload.trust_domain(), leaf)
                .map_err(Refused::Identity)?,
            address: self.address,
            not_after: not_after(leaf).map_err(Refused::Identity)?,
        };
        let caller = Caller::new(self.address, Some(peer));
        let revoked = caller.revoked().clone();
        let connections = self.reload.connections();
        let registered = connections.register(chain.to_vec(), revoked.clone());
        // A list that came during the handshake did not know of this one.
        let newest = self.reload.material().ok_or(Refused::NotReady)?;
        let overtaken = !Arc::ptr_eq(&newest, material) && newest.clients.has_lists();
        if overtaken && newest.clients.have_revoked(chain) {
            return Err(Refused::Revoked);
        }
        let end = async move {
            revoked.cancelled_owned().await;
            sleep(AFTER_STREAMS).await;
            "the client's certificate has been revoked"
        };
        let place = Place::Known {
            _registered: registered,
        };
        Ok(TlsStream::new(tls, caller, place, end))
    }

    fn unknown(self, tls: Shaken) -> Result<TlsStream, Refused> {
        let most = self.limits.max_anonymous;
        if most == 0 {
            return Err(Refused::NoCertificate);
        }
        let evicted = CancellationToken::new();
        let seat = self.anonymous.seat(self.address, most, evicted.clone());
        let lifetime = self.limits.anonymous_lifetime;
        let end = async move {
            match timeout(lifetime, evicted.cancelled_owned()).await {
                Ok(()) => "too many clients without a certificate",
                Err(_) => "a client without a certificate has had its time",
            }
        };
        let caller = Caller::new(self.address, None);
        Ok(TlsStream::new(
            tls,
            caller,
            Place::Anonymous { _seat: seat },
            end,
        ))
    }
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
