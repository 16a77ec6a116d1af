//! Who is at the other end, for the services.

use std::{
    net::SocketAddr,
    time::{Duration, SystemTime},
};

use tokio_util::sync::CancellationToken;

use crate::identity::Identity;

/// Streams are told first that their certificate is worth nothing any more;
/// then the connection goes.
pub(super) const AFTER_STREAMS: Duration = Duration::from_secs(2);

/// Who has proved to be at the other end of a connection.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Peer {
    /// From the certificate, checked against our authorities.
    pub identity: Identity,
    /// Where it called from.
    pub address: SocketAddr,
    /// When its certificate expires: a connection should not outlive it.
    pub not_after: SystemTime,
}

/// Whoever is at the other end: `request.extensions().get::<Caller>()`.
#[derive(Clone, Debug)]
pub struct Caller {
    address: SocketAddr,
    peer: Option<Peer>,
    revoked: CancellationToken,
}

/// Why a caller is nobody, now.
#[derive(Clone, Copy, Debug, Eq, PartialEq, thiserror::Error)]
pub enum Stranger {
    #[error("the connection has no client certificate; connect again with one")]
    NoCertificate,
    #[error("the certificate has expired; connect again with a fresh one")]
    Expired,
    #[error("the certificate has been revoked; get another one and connect again")]
    Revoked,
}

impl Caller {
    pub(super) fn new(address: SocketAddr, peer: Option<Peer>) -> Self {
        Self {
            address,
            peer,
            revoked: CancellationToken::new(),
        }
    }

    /// Who it is, as long as its certificate says so.
    pub fn peer(&self, now: SystemTime) -> Result<&Peer, Stranger> {
        let peer = self.peer.as_ref().ok_or(Stranger::NoCertificate)?;
        if self.revoked.is_cancelled() {
            return Err(Stranger::Revoked);
        }
        // The connection goes soon after: until then it is worth nothing.
        if peer.not_after <= now {
            return Err(Stranger::Expired);
        }
        Ok(peer)
    }

    /// Where it called from.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// When its certificate expires, if it has one.
    pub fn not_after(&self) -> Option<SystemTime> {
        self.peer.as_ref().map(|peer| peer.not_after)
    }

    /// Cancelled when its certificate is revoked; the connection ends 2 s later.
    pub fn revoked(&self) -> &CancellationToken {
        &self.revoked
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn somebody_as_long_as_the_certificate_says_so() {
        let address = SocketAddr::from(([127, 0, 0, 1], 1));
        let expiry = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let peer = Peer {
            identity: Identity::Node("a".into()),
            address,
            not_after: expiry,
        };
        let before = expiry - Duration::from_secs(1);
        let nobody = Caller::new(address, None);
        assert_eq!(nobody.peer(before), Err(Stranger::NoCertificate));
        let caller = Caller::new(address, Some(peer.clone()));
        assert_eq!(caller.peer(before), Ok(&peer));
        assert_eq!(caller.peer(expiry), Err(Stranger::Expired));
        caller.revoked().cancel();
        assert_eq!(caller.peer(before), Err(Stranger::Revoked));
    }
}
