//! Who may call over the network.

use std::time::SystemTime;

use sluice_mtls::{Identity, Peer};
use tonic::{Request, Status};

/// An interceptor: operators may; `PERMISSION_DENIED` for everybody else.
pub fn operators(request: Request<()>) -> Result<Request<()>, Status> {
    let Some(peer) = request.extensions().get::<Peer>() else {
        return Err(Status::permission_denied(
            "the connection carries no identity; connect with an operator's certificate",
        ));
    };
    allow(peer, SystemTime::now())?;
    Ok(request)
}

fn allow(peer: &Peer, now: SystemTime) -> Result<(), Status> {
    if peer.not_after < now {
        return Err(Status::unauthenticated(format!(
            "the certificate of {} has expired since it connected; connect again with a new one",
            peer.identity
        )));
    }
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

    fn answer(identity: Identity, lifetime: Duration) -> Result<(), Code> {
        let peer = Peer {
            identity,
            address: SocketAddr::from(([127, 0, 0, 1], 1)),
            not_after: SystemTime::UNIX_EPOCH + lifetime,
        };
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        allow(&peer, now).map_err(|status| status.code())
    }

    #[test]
    fn only_operators_with_a_valid_certificate_may() {
        let long = Duration::from_secs(200);
        assert_eq!(answer(Identity::Operator("ann".into()), long), Ok(()));
        let denied = Err(Code::PermissionDenied);
        assert_eq!(answer(Identity::Node("a".into()), long), denied);
        assert_eq!(answer(Identity::Controller("c".into()), long), denied);
        let expired = answer(Identity::Operator("ann".into()), Duration::from_secs(99));
        assert_eq!(expired, Err(Code::Unauthenticated));
    }

    #[test]
    fn without_an_identity_nobody_may() {
        let status = operators(Request::new(())).unwrap_err();
        assert_eq!(status.code(), Code::PermissionDenied);
    }
}
