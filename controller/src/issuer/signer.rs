//! The authority in use, and the controller's own certificate.

use std::{
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwapOption;
use rcgen::PublicKeyData;
use sluice_mtls::{Held, Identity, Reload, TlsError};
use tracing::info;

use super::authority::{Authority, AuthorityError, Issued, Kept};
use crate::ops::metrics as recorded;

/// Why nothing is signed.
#[derive(Debug, thiserror::Error)]
pub enum SignError {
    #[error("there is no authority yet")]
    None,
    #[error("the authority cannot be used")]
    Authority(#[from] AuthorityError),
    #[error("the controller's own certificate cannot be used")]
    Own(#[source] Arc<TlsError>),
}

/// Signs with the newest authority.
#[derive(Debug)]
pub struct Signer {
    trust_domain: String,
    own: Identity,
    lifetime: Duration,
    current: ArcSwapOption<Authority>,
    reload: Arc<Reload>,
    renew_at: Mutex<SystemTime>,
}

impl Signer {
    /// `reload` is given the controller's own certificate.
    pub fn new(
        trust_domain: String,
        pod_name: String,
        lifetime: Duration,
        reload: Arc<Reload>,
    ) -> Self {
        Self {
            trust_domain,
            own: Identity::Controller(pod_name),
            lifetime,
            current: ArcSwapOption::empty(),
            reload,
            renew_at: Mutex::new(SystemTime::UNIX_EPOCH),
        }
    }

    /// A node's certificate for its own key.
    pub(super) fn node(
        &self,
        node: &Identity,
        key: &impl PublicKeyData,
    ) -> Result<Issued, SignError> {
        let authority = self.current.load_full().ok_or(SignError::None)?;
        let now = SystemTime::now();
        let issued = authority.issue(node, &self.trust_domain, key, self.lifetime, now)?;
        info!(
            node = node.name(),
            serial = issued.serial,
            "issued a certificate"
        );
        Ok(issued)
    }

    pub(super) fn believed(&self) -> Vec<Vec<u8>> {
        let current = self.current.load();
        let believed = current.as_ref().map(|authority| authority.believed());
        believed
            .unwrap_or_default()
            .iter()
            .map(|der| der.to_vec())
            .collect()
    }

    /// Whom to believe, PEM.
    pub(super) fn bundle(&self) -> Option<Vec<u8>> {
        let current = self.current.load();
        current
            .as_ref()
            .map(|authority| authority.bundle().to_vec())
    }

    /// Uses this authority from now on, unless it is the one in use. One that
    /// cannot be used leaves the one before.
    pub fn take(&self, kept: Kept, place: &str) -> Result<(), SignError> {
        let current = self.current.load();
        if current
            .as_ref()
            .is_none_or(|current| *current.kept() != kept)
        {
            let fresh = Authority::new(kept, place, SystemTime::now())?;
            self.current.store(Some(Arc::new(fresh)));
            // Signed by the old one, ours may soon be believed by nobody.
            *self.renew_at() = SystemTime::UNIX_EPOCH;
        }
        self.renew()
    }

    /// Renews our own certificate when it is time.
    pub(super) fn renew(&self) -> Result<(), SignError> {
        let Some(authority) = self.current.load_full() else {
            return Ok(());
        };
        let now = SystemTime::now();
        let left = authority.not_after().duration_since(now);
        recorded::authority(left.unwrap_or_default());
        if now < *self.renew_at() {
            return Ok(());
        }
        let pair = authority.pair(&self.own, &self.trust_domain, self.lifetime, now);
        let (issued, key) = pair?;
        self.reload
            .hold(Held {
                pair: Some((issued.pem.into_bytes(), key.into_bytes())),
                authorities: Some(authority.bundle().to_vec()),
            })
            .map_err(SignError::Own)?;
        let left = issued.not_after.duration_since(now).unwrap_or_default();
        *self.renew_at() = now + left * 2 / 3;
        info!(
            name = self.own.name(),
            serial = issued.serial,
            "made our own certificate"
        );
        Ok(())
    }

    /// How long nothing is to be done, at most so long.
    pub(super) fn pause(&self, most: Duration) -> Duration {
        let left = self.renew_at().duration_since(SystemTime::now());
        // After a failure not at once again.
        left.unwrap_or_default()
            .clamp(Duration::from_millis(500), most)
    }

    fn renew_at(&self) -> MutexGuard<'_, SystemTime> {
        self.renew_at.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
