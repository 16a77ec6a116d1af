//! Versions of objects.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use super::{Namespace, Pod};

/// resourceVersion of an object, as last seen; 0 where the source has none.
///
/// It moves on in place when nothing else about the object is news, so that
/// such a version costs nobody anything: all are equal.
#[derive(Default)]
pub struct Version(AtomicU64);

impl Version {
    /// The newest.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl From<u64> for Version {
    fn from(version: u64) -> Self {
        Self(version.into())
    }
}

impl Clone for Version {
    fn clone(&self) -> Self {
        self.get().into()
    }
}

impl PartialEq for Version {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for Version {}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.get(), f)
    }
}

/// What may be seen again at a newer version, and otherwise no different.
pub trait Versioned {
    /// It was.
    fn seen_at(&self, version: u64);
}

impl Versioned for Arc<Pod> {
    fn seen_at(&self, version: u64) {
        self.version.0.fetch_max(version, Ordering::Relaxed);
    }
}

/// Nothing is written to namespaces.
impl Versioned for Namespace {
    fn seen_at(&self, _: u64) {}
}
