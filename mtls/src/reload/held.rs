//! What is given by the program instead of read from a file.

/// Parts of a set, PEM; nothing: as before, or from the file.
#[derive(Clone, Default)]
pub struct Held {
    /// Our certificate with its intermediates, and its private key.
    pub pair: Option<(Vec<u8>, Vec<u8>)>,
    /// The authorities that may have signed the other side's certificate.
    pub authorities: Option<Vec<u8>>,
}

/// A key must not end up in a log.
impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Held").finish_non_exhaustive()
    }
}

impl Held {
    pub(super) fn replace(&mut self, fresh: Self) {
        let Self { pair, authorities } = fresh;
        if pair.is_some() {
            self.pair = pair;
        }
        if authorities.is_some() {
            self.authorities = authorities;
        }
    }

    pub(super) fn has_no_pair(&self) -> bool {
        self.pair.is_none()
    }
}
