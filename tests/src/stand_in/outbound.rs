//! Connections that a pod of this node made, at 15001.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
};

use tokio::net::TcpStream;

use super::{
    certs::CertError,
    hbone::{self, Hbone, HboneError},
    identity::WorkloadIdentity,
    log::{ConnectionLog, Direction, chain},
    mesh::{Mesh, Route, RouteError, own_address},
    proxy::Proxy,
    relay,
    socket::{abort, dial},
};
use crate::workloads::Workload;

#[derive(Debug, thiserror::Error)]
enum OutboundError {
    #[error("{0} is the proxy's own address")]
    Own(SocketAddr),
    #[error("no workload of this node has the source address {0}")]
    UnknownSource(SocketAddr),
    #[error("the destination leads nowhere")]
    Route(#[from] RouteError),
    #[error("workload {uid} has no address of the family of {target}")]
    NoFamily { uid: String, target: SocketAddr },
    #[error("{0} is a port of the proxies, not of a workload")]
    TunnelPort(SocketAddr),
    #[error("failed to connect to {target}")]
    Dial {
        target: SocketAddr,
        source: io::Error,
    },
    #[error("no certificate")]
    Certificate(#[from] CertError),
    #[error("no tunnel")]
    Hbone(#[from] HboneError),
}

enum Upstream {
    Plain(TcpStream),
    Tunnel(Hbone),
}

/// Carries the connection until it ends, or resets it.
pub(super) async fn handle(proxy: Arc<Proxy>, pod: TcpStream, src: SocketAddr, dst: SocketAddr) {
    let mut line = ConnectionLog::new(Direction::Outbound, src, dst);
    let upstream = connect(&proxy, &mut line).await;
    if let Err(error) = &upstream {
        line.denied = matches!(error, OutboundError::Hbone(HboneError::Answer { status, .. })
            if *status == http::StatusCode::FORBIDDEN);
        line.error = Some(chain(error));
    }
    proxy.log.write(&line);
    match upstream {
        Ok(Upstream::Plain(upstream)) => relay::plain(pod, upstream).await,
        Ok(Upstream::Tunnel(tunnel)) => tunnel.relay(pod).await,
        Err(_) => abort(pod),
    }
}

async fn connect(proxy: &Proxy, line: &mut ConnectionLog) -> Result<Upstream, OutboundError> {
    if proxy.is_own(line.dst.ip()) {
        return Err(OutboundError::Own(line.dst));
    }
    let mesh: Arc<Mesh> = proxy.mesh();
    let source = mesh
        .workload(line.src.ip())
        .filter(|workload| proxy.is_local(workload))
        .ok_or(OutboundError::UnknownSource(line.src))?;
    line.src_identity = Some(WorkloadIdentity::of(source).to_string());
    let route = mesh.route(line.dst)?;
    line.target = Some(route.target);
    line.service.clone_from(&route.service);
    let address =
        own_address(source, route.target.ip()).ok_or_else(|| OutboundError::NoFamily {
            uid: source.uid.clone(),
            target: route.target,
        })?;
    if let Some(workload) = route.hbone() {
        return tunnel(proxy, source, workload, &route, line).await;
    }
    let target = route.target;
    let upstream = dial(target, Some(address)).await;
    upstream
        .map(Upstream::Plain)
        .map_err(|source| OutboundError::Dial { target, source })
}

async fn tunnel(
    proxy: &Proxy,
    source: &Workload,
    destination: &Workload,
    route: &Route,
    line: &mut ConnectionLog,
) -> Result<Upstream, OutboundError> {
    // The far proxy could only send it back into itself.
    if route.target.port() == proxy.ports.hbone {
        return Err(OutboundError::TunnelPort(route.target));
    }
    let (own, peer) = (
        WorkloadIdentity::of(source),
        WorkloadIdentity::of(destination),
    );
    line.dst_identity = Some(peer.to_string());
    let target = SocketAddr::new(route.target.ip(), proxy.ports.hbone);
    line.tunnel = Some(target);
    let tls = proxy.authority.client(&own, &peer)?;
    let tcp = dial(target, tunnel_source(source, target.ip()))
        .await
        .map_err(|source| OutboundError::Dial { target, source })?;
    let tunnel = hbone::open(tcp, tls, target, route.target).await;
    // A refusal by HTTP status came through the tunnel's TLS as well.
    line.encrypted = matches!(tunnel, Ok(_) | Err(HboneError::Answer { .. }));
    Ok(Upstream::Tunnel(tunnel?))
}

/// None, the proxy's own address, for a pod that calls itself: the kernel takes
/// no packet from the network whose source is its destination.
fn tunnel_source(source: &Workload, target: IpAddr) -> Option<IpAddr> {
    own_address(source, target).filter(|own| *own != target)
}
