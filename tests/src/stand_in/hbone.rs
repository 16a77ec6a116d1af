//! The calling end of a tunnel: HTTP/2 CONNECT over mutual TLS, one connection
//! per tunnel.

use std::{io, net::SocketAddr, sync::Arc, time::Duration};

use h2::{Ping, PingPong, client::SendRequest};
use http::{Method, Request, StatusCode};
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;

use super::relay::{self, Chunk, Tunnel};

pub(super) const HANDSHAKE_DEADLINE: Duration = Duration::from_secs(10);
/// The far proxy answers once it has reached the pod, or has given up on it.
const ANSWER_DEADLINE: Duration = Duration::from_secs(8);
const CLOSE_DEADLINE: Duration = Duration::from_secs(5);
pub(super) const WINDOW: u32 = 1 << 20;
pub(super) const FRAME: u32 = 64 << 10;
pub(super) const SEND_BUFFER: usize = 256 << 10;

#[derive(Debug, thiserror::Error)]
pub(super) enum HboneError {
    #[error("no TLS handshake with {0} within 5 s")]
    TlsDeadline(SocketAddr),
    #[error("TLS handshake with {peer} failed")]
    Tls { peer: SocketAddr, source: io::Error },
    #[error("HTTP/2 with {peer} failed")]
    Http { peer: SocketAddr, source: h2::Error },
    #[error("{0} did not answer CONNECT within 8 s")]
    AnswerDeadline(SocketAddr),
    #[error("{0} is not an authority")]
    Authority(SocketAddr, #[source] http::Error),
    #[error("{peer} answered CONNECT with {status}")]
    Answer {
        peer: SocketAddr,
        status: StatusCode,
    },
}

/// An open tunnel.
pub(super) struct Hbone {
    tunnel: Tunnel,
    ping: Option<PingPong>,
    /// The connection lives as long as this does.
    requests: SendRequest<Chunk>,
}

/// Opens a tunnel to `target` through the proxy at the other end of `tcp`.
pub(super) async fn open(
    tcp: TcpStream,
    tls: Arc<ClientConfig>,
    peer: SocketAddr,
    target: SocketAddr,
) -> Result<Hbone, HboneError> {
    let http = |source| HboneError::Http { peer, source };
    let name = ServerName::IpAddress(peer.ip().into());
    let tls = timeout(
        HANDSHAKE_DEADLINE,
        TlsConnector::from(tls).connect(name, tcp),
    )
    .await
    .map_err(|_| HboneError::TlsDeadline(peer))?
    .map_err(|source| HboneError::Tls { peer, source })?;
    let (requests, mut connection) = h2::client::Builder::new()
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_frame_size(FRAME)
        .max_send_buffer_size(SEND_BUFFER)
        .enable_push(false)
        .handshake::<_, Chunk>(tls)
        .await
        .map_err(http)?;
    let ping = connection.ping_pong();
    tokio::spawn(async move {
        if let Err(error) = connection.await {
            tracing::debug!(%peer, error = &error as &dyn std::error::Error, "tunnel ended");
        }
    });
    let request = Request::builder()
        .method(Method::CONNECT)
        .uri(target.to_string())
        .body(())
        .map_err(|source| HboneError::Authority(target, source))?;
    let mut requests = requests.ready().await.map_err(http)?;
    let (response, send) = requests.send_request(request, false).map_err(http)?;
    let response = timeout(ANSWER_DEADLINE, response)
        .await
        .map_err(|_| HboneError::AnswerDeadline(peer))?
        .map_err(http)?;
    let (head, receive) = response.into_parts();
    if head.status != StatusCode::OK {
        return Err(HboneError::Answer {
            peer,
            status: head.status,
        });
    }
    let tunnel = Tunnel { send, receive };
    Ok(Hbone {
        tunnel,
        ping,
        requests,
    })
}

impl Hbone {
    /// Until both directions have ended, or one failed.
    pub(super) async fn relay(self, tcp: TcpStream) {
        let Self {
            tunnel,
            ping,
            requests,
        } = self;
        let done = relay::tunnel(tcp, tunnel).await;
        // What was sent last may still be on its way. Closing now could meet a
        // window update of the far end with a reset, and lose it; the answer
        // to a ping says that all of it has arrived.
        if let Some(mut ping) = ping.filter(|_| done) {
            let _ = timeout(CLOSE_DEADLINE, ping.ping(Ping::opaque())).await;
        }
        drop(requests);
    }
}
