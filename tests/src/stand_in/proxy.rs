//! The proxy: listeners, what all connections share, and its end.

use std::{
    error::Error,
    fs, io,
    net::{IpAddr, Ipv6Addr, SocketAddr},
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    select,
    signal::unix::{SignalKind, signal},
    sync::{Semaphore, watch},
    time::{interval, sleep, timeout},
};

use super::{
    args::{Args, Ports},
    certs::{Authority, CaFiles, CertError},
    inbound, inbound_plain, kubernetes,
    log::{ConnectionLog, ConnectionWriter, Direction, chain},
    mesh::Mesh,
    outbound,
    socket::{abort, ends, listen, prepare},
};
use crate::workloads::{Workload, Workloads, WorkloadsError};

const MAX_CONNECTIONS: u32 = 8192;
const RELOAD: Duration = Duration::from_millis(200);
const DRAIN: Duration = Duration::from_secs(1);
/// Out of descriptors, say: trying again at once would only burn the processor.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error("the workload file {path} is not usable")]
    Workloads {
        path: PathBuf,
        source: WorkloadsError,
    },
    #[error("the mesh's CA is not usable")]
    Authority(#[from] CertError),
    #[error("the mesh cannot be learned from Kubernetes")]
    Kubernetes(#[from] kubernetes::NoCluster),
    #[error("failed to open the connection log")]
    Log(#[source] io::Error),
    #[error("failed to listen on [::]:{port}; transparent sockets need CAP_NET_ADMIN")]
    Listen { port: u16, source: io::Error },
    #[error("failed to write the ready file {path}")]
    Ready { path: PathBuf, source: io::Error },
    #[error("failed to wait for SIGTERM")]
    Signal(#[source] io::Error),
}

/// What all connections share.
#[derive(Debug)]
pub(super) struct Proxy {
    pub(super) ports: Ports,
    pub(super) authority: Authority,
    pub(super) log: ConnectionWriter,
    node_name: String,
    own: Vec<IpAddr>,
    mesh: watch::Receiver<Arc<Mesh>>,
    places: Arc<Semaphore>,
}

/// Serves until SIGTERM, then gives open connections a moment.
pub async fn run(args: Args) -> Result<(), StartError> {
    let mesh = follow(args.workloads, args.kubernetes).await?;
    let files = CaFiles {
        cert: args.ca_cert,
        key: args.ca_key,
    };
    let proxy = Arc::new(Proxy {
        ports: args.ports,
        authority: Authority::load(&files)?,
        log: ConnectionWriter::open(args.log.as_deref()).map_err(StartError::Log)?,
        node_name: args.node_name,
        own: args.instance_ip,
        mesh,
        places: Arc::new(Semaphore::new(MAX_CONNECTIONS as usize)),
    });
    let mut terminated = signal(SignalKind::terminate()).map_err(StartError::Signal)?;
    let listeners = bind(&proxy.ports)?;
    if let Some(port) = args.ready_port {
        let ready = TcpListener::bind((Ipv6Addr::UNSPECIFIED, port)).await;
        let ready = ready.map_err(|source| StartError::Listen { port, source })?;
        tokio::spawn(async move { while ready.accept().await.is_ok() {} });
    }
    if let Some(path) = args.ready_file {
        fs::write(&path, "ready\n").map_err(|source| StartError::Ready { path, source })?;
    }
    tracing::info!(node = proxy.node_name, ports = ?proxy.ports, "stand-in proxy is ready");
    select! {
        () = proxy.serve(listeners) => {}
        _ = terminated.recv() => {}
        () = parent_gone(args.end_with_parent) => {}
    }
    let _ = timeout(DRAIN, proxy.places.acquire_many(MAX_CONNECTIONS)).await;
    Ok(())
}

type Listeners = [(Direction, TcpListener); 3];

fn bind(ports: &Ports) -> Result<Listeners, StartError> {
    let bind = |port| listen(port).map_err(|source| StartError::Listen { port, source });
    Ok([
        (Direction::Outbound, bind(ports.outbound)?),
        (Direction::InboundPlain, bind(ports.inbound)?),
        (Direction::Inbound, bind(ports.hbone)?),
    ])
}

impl Proxy {
    pub(super) fn mesh(&self) -> Arc<Mesh> {
        Arc::clone(&self.mesh.borrow())
    }

    /// Whether a connection to `address` would end at the proxy itself, so
    /// that passing it on would never end.
    pub(super) fn is_own(&self, address: IpAddr) -> bool {
        address.is_loopback() || address.is_unspecified() || self.own.contains(&address)
    }

    pub(super) fn is_local(&self, workload: &Workload) -> bool {
        workload.node.is_empty() || workload.node == self.node_name
    }

    /// The source to dial `target` of `workload` from, so that it sees its
    /// caller. A pod takes no packet that seems to come from itself, so one
    /// that calls itself sees the proxy. None leaves it to the kernel.
    pub(super) fn keep_source(
        &self,
        workload: &Workload,
        caller: IpAddr,
        target: IpAddr,
    ) -> Option<IpAddr> {
        let same_family = |address: &IpAddr| address.is_ipv4() == target.is_ipv4();
        Some(caller)
            .filter(|caller| same_family(caller) && !workload.workload_ips.contains(caller))
            .or_else(|| self.own.iter().copied().find(same_family))
    }

    async fn serve(self: &Arc<Self>, listeners: Listeners) {
        let [first, second, third] =
            listeners.map(|(direction, listener)| self.accept(direction, listener));
        tokio::join!(first, second, third);
    }

    async fn accept(self: &Arc<Self>, direction: Direction, listener: TcpListener) {
        loop {
            match listener.accept().await {
                Ok((stream, _)) => self.start(direction, stream),
                Err(error) => {
                    tracing::warn!(error = &error as &dyn Error, "cannot accept");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
    }

    fn start(self: &Arc<Self>, direction: Direction, stream: TcpStream) {
        // Fails for a peer that is gone already.
        let Ok((src, dst)) = prepare(&stream).and_then(|()| ends(&stream)) else {
            return;
        };
        let Ok(place) = Arc::clone(&self.places).try_acquire_owned() else {
            return self.refuse(direction, stream, src, dst);
        };
        let proxy = Arc::clone(self);
        tokio::spawn(async move {
            match direction {
                Direction::Outbound => outbound::handle(proxy, stream, src, dst).await,
                Direction::Inbound => inbound::handle(proxy, stream, src, dst).await,
                Direction::InboundPlain => inbound_plain::handle(proxy, stream, src, dst).await,
            }
            drop(place);
        });
    }

    fn refuse(&self, direction: Direction, stream: TcpStream, src: SocketAddr, dst: SocketAddr) {
        let mut line = ConnectionLog::new(direction, src, dst);
        line.error = Some(format!("{MAX_CONNECTIONS} connections are open already"));
        self.log.write(&line);
        abort(stream);
    }
}

/// The mesh as it is now, kept up to date.
async fn follow(
    file: Option<PathBuf>,
    kubernetes: bool,
) -> Result<watch::Receiver<Arc<Mesh>>, StartError> {
    let all = file.as_deref().map(read).transpose()?.unwrap_or_default();
    let policies = all.policies.clone();
    let (changed, mesh) = watch::channel(Arc::new(Mesh::new(all)));
    if kubernetes {
        kubernetes::follow(policies, changed).await?;
    } else if let Some(path) = file {
        tokio::spawn(reload(path, changed));
    }
    Ok(mesh)
}

fn read(path: &Path) -> Result<Workloads, StartError> {
    Workloads::read(path).map_err(|source| StartError::Workloads {
        path: path.to_owned(),
        source,
    })
}

/// Looks at the workload file now and then; one that is wrong changes nothing.
async fn reload(path: PathBuf, changed: watch::Sender<Arc<Mesh>>) {
    let mut seen = fs::read(&path).ok();
    let mut ticks = interval(RELOAD);
    loop {
        ticks.tick().await;
        let now = fs::read(&path).ok();
        if now == seen {
            continue;
        }
        seen = now;
        match read(&path).map(Mesh::new) {
            Ok(mesh) => {
                tracing::info!(path = %path.display(), "workload file re-read");
                changed.send_replace(Arc::new(mesh));
            }
            Err(error) => tracing::warn!(reason = chain(&error), "the last good mesh stays"),
        }
    }
}

/// Ends when whoever started us is gone, so that a test that was killed leaves
/// no proxy behind. Never, if that is not `wanted`.
async fn parent_gone(wanted: bool) {
    let parent = nix::unistd::getppid();
    let mut ticks = interval(RELOAD);
    while !wanted || nix::unistd::getppid() == parent {
        ticks.tick().await;
    }
}
