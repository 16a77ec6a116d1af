//! Who is calling: from the certificate, and nothing else.

use std::{sync::Arc, time::SystemTime};

use sluice_mtls::{Identity, Peer};
use tonic::{Request, Status};

use crate::model::Name;

/// The node whose agent is calling, and when its certificate expires.
pub(super) fn node<T>(request: &Request<T>) -> Result<(Name, SystemTime), Status> {
    let peer = peer(request)?;
    match &peer.identity {
        Identity::Node(name) => Ok((Arc::from(name.as_str()), peer.not_after)),
        other => Err(denied(other, "a node's", "/node/")),
    }
}

/// Nothing, when an operator is calling.
pub(super) fn operator<T>(request: &Request<T>) -> Result<(), Status> {
    let peer = peer(request)?;
    match &peer.identity {
        Identity::Operator(_) => Ok(()),
        other => Err(denied(other, "an operator's", "/operator/")),
    }
}

fn denied(identity: &Identity, wanted: &str, path: &str) -> Status {
    Status::permission_denied(format!(
        "this service needs {wanted} certificate (spiffe://<trust domain>{path}<name>); \
         the one presented is of {} {:?}",
        identity.kind(),
        identity.name()
    ))
}

fn peer<T>(request: &Request<T>) -> Result<&Peer, Status> {
    let peer = request.extensions().get::<Peer>();
    let peer = peer.ok_or_else(|| Status::internal("the connection has no peer"))?;
    // The connection goes soon after: until then it is worth nothing.
    if peer.not_after <= SystemTime::now() {
        return Err(Status::unauthenticated(
            "the certificate has expired; connect again with a fresh one",
        ));
    }
    Ok(peer)
}
