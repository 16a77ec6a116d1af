//! Plain values: pods and namespaces as the source tells of them, and what is
//! wanted of a pod.

mod intent;
mod intern;
mod version;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    sync::Arc,
};

pub use intent::{Intent, IntentHash, Wanted};
pub use intern::Interner;
pub use version::{Version, Versioned};

/// metadata.uid of a pod.
pub type Uid = Arc<str>;
/// Name of a node or a namespace, shared by everything that mentions it.
pub type Name = Arc<str>;

/// A pod, trimmed to what a decision about it needs.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Pod {
    pub uid: Uid,
    pub namespace: Name,
    pub name: Arc<str>,
    /// Absent until it is scheduled: then no agent is told of it.
    pub node: Option<Name>,
    pub service_account: Name,
    /// Labels and annotations for which [`Relevant`] says yes.
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    pub annotations: BTreeMap<Arc<str>, Arc<str>>,
    pub host_network: bool,
    /// Its phase is Succeeded or Failed: it has no sandbox any more.
    pub completed: bool,
    pub addresses: BTreeSet<IpAddr>,
    /// TCP host ports.
    pub host_ports: BTreeSet<u16>,
    /// Config hash of a static pod, which the runtime knows as its uid.
    pub static_uid: Option<Uid>,
    /// Of the object, newest seen. Nothing is decided by it: it keeps a write
    /// from going over somebody else's.
    pub version: Version,
}

/// A namespace, trimmed likewise.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Namespace {
    pub name: Name,
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
}

const LONGEST_VALUE: usize = 63;

/// Which labels and annotations a source keeps; the rest would only cost
/// memory.
#[derive(Clone, Debug, Default)]
pub struct Relevant {
    labels: BTreeSet<String>,
}

impl Relevant {
    /// The labels and annotations of Istio and ours, and these other labels.
    pub fn new(labels: impl IntoIterator<Item = String>) -> Self {
        Self {
            labels: labels.into_iter().collect(),
        }
    }

    /// True for a label to keep.
    pub fn label(&self, key: &str) -> bool {
        key == crate::select::DATAPLANE_MODE || self.labels.contains(key)
    }

    /// True for an annotation to keep.
    pub fn annotation(&self, key: &str) -> bool {
        crate::select::is_relevant_annotation(key)
    }

    /// As much of a value as matters. No long value is a word that means
    /// something; all there is to know is that it is not empty.
    pub fn value(value: &str) -> &str {
        if value.len() > LONGEST_VALUE {
            "(long)"
        } else {
            value
        }
    }
}

/// What a state was computed from. Two are comparable only when `source` is
/// the same.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Revision {
    pub source: Arc<str>,
    pub pods: u64,
    pub namespaces: u64,
}

impl Revision {
    /// True when `other` is of the same source and has seen something that
    /// this one has not.
    pub fn is_behind(&self, other: &Self) -> bool {
        self.source == other.source
            && (self.pods < other.pods || self.namespaces < other.namespaces)
    }

    /// This one, but nowhere older than one of the same source.
    #[must_use]
    pub fn not_before(mut self, other: &Self) -> Self {
        if self.source == other.source {
            self.pods = self.pods.max(other.pods);
            self.namespaces = self.namespaces.max(other.namespaces);
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::Revision;

    fn revision(source: &str, pods: u64, namespaces: u64) -> Revision {
        Revision {
            source: source.into(),
            pods,
            namespaces,
        }
    }

    #[test]
    fn only_revisions_of_one_source_compare() {
        let table = [
            (revision("a", 1, 1), revision("a", 1, 1), false),
            (revision("a", 1, 1), revision("a", 2, 1), true),
            (revision("a", 1, 1), revision("a", 1, 2), true),
            (revision("a", 2, 1), revision("a", 1, 2), true),
            (revision("a", 2, 2), revision("a", 1, 2), false),
            (revision("a", 1, 1), revision("b", 9, 9), false),
        ];
        for (ours, theirs, behind) in table {
            assert_eq!(ours.is_behind(&theirs), behind, "{ours:?} {theirs:?}");
            assert!(!ours.clone().not_before(&theirs).is_behind(&theirs));
            assert!(!ours.clone().not_before(&theirs).is_behind(&ours));
        }
        let other = revision("a", 1, 1).not_before(&revision("b", 9, 9));
        assert_eq!(other, revision("a", 1, 1));
    }
}
