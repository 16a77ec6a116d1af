//! Certificate, key and authorities from files, read again when they change.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwap;
use rustls::ServerConfig;
use tracing::{info, warn};

use crate::identity::{Identity, IdentityError};

mod material;

pub(crate) use material::{Material, not_after};

/// Where certificate, key and authorities are, all PEM, and whose they are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlsFiles {
    /// Our certificate, then its intermediates.
    pub cert: PathBuf,
    /// The private key of the first certificate.
    pub key: PathBuf,
    /// The authorities that may have signed the other side's certificate.
    pub ca: PathBuf,
    /// The trust domain of both sides.
    pub trust_domain: String,
}

/// Why a set of files cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The file is missing, unreadable or too large to be what it should be.
    #[error("cannot read {what} from {}", path.display())]
    Read {
        what: &'static str,
        path: PathBuf,
        source: io::Error,
    },
    /// Not PEM, or broken within.
    #[error("{} holds no usable {what}", path.display())]
    Pem {
        what: &'static str,
        path: PathBuf,
        source: rustls_pki_types::pem::Error,
    },
    /// PEM, but nothing of the wanted kind in it.
    #[error("{} holds no {what}; a PEM file with at least one is needed", path.display())]
    Empty { what: &'static str, path: PathBuf },
    /// A certificate in the authorities' file that cannot be one.
    #[error("{} holds an authority that cannot be used", path.display())]
    Authority {
        path: PathBuf,
        source: rustls::Error,
    },
    /// The key does not belong to the certificate, or is of an unknown kind.
    #[error(
        "the key in {} does not fit the certificate in {}; both must come from one issue",
        key.display(), cert.display()
    )]
    Pair {
        cert: PathBuf,
        key: PathBuf,
        source: rustls::Error,
    },
    /// Our own certificate does not say who we are.
    #[error("the certificate in {} has no usable identity", path.display())]
    Identity {
        path: PathBuf,
        source: IdentityError,
    },
    /// A new certificate that nobody would accept any more.
    #[error("the certificate in {} has expired already", path.display())]
    Expired { path: PathBuf },
    /// The authorities cannot be made into a verifier.
    #[error("the authorities cannot be used to check client certificates")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
    /// rustls refuses the combination.
    #[error("TLS 1.3 cannot be configured")]
    Config(#[source] rustls::Error),
}

/// The newest usable set of certificate, key and authorities.
///
/// A new connection takes what is newest at that moment; an open one keeps what
/// it was made with.
#[derive(Debug)]
pub struct Reload {
    files: TlsFiles,
    current: ArcSwap<Material>,
    last_error: Mutex<Option<Arc<TlsError>>>,
}

impl Reload {
    /// Loads the files now, and again whenever their contents differ, looked at
    /// every `poll`. A set that cannot be used is reported and the one before
    /// it stays. Looking ends when the last handle is dropped. Needs a tokio
    /// runtime.
    ///
    /// Contents are compared, not times: Kubernetes swaps a link to a folder.
    pub fn start(files: TlsFiles, poll: Duration) -> Result<Arc<Self>, TlsError> {
        let material = Material::load(&files)?;
        if material.not_after <= SystemTime::now() {
            warn!(path = %files.cert.display(), "the certificate has expired; nobody will accept it");
        }
        let reload = Arc::new(Self {
            files,
            current: ArcSwap::from_pointee(material),
            last_error: Mutex::new(None),
        });
        tokio::spawn(keep_looking(Arc::downgrade(&reload), poll));
        Ok(reload)
    }

    /// Looks at the files now. True if a new set was taken.
    pub fn look(&self) -> Result<bool, Arc<TlsError>> {
        let looked = self.replace().map_err(Arc::new);
        let error = looked.as_ref().err().cloned();
        let mut last = self
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        report(&self.files.cert, last.as_deref(), error.as_deref());
        *last = error;
        looked
    }

    /// Why the files as they are now are not in use, if so.
    pub fn last_error(&self) -> Option<Arc<TlsError>> {
        self.last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// When the certificate in use expires.
    pub fn not_after(&self) -> SystemTime {
        self.current.load().not_after
    }

    /// Who the certificate in use says we are.
    pub fn identity(&self) -> Identity {
        self.current.load().identity.clone()
    }

    /// The trust domain of both sides.
    pub fn trust_domain(&self) -> &str {
        &self.files.trust_domain
    }

    /// For a server that accepts a connection now.
    pub fn server_config(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.current.load().server)
    }

    pub(crate) fn material(&self) -> Arc<Material> {
        self.current.load_full()
    }

    fn replace(&self) -> Result<bool, TlsError> {
        let read = material::read(&self.files)?;
        if read == self.current.load().contents {
            return Ok(false);
        }
        let fresh = Material::new(&self.files, read)?;
        if fresh.not_after <= SystemTime::now() {
            return Err(TlsError::Expired {
                path: self.files.cert.clone(),
            });
        }
        self.current.store(Arc::new(fresh));
        Ok(true)
    }
}

async fn keep_looking(reload: Weak<Reload>, poll: Duration) {
    let mut ticks = tokio::time::interval(poll.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks.tick().await;
    loop {
        ticks.tick().await;
        let Some(reload) = reload.upgrade() else {
            return;
        };
        // Three small files: not worth a thread, but not on a worker either,
        // should they be on a file system that hangs.
        let looked = tokio::task::spawn_blocking(move || {
            if let Ok(true) = reload.look() {
                info!(
                    path = %reload.files.cert.display(),
                    identity = %reload.identity(),
                    "a new certificate is in use"
                );
            }
        });
        if looked.await.is_err() {
            return;
        }
    }
}

/// Says it once when it starts, changes or ends, not at every look.
fn report(path: &Path, before: Option<&TlsError>, now: Option<&TlsError>) {
    match (before, now) {
        (before, Some(error)) if before.map(ToString::to_string) != Some(error.to_string()) => {
            warn!(
                error = error as &dyn std::error::Error,
                "the new certificate set cannot be used; the old one stays in use"
            );
        }
        (Some(_), None) => info!(path = %path.display(), "the certificate set can be used again"),
        _ => {}
    }
}

#[cfg(test)]
mod tests;
