//! Clients without a certificate: few at a time, and not for long.

use std::{
    net::SocketAddr,
    sync::{Arc, Mutex, PoisonError},
};

use tokio_util::sync::CancellationToken;

use super::crowd::Crowd;

/// The connections of such clients.
#[derive(Clone, Debug, Default)]
pub(super) struct Anonymous {
    crowd: Arc<Mutex<Crowd<CancellationToken>>>,
}

/// One of them; dropped with its connection.
#[derive(Debug)]
pub(super) struct Seat {
    anonymous: Anonymous,
    number: u64,
}

impl Anonymous {
    /// Takes one more in; `evicted` is cancelled when another needs the place.
    pub(super) fn seat(&self, from: SocketAddr, most: usize, evicted: CancellationToken) -> Seat {
        let mut crowd = self.crowd.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(victim) = crowd.make_room(most) {
            victim.cancel();
        }
        Seat {
            anonymous: self.clone(),
            number: crowd.enter(from, evicted),
        }
    }
}

impl Drop for Seat {
    fn drop(&mut self) {
        let mut crowd = self
            .anonymous
            .crowd
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        crowd.leave(self.number);
    }
}
