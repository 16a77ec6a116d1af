//! Who may call over the network.

use std::time::SystemTime;

use sluice_mtls::{Caller, Identity, Peer};
use tonic::{Request, Status};

/// An interceptor: operators may; `PERMISSION_DENIED` for everybody else.
pub fn operators(request: Request<()>) -> Result<Request<()>, Status> {
    let Some(caller) = request.extensions().get::<Caller>() else {
        return Err(Status::permission_denied(
            "the connection carries no identity; connect with an operator's certificate",
        ));
    };
    let peer = caller.peer(SystemTime::now());
    allow(peer.map_err(|stranger| Status::unauthenticated(stranger.to_string()))?)?;
    Ok(request)
}

fn allow(peer: &Peer) -> Result<(), Status> {
    match &peer.identity {
        Identity::Operator(_) => Ok(()),
        Identity::Node(_) | Identity::Controller(_) => Err(Status::permission_denied(format!(
            "{} may not use this service; it is for operators \
             (spiffe://<trust domain>/operator/<name>)",
            peer.identity
        ))),
    }
}

#[cfg(test)]
mod tests {
    use std::{net::SocketAddr, time::Duration};

    use tonic::Code;

    use super::*;

    fn answer(identity: Identity) -> Result<(), Code> {
        let peer = Peer {
            identity,
            address: SocketAddr::from(([127, 0, 0, 1], 1)),
            not_after: SystemTime::now() + Duration::from_secs(100),
        };
        allow(&peer).map_err(|status| status.code())
    }

    #[test]
    fn only_operators_may() {
        assert_eq!(answer(Identity::Operator("ann".into())), Ok(()));
        let denied = Err(Code::PermissionDenied);
        assert_eq!(answer(Identity::Node("a".into())), denied);
        assert_eq!(answer(Identity::Controller("c".into())), denied);
    }

    #[test]
    fn without_an_identity_nobody_may() {
        let status = operators(Request::new(())).unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
    }
}
