//! Connections to a pod of this node in plain text, at 15006.

use std::{io, net::SocketAddr, sync::Arc};

use tokio::net::TcpStream;

use super::{
    identity::WorkloadIdentity,
    log::{ConnectionLog, Direction, chain},
    proxy::Proxy,
    rbac::{self, Caller},
    relay,
    socket::{abort, dial},
};

#[derive(Debug, thiserror::Error)]
enum PlainError {
    #[error("{0} is the proxy's own address")]
    Own(SocketAddr),
    #[error("no workload of this node has the address {0}")]
    Unknown(SocketAddr),
    #[error("{0}")]
    Policy(String),
    #[error("failed to connect to {target}")]
    Dial {
        target: SocketAddr,
        source: io::Error,
    },
}

/// Carries the connection until it ends, or resets it.
pub(super) async fn handle(proxy: Arc<Proxy>, caller: TcpStream, src: SocketAddr, dst: SocketAddr) {
    let mut line = ConnectionLog::new(Direction::InboundPlain, src, dst);
    let pod = connect(&proxy, &mut line).await;
    if let Err(error) = &pod {
        line.denied = matches!(error, PlainError::Policy(_));
        line.error = Some(chain(error));
    }
    proxy.log.write(&line);
    match pod {
        Ok(pod) => relay::plain(caller, pod).await,
        Err(_) => abort(caller),
    }
}

async fn connect(proxy: &Proxy, line: &mut ConnectionLog) -> Result<TcpStream, PlainError> {
    let target = line.dst;
    if proxy.is_own(target.ip()) {
        return Err(PlainError::Own(target));
    }
    let mesh = proxy.mesh();
    let workload = mesh
        .workload(target.ip())
        .filter(|workload| proxy.is_local(workload))
        .ok_or(PlainError::Unknown(target))?;
    line.dst_identity = Some(WorkloadIdentity::of(workload).to_string());
    line.target = Some(target);
    let caller = Caller {
        identity: None,
        destination_port: target.port(),
    };
    rbac::decide(&mesh.policies, workload, caller).map_err(PlainError::Policy)?;
    dial(
        target,
        proxy.keep_source(workload, line.src.ip(), target.ip()),
    )
    .await
    .map_err(|source| PlainError::Dial { target, source })
}
