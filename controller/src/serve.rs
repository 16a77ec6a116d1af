//! What the controller serves over mutual TLS: the stream of each node, answers
//! about one pod, the fleet to operators, health and reflection.

mod caller;
mod capture;
mod expiry;
mod gate;
mod intake;
mod operators;
mod outbox;
mod reports;
mod session;
mod wire;

use std::{sync::Arc, time::Duration};

use futures_util::StreamExt as _;
use sluice_mtls::{AcceptLimits, Reload, accept};
use sluice_proto::{
    DESCRIPTORS,
    capture::v1::capture_discovery_service_server::{
        CaptureDiscoveryServiceServer, SERVICE_NAME as CAPTURE,
    },
    controller::v1::fleet_service_server::{FleetServiceServer, SERVICE_NAME as FLEET},
    identity::v1::identity_service_server::{IdentityServiceServer, SERVICE_NAME as IDENTITY},
};
use tokio::{net::TcpListener, time};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic_health::server::HealthReporter;
use tonic_reflection::server::Builder as Reflection;

pub use outbox::{Delta, Grace, Outbox, Snapshot};
pub use reports::{News, Owner, Reports};

use crate::{fleet::Fleet, issuer::service::Service};
use expiry::Expiring;

/// A message of an agent may be this large; ours are made to fit.
const MAX_MESSAGE: usize = 4 << 20;
/// Calls at a time on one connection. An agent has one stream and asks about
/// pods that are being created.
const MAX_CALLS: u32 = 256;
/// A token and a signing request are far smaller.
const MAX_REQUEST: usize = 32 << 10;
/// Connections of callers that come for their first certificate.
const MAX_ANONYMOUS: usize = 64;
/// Streams get this long to say goodbye.
const GOODBYE: Duration = Duration::from_secs(5);

/// Why nothing can be served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("the descriptors for gRPC reflection cannot be used")]
    Reflection(#[from] tonic_reflection::server::Error),
    #[error("the gRPC server failed")]
    Transport(#[from] tonic::transport::Error),
}

/// Serves until `stop`; streams then end with UNAVAILABLE, so that agents move
/// to another replica. With an issuer, callers without a certificate are let in
/// to ask for one.
pub async fn serve(
    listener: TcpListener,
    tls: Arc<Reload>,
    issuer: Option<Service>,
    mut limits: AcceptLimits,
    fleet: Arc<Fleet>,
    stop: CancellationToken,
) -> Result<(), ServeError> {
    let sessions = TaskTracker::new();
    let capture = capture::Capture::new(Arc::clone(&fleet), sessions.clone(), stop.clone());
    let operators = operators::Operators::new(Arc::clone(&fleet));
    let (health, health_service) = tonic_health::server::health_reporter();
    let reporting = tokio::spawn(report_health(health, Arc::clone(&fleet)));
    if issuer.is_some() {
        limits.max_anonymous = MAX_ANONYMOUS;
    }
    let identity = issuer
        .map(|issuer| IdentityServiceServer::new(issuer).max_decoding_message_size(MAX_REQUEST));
    let incoming =
        accept::incoming(listener, tls, limits).map(|accepted| accepted.map(Expiring::new));
    let serving = accept::server()
        .max_concurrent_streams(MAX_CALLS)
        .http2_max_header_list_size(16 << 10)
        .http2_max_pending_accept_reset_streams(Some(20))
        .layer(gate::layer())
        .add_optional_service(identity)
        .add_service(
            CaptureDiscoveryServiceServer::new(capture)
                .max_decoding_message_size(MAX_MESSAGE)
                .max_encoding_message_size(MAX_MESSAGE),
        )
        .add_service(FleetServiceServer::new(operators).max_decoding_message_size(64 << 10))
        .add_service(health_service)
        .add_service(reflection().build_v1()?)
        .add_service(reflection().build_v1alpha()?)
        .serve_with_incoming_shutdown(incoming, stop.clone().cancelled_owned());
    let ended = tokio::select! {
        ended = serving => ended,
        // A client that does not hang up must not keep the process.
        () = overdue(&stop) => Ok(()),
    };
    reporting.abort();
    sessions.close();
    let _ = time::timeout(GOODBYE, sessions.wait()).await;
    Ok(ended?)
}

async fn overdue(stop: &CancellationToken) {
    stop.cancelled().await;
    time::sleep(GOODBYE).await;
}

fn reflection() -> Reflection<'static> {
    Reflection::configure()
        .register_encoded_file_descriptor_set(DESCRIPTORS)
        .register_encoded_file_descriptor_set(tonic_health::pb::FILE_DESCRIPTOR_SET)
        .with_service_name(CAPTURE)
        .with_service_name(FLEET)
        .with_service_name(IDENTITY)
        .with_service_name("grpc.health.v1.Health")
}

// Serving means in sync: before that, no agent is answered.
async fn report_health(health: HealthReporter, fleet: Arc<Fleet>) {
    use tonic_health::ServingStatus::{NotServing, Serving};
    let mut position = fleet.position();
    loop {
        let in_sync = position.borrow_and_update().in_sync;
        let status = if in_sync { Serving } else { NotServing };
        health.set_service_status("", status).await;
        health.set_service_status(CAPTURE, status).await;
        // Operators are answered in any case.
        health.set_service_status(FLEET, Serving).await;
        if position.changed().await.is_err() {
            return;
        }
    }
}
