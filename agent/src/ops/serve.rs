//! Where the services are: the unix socket for root, mutual TLS for operators.

use std::{io, net::SocketAddr, sync::Arc};

use sluice_mtls::{AcceptLimits, Reload, accept};
use sluice_ops::unix::{self, Incoming};
use sluice_proto::agent::v1::{
    cni_service_server::{CniService, CniServiceServer},
    node_service_server::NodeServiceServer,
};
use tokio::{net::TcpListener, sync::watch, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::{
    service::{InterceptorLayer, RoutesBuilder},
    transport::Server,
};
use tonic_health::{ServingStatus, server::HealthReporter};

use super::{authorise::operators, node::NodeService};
use crate::status::NodeStatus;

/// Name of the health check that says whether the node can capture.
pub const CAPTURE: &str = "capture";

const NODE: &str = "sluice.agent.v1.NodeService";
const CNI: &str = "sluice.agent.v1.CniService";
const HEALTH: &str = "grpc.health.v1.Health";

/// Calls at a time on one connection.
const STREAMS: u32 = 128;

/// Why a listener cannot be had.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("cannot listen on {address} for operators; choose another --ops-listen")]
    Tcp {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("the descriptions of the services are damaged; this binary was built wrongly")]
    Reflection(#[from] tonic_reflection::server::Error),
}

/// A listener at work: its task ends once `stop` is cancelled and its calls
/// are over.
pub type Serving = JoinHandle<Result<(), tonic::transport::Error>>;

/// `CniService` and `NodeService` on a bound unix socket, for root.
pub fn local(
    incoming: Incoming,
    cni: impl CniService,
    node: NodeService,
    status: watch::Receiver<Arc<NodeStatus>>,
    stop: CancellationToken,
) -> Result<Serving, ServeError> {
    let mut routes = services(node, status, &[CNI, NODE, HEALTH])?;
    routes.add_service(CniServiceServer::new(cni));
    let server = Server::builder()
        .max_concurrent_streams(STREAMS)
        .layer(InterceptorLayer::new(unix::require_root))
        .add_routes(routes.routes());
    Ok(tokio::spawn(server.serve_with_incoming_shutdown(
        incoming,
        stop.cancelled_owned(),
    )))
}

/// Listens where operators are to be served.
pub async fn listen(address: SocketAddr) -> Result<TcpListener, ServeError> {
    TcpListener::bind(address)
        .await
        .map_err(|source| ServeError::Tcp { address, source })
}

/// `NodeService` over mutual TLS, for operators.
pub fn remote(
    listener: TcpListener,
    reload: Arc<Reload>,
    node: NodeService,
    status: watch::Receiver<Arc<NodeStatus>>,
    stop: CancellationToken,
) -> Result<Serving, ServeError> {
    let incoming = accept::incoming(listener, reload, AcceptLimits::default());
    let server = accept::server()
        .max_concurrent_streams(STREAMS)
        .layer(InterceptorLayer::new(operators))
        .add_routes(services(node, status, &[NODE, HEALTH])?.routes());
    Ok(tokio::spawn(server.serve_with_incoming_shutdown(
        incoming,
        stop.cancelled_owned(),
    )))
}

/// What both have: the node, reflection for `grpcurl` old and new, health.
fn services(
    node: NodeService,
    status: watch::Receiver<Arc<NodeStatus>>,
    named: &[&str],
) -> Result<RoutesBuilder, ServeError> {
    let reflection = || {
        let builder = tonic_reflection::server::Builder::configure()
            .register_encoded_file_descriptor_set(sluice_proto::DESCRIPTORS)
            .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET);
        named
            .iter()
            .fold(builder, |builder, name| builder.with_service_name(*name))
    };
    let (reporter, health) = tonic_health::server::health_reporter();
    tokio::spawn(report(reporter, status));
    let mut routes = RoutesBuilder::default();
    routes
        .add_service(NodeServiceServer::new(node))
        .add_service(health)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?);
    Ok(routes)
}

/// Health: the process serves; [`CAPTURE`] says whether the node can capture.
async fn report(reporter: HealthReporter, mut status: watch::Receiver<Arc<NodeStatus>>) {
    reporter
        .set_service_status(NODE, ServingStatus::Serving)
        .await;
    loop {
        let ready = status.borrow_and_update().capture_ready;
        let serving = if ready {
            ServingStatus::Serving
        } else {
            ServingStatus::NotServing
        };
        reporter.set_service_status(CAPTURE, serving).await;
        if status.changed().await.is_err() {
            return;
        }
    }
}
