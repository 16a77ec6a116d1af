//! Connections that are open, to end those whose certificate is revoked.

use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use rustls_pki_types::CertificateDer;
use tokio_util::sync::CancellationToken;

use crate::verify::Clients;

type Chain = Vec<CertificateDer<'static>>;

/// Every open connection whose client has a certificate.
#[derive(Clone, Debug, Default)]
pub(crate) struct Connections {
    open: Arc<Mutex<Open>>,
}

#[derive(Debug, Default)]
struct Open {
    chains: HashMap<u64, (Chain, CancellationToken)>,
    opened: u64,
}

/// An open connection; dropped with it.
#[derive(Debug)]
pub(crate) struct Registered {
    connections: Connections,
    number: u64,
}

impl Connections {
    /// Remembers a connection; `revoked` is cancelled when its certificate is.
    pub(crate) fn register(&self, chain: Chain, revoked: CancellationToken) -> Registered {
        let mut open = self.lock();
        let number = open.opened;
        open.opened += 1;
        open.chains.insert(number, (chain, revoked));
        Registered {
            connections: self.clone(),
            number,
        }
    }

    /// Ends what is on a list now, and says how many. A list that came with
    /// other authorities ends nothing else: who got in stays.
    pub(crate) fn cut_revoked(&self, clients: &Clients) -> usize {
        if !clients.has_lists() {
            return 0;
        }
        let open = self.lock();
        let revoked = open
            .chains
            .values()
            .filter(|(chain, cut)| !cut.is_cancelled() && clients.have_revoked(chain));
        revoked.map(|(_, cut)| cut.cancel()).count()
    }

    fn lock(&self) -> MutexGuard<'_, Open> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.connections.lock().chains.remove(&self.number);
    }
}
