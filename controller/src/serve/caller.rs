//! Who is calling: from the certificate, and nothing else.

use std::{sync::Arc, time::SystemTime};

use sluice_mtls::{Caller, Identity, Peer};
use tokio_util::sync::CancellationToken;
use tonic::{Request, Status};

use crate::model::Name;

/// How long a certificate is good.
#[derive(Clone, Debug)]
pub(super) struct Good {
    pub(super) not_after: SystemTime,
    /// Cancelled when it is revoked.
    pub(super) revoked: CancellationToken,
}

/// The node whose agent is calling, and how long its certificate is good.
pub(super) fn node<T>(request: &Request<T>) -> Result<(Name, Good), Status> {
    let (caller, peer) = known(request)?;
    match &peer.identity {
        Identity::Node(name) => {
            let good = Good {
                not_after: peer.not_after,
                revoked: caller.revoked().clone(),
            };
            Ok((Arc::from(name.as_str()), good))
        }
        other => Err(denied(other, "a node's", "/node/")),
    }
}

/// Nothing, when an operator is calling.
pub(super) fn operator<T>(request: &Request<T>) -> Result<(), Status> {
    let (_, peer) = known(request)?;
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

fn known<T>(request: &Request<T>) -> Result<(&Caller, &Peer), Status> {
    let caller = request.extensions().get::<Caller>();
    let caller = caller.ok_or_else(|| Status::internal("the connection has no caller"))?;
    let peer = caller.peer(SystemTime::now());
    let peer = peer.map_err(|stranger| Status::unauthenticated(stranger.to_string()))?;
    Ok((caller, peer))
}
