//! Connections to a pod of this node through a tunnel, at 15008.

use std::{io, net::SocketAddr, sync::Arc};

use h2::{RecvStream, server::SendResponse};
use http::{Method, Request, Response, StatusCode};
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

use super::{
    certs::CertError,
    hbone::{FRAME, HANDSHAKE_DEADLINE, SEND_BUFFER, WINDOW},
    identity::WorkloadIdentity,
    log::{ConnectionLog, Direction, chain},
    proxy::Proxy,
    rbac::{self, Caller},
    relay::{self, Chunk, Tunnel},
    socket::{abort, dial},
    verify::identity_of,
};

const MAX_STREAMS: u32 = 1024;

/// Before there is a tunnel: the connection is given up.
#[derive(Debug, thiserror::Error)]
enum AcceptError {
    #[error("{0} is the proxy's own address")]
    Own(SocketAddr),
    #[error("no workload of this node has the address {0}")]
    Unknown(SocketAddr),
    #[error("no certificate")]
    Certificate(#[from] CertError),
    #[error("no TLS and HTTP/2 handshake within 5 s")]
    Deadline,
    #[error("TLS handshake failed")]
    Tls(#[source] io::Error),
    #[error("the client's certificate names no workload")]
    NoIdentity,
    #[error("HTTP/2 handshake failed")]
    Http(#[from] h2::Error),
}

/// A CONNECT that is answered with something else than 200.
#[derive(Debug, thiserror::Error)]
enum ConnectError {
    #[error("the method is {0}, not CONNECT")]
    Method(Method),
    #[error("the authority {0:?} is not an address and port of the workload")]
    Authority(String),
    #[error("{0}")]
    Policy(String),
    #[error("failed to connect to {target}")]
    Dial {
        target: SocketAddr,
        source: io::Error,
    },
}

type Connection = h2::server::Connection<TlsStream<TcpStream>, Chunk>;

/// What all tunnels of one connection have in common.
struct Session {
    proxy: Arc<Proxy>,
    peer: WorkloadIdentity,
    line: ConnectionLog,
}

/// Serves tunnels until the caller closes the connection.
pub(super) async fn handle(proxy: Arc<Proxy>, caller: TcpStream, src: SocketAddr, dst: SocketAddr) {
    let mut line = ConnectionLog::new(Direction::Inbound, src, dst);
    let accepted = timeout(HANDSHAKE_DEADLINE, accept(&proxy, caller, &mut line)).await;
    let (peer, mut connection) = match accepted.unwrap_or(Err(AcceptError::Deadline)) {
        Ok(accepted) => accepted,
        Err(error) => {
            line.error = Some(chain(&error));
            return proxy.log.write(&line);
        }
    };
    let session = Arc::new(Session { proxy, peer, line });
    while let Some(Ok((request, respond))) = connection.accept().await {
        let session = Arc::clone(&session);
        tokio::spawn(async move { session.serve(request, respond).await });
    }
}

async fn accept(
    proxy: &Proxy,
    caller: TcpStream,
    line: &mut ConnectionLog,
) -> Result<(WorkloadIdentity, Connection), AcceptError> {
    let own = match local_identity(proxy, line.dst) {
        Ok(own) => own,
        Err(error) => {
            abort(caller);
            return Err(error);
        }
    };
    line.dst_identity = Some(own.to_string());
    let acceptor = TlsAcceptor::from(proxy.authority.server(&own)?);
    let tls = acceptor.accept(caller).await.map_err(AcceptError::Tls)?;
    let (_, session) = tls.get_ref();
    let peer = session
        .peer_certificates()
        .and_then(|chain| chain.first())
        .and_then(identity_of)
        .ok_or(AcceptError::NoIdentity)?;
    line.src_identity = Some(peer.to_string());
    line.encrypted = true;
    let connection = h2::server::Builder::new()
        .initial_window_size(WINDOW)
        .initial_connection_window_size(WINDOW)
        .max_frame_size(FRAME)
        .max_send_buffer_size(SEND_BUFFER)
        .max_concurrent_streams(MAX_STREAMS)
        .handshake(tls)
        .await?;
    Ok((peer, connection))
}

fn local_identity(proxy: &Proxy, dst: SocketAddr) -> Result<WorkloadIdentity, AcceptError> {
    if proxy.is_own(dst.ip()) {
        return Err(AcceptError::Own(dst));
    }
    let mesh = proxy.mesh();
    let workload = mesh
        .workload(dst.ip())
        .filter(|workload| proxy.is_local(workload));
    workload
        .map(|workload| WorkloadIdentity::of(workload))
        .ok_or(AcceptError::Unknown(dst))
}

impl Session {
    async fn serve(&self, request: Request<RecvStream>, mut respond: SendResponse<Chunk>) {
        let mut line = self.line.clone();
        let connected = self.connect(&request, &mut line).await;
        if let Err(error) = &connected {
            line.denied = matches!(error, ConnectError::Policy(_));
            line.error = Some(chain(error));
        }
        self.proxy.log.write(&line);
        let (status, pod) = match connected {
            Ok(pod) => (StatusCode::OK, Some(pod)),
            Err(error) => (error.status(), None),
        };
        let mut response = Response::new(());
        *response.status_mut() = status;
        match (respond.send_response(response, pod.is_none()), pod) {
            (Ok(send), Some(pod)) => {
                let receive = request.into_body();
                relay::tunnel(pod, Tunnel { send, receive }).await;
            }
            // The caller is gone.
            (Err(_), Some(pod)) => abort(pod),
            (_, None) => {}
        }
    }

    async fn connect(
        &self,
        request: &Request<RecvStream>,
        line: &mut ConnectionLog,
    ) -> Result<TcpStream, ConnectError> {
        if request.method() != Method::CONNECT {
            return Err(ConnectError::Method(request.method().clone()));
        }
        let authority = request
            .uri()
            .authority()
            .map_or("", |authority| authority.as_str());
        let refused = || ConnectError::Authority(authority.to_owned());
        let target: SocketAddr = authority.parse().map_err(|_| refused())?;
        let mesh = self.proxy.mesh();
        let workload = mesh.workload(line.dst.ip()).ok_or_else(refused)?;
        let is_tunnel = target.port() == self.proxy.ports.hbone;
        if !workload.workload_ips.contains(&target.ip()) || is_tunnel {
            return Err(refused());
        }
        line.target = Some(target);
        let caller = Caller {
            identity: Some(&self.peer),
            destination_port: target.port(),
        };
        rbac::decide(&mesh.policies, workload, caller).map_err(ConnectError::Policy)?;
        dial(
            target,
            self.proxy.keep_source(workload, line.src.ip(), target.ip()),
        )
        .await
        .map_err(|source| ConnectError::Dial { target, source })
    }
}

impl ConnectError {
    fn status(&self) -> StatusCode {
        match self {
            Self::Method(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Authority(_) => StatusCode::BAD_REQUEST,
            Self::Policy(_) => StatusCode::FORBIDDEN,
            Self::Dial { .. } => StatusCode::SERVICE_UNAVAILABLE,
        }
    }
}
