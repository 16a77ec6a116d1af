//! Certificate, key and authorities from files, read again when they change.

use std::{
    io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError, Weak},
    time::{Duration, SystemTime},
};

use arc_swap::ArcSwapOption;
use tokio::sync::watch;
use tracing::{info, warn};

use crate::{
    identity::{Identity, IdentityError},
    revoke::Connections,
};

mod held;
mod material;

pub use held::Held;
pub(crate) use material::{Material, anonymous_client, not_after};

/// Where certificate, key and authorities are, all PEM, and whose they are.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct TlsFiles {
    /// Our certificate, then its intermediates.
    pub cert: PathBuf,
    /// The private key of the first certificate.
    pub key: PathBuf,
    /// The authorities that may have signed the other side's certificate.
    pub ca: PathBuf,
    /// Revocation lists of those authorities, if there are any.
    pub crl: Option<PathBuf>,
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
    #[error("the authorities and revocation lists cannot be used to check client certificates")]
    Verifier(#[source] rustls::server::VerifierBuilderError),
    /// rustls refuses the combination.
    #[error("TLS 1.3 cannot be configured")]
    Config(#[source] rustls::Error),
}

/// The newest usable set of certificate, key and authorities.
///
/// A new connection takes what is newest at that moment; an open one keeps what
/// it was made with, until a revocation list names its certificate.
#[derive(Debug)]
pub struct Reload {
    files: TlsFiles,
    /// What does not come from the files; nothing when all of it does.
    held: Option<Mutex<Held>>,
    current: ArcSwapOption<Material>,
    last_error: Mutex<Option<Arc<TlsError>>>,
    expiry: watch::Sender<Option<SystemTime>>,
    connections: Connections,
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
        let reload = Self::new(files, None);
        reload.take(material);
        tokio::spawn(keep_looking(Arc::downgrade(&reload), poll));
        Ok(reload)
    }

    /// For a certificate that is issued while the program runs: nothing is in
    /// use until [`Reload::hold`] has given it. Of `files`, those that are not
    /// held are read again as by [`Reload::start`]; the others only name things
    /// in errors. Needs a tokio runtime.
    pub fn start_held(files: TlsFiles, poll: Duration) -> Arc<Self> {
        let reload = Self::new(files, Some(Mutex::new(Held::default())));
        tokio::spawn(keep_looking(Arc::downgrade(&reload), poll));
        reload
    }

    fn new(files: TlsFiles, held: Option<Mutex<Held>>) -> Arc<Self> {
        Arc::new(Self {
            files,
            held,
            current: ArcSwapOption::empty(),
            last_error: Mutex::new(None),
            expiry: watch::Sender::new(None),
            connections: Connections::default(),
        })
    }

    /// Uses this from now on, if it can be used. Parts that are not given stay
    /// as they were. True if a new set was taken.
    pub fn hold(&self, fresh: Held) -> Result<bool, Arc<TlsError>> {
        if let Some(held) = &self.held {
            let mut held = held.lock().unwrap_or_else(PoisonError::into_inner);
            held.replace(fresh);
        }
        self.look()
    }

    /// Looks at the files now. True if a new set was taken.
    pub fn look(&self) -> Result<bool, Arc<TlsError>> {
        // One at a time: an older reading must not replace a newer one.
        let mut last = self
            .last_error
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let looked = self.replace().map_err(Arc::new);
        let error = looked.as_ref().err().cloned();
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

    /// When the certificate in use expires; nothing while there is none.
    pub fn not_after(&self) -> Option<SystemTime> {
        self.current.load().as_ref().map(|now| now.not_after)
    }

    /// The same, to wait for changes.
    pub fn expiry(&self) -> watch::Receiver<Option<SystemTime>> {
        self.expiry.subscribe()
    }

    /// Who the certificate in use says we are.
    pub fn identity(&self) -> Option<Identity> {
        self.current.load().as_ref().map(|now| now.identity.clone())
    }

    /// Whether the authorities in use vouch for the certificate in use: if
    /// not, nobody who believes the same ones will.
    pub fn is_vouched_for(&self) -> bool {
        self.current.load().as_ref().is_some_and(|now| now.vouched)
    }

    /// The trust domain of both sides.
    pub fn trust_domain(&self) -> &str {
        &self.files.trust_domain
    }

    pub(crate) fn material(&self) -> Option<Arc<Material>> {
        self.current.load_full()
    }

    pub(crate) fn connections(&self) -> &Connections {
        &self.connections
    }

    fn replace(&self) -> Result<bool, TlsError> {
        let held = self.held.as_ref().map(|held| {
            let held = held.lock().unwrap_or_else(PoisonError::into_inner);
            held.clone()
        });
        if held.as_ref().is_some_and(Held::has_no_pair) {
            return Ok(false);
        }
        let read = material::read(&self.files, held.unwrap_or_default())?;
        if self.current.load().as_ref().map(|now| &now.contents) == Some(&read) {
            return Ok(false);
        }
        let fresh = Material::new(&self.files, read)?;
        if fresh.not_after <= SystemTime::now() {
            return Err(TlsError::Expired {
                path: self.files.cert.clone(),
            });
        }
        self.take(fresh);
        Ok(true)
    }

    fn take(&self, fresh: Material) {
        let not_after = fresh.not_after;
        let clients = Arc::clone(&fresh.clients);
        self.current.store(Some(Arc::new(fresh)));
        self.expiry.send_replace(Some(not_after));
        let cut = self.connections.cut_revoked(&clients);
        if cut > 0 {
            info!(cut, "connections of revoked certificates end");
        }
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
        // A few small files: not worth a thread, but not on a worker either,
        // should they be on a file system that hangs.
        let looked = tokio::task::spawn_blocking(move || {
            if let Ok(true) = reload.look() {
                info!(
                    path = %reload.files.cert.display(),
                    identity = reload.identity().map(tracing::field::display),
                    "a new certificate set is in use"
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
