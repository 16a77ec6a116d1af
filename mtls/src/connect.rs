//! The client's side: a gRPC channel to a server that proves who it is.

use std::{future::Future, io, path::PathBuf, pin::Pin, sync::Arc, time::Duration};

use hyper_util::rt::TokioIo;
use rustls::ClientConfig;
use rustls_pki_types::ServerName;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

use crate::{
    identity::Identity,
    reload::{Reload, TlsError, anonymous_client},
    verify::readable,
};

/// Name, TCP and TLS together may take this long.
const CONNECT: Duration = Duration::from_secs(5);
/// Who is silent is asked for a sign of life this often, and given as long: a dead
/// peer is noticed in twice the time.
pub(crate) const KEEPALIVE: Duration = Duration::from_secs(5);

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The configured address is not an address.
    #[error("{endpoint:?} is not of the form https://host:port")]
    Endpoint { endpoint: String },
    /// Name resolution or TCP.
    #[error("cannot reach {authority}")]
    Tcp {
        authority: String,
        source: io::Error,
    },
    /// One side does not accept the other.
    #[error("the TLS handshake with {authority} failed")]
    Tls {
        authority: String,
        source: io::Error,
    },
    /// Our own certificate set is of no use.
    #[error("no TLS client can be made for {authority}")]
    Config {
        authority: String,
        source: Box<TlsError>,
    },
    /// None has been issued yet, and whoever asks for one says why.
    #[error("there is no certificate yet to show to {authority}")]
    NoCertificate { authority: String },
    /// Something accepts and then says nothing.
    #[error("{authority} has not answered within {after:?}")]
    Deadline { authority: String, after: Duration },
}

/// A channel to `endpoint` (`https://host:port`) that connects when it is first
/// used and again when the connection is lost, each time with the certificate
/// that is newest then. Whoever answers must have a certificate of our
/// authorities with an identity that `expect` takes; its DNS name is not
/// looked at. A server that stops answering is noticed within 10 s.
pub fn channel(
    endpoint: &str,
    reload: Arc<Reload>,
    expect: fn(&Identity) -> bool,
) -> Result<Channel, ConnectError> {
    lazily(endpoint, move |authority| {
        let material = reload
            .material()
            .ok_or_else(|| ConnectError::NoCertificate {
                authority: authority.to_owned(),
            })?;
        material
            .client(reload.trust_domain(), expect)
            .map_err(|source| unusable(authority, source))
    })
}

/// The same without a certificate of our own, for asking for one. The
/// authorities (PEM) are read at each connection.
pub fn anonymous_channel(
    endpoint: &str,
    authorities: PathBuf,
    trust_domain: String,
    expect: fn(&Identity) -> bool,
) -> Result<Channel, ConnectError> {
    lazily(endpoint, move |authority| {
        anonymous_client(&authorities, &trust_domain, expect)
            .map_err(|source| unusable(authority, source))
    })
}

fn unusable(authority: &str, source: TlsError) -> ConnectError {
    ConnectError::Config {
        authority: authority.to_owned(),
        source: Box::new(source),
    }
}

fn lazily(
    endpoint: &str,
    config: impl Fn(&str) -> Result<ClientConfig, ConnectError> + Send + Sync + 'static,
) -> Result<Channel, ConnectError> {
    let made = parse(endpoint)?
        .connect_timeout(CONNECT)
        .http2_keep_alive_interval(KEEPALIVE)
        .keep_alive_timeout(KEEPALIVE)
        .keep_alive_while_idle(true);
    let config = Arc::new(config);
    Ok(
        made.connect_with_connector_lazy(service_fn(move |uri: Uri| {
            boxed(connect(uri, Arc::clone(&config)))
        })),
    )
}

/// For [`channel`]: any controller.
pub fn any_controller(identity: &Identity) -> bool {
    matches!(identity, Identity::Controller(_))
}

/// For [`channel`]: any agent.
pub fn any_node(identity: &Identity) -> bool {
    matches!(identity, Identity::Node(_))
}

fn parse(endpoint: &str) -> Result<Endpoint, ConnectError> {
    let wrong = || ConnectError::Endpoint {
        endpoint: endpoint.to_owned(),
    };
    let uri: Uri = endpoint.parse().map_err(|_| wrong())?;
    let bare = matches!(uri.path(), "" | "/") && uri.query().is_none();
    if uri.scheme_str() != Some("https") || uri.port_u16().is_none() || !bare {
        return Err(wrong());
    }
    Ok(Endpoint::from(uri))
}

async fn connect(
    uri: Uri,
    config: Arc<impl Fn(&str) -> Result<ClientConfig, ConnectError>>,
) -> Result<TokioIo<TlsStream<TcpStream>>, ConnectError> {
    let authority = uri.authority().map(ToString::to_string).unwrap_or_default();
    // Newest when it connects, and no knocking without anything to show.
    let config = config(&authority)?;
    let attempt = attempt(&authority, &uri, config);
    match timeout(CONNECT, attempt).await {
        Ok(connected) => connected.map(TokioIo::new),
        Err(_) => Err(ConnectError::Deadline {
            authority: authority.clone(),
            after: CONNECT,
        }),
    }
}

async fn attempt(
    authority: &str,
    uri: &Uri,
    config: ClientConfig,
) -> Result<TlsStream<TcpStream>, ConnectError> {
    let authority = || authority.to_owned();
    let tcp = |source| ConnectError::Tcp {
        authority: authority(),
        source,
    };
    let host = uri.host().unwrap_or_default();
    let port = uri.port_u16().unwrap_or_default();
    let stream = TcpStream::connect((host.trim_matches(['[', ']']), port))
        .await
        .map_err(tcp)?;
    stream.set_nodelay(true).map_err(tcp)?;
    // SNI is off and the name is never compared: any valid one will do.
    let address = stream.peer_addr().map_err(tcp)?.ip();
    TlsConnector::from(Arc::new(config))
        .connect(ServerName::from(address), stream)
        .await
        .map_err(|source| ConnectError::Tls {
            authority: authority(),
            source: readable(source),
        })
}

type BoxFuture<T> = Pin<Box<dyn Future<Output = T> + Send>>;

fn boxed<T>(future: impl Future<Output = T> + Send + 'static) -> BoxFuture<T> {
    Box::pin(future)
}

#[cfg(test)]
mod tests;
