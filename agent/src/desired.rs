//! What the controller wants of this node's pods, in the agent's own words.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use serde::{Deserialize, Serialize};
use sluice_kernel::model::PodUid;

/// Everything that is wanted of the node, always as a whole.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Desired {
    pub origin: Origin,
    /// What it was computed from; absent when the source did not say.
    pub revision: Option<Revision>,
    pub pods: BTreeMap<PodUid, Intent>,
    /// Namespaces of interest, and whether their pods are (or by label would
    /// be) enrolled.
    pub namespaces: BTreeMap<String, bool>,
    /// Everything of ours is to go from the node once no pod is wanted any more.
    pub leave: bool,
}

/// Where a desired state came from.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Origin {
    /// The last good state on disk; the controller has not spoken yet.
    Disk,
    Controller,
}

/// The source revisions that a state was computed from. Comparable only when
/// the sources are the same.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Revision {
    pub source: String,
    pub pods: u64,
    pub namespaces: u64,
}

/// What is wanted of one pod.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Intent {
    #[serde(with = "uid_text")]
    pub uid: PodUid,
    pub namespace: String,
    pub name: String,
    pub wanted: Wanted,
    /// Opaque; the status speaks of the intent that has this hash.
    pub hash: String,
    /// `status.podIPs`; empty until the pod has a sandbox.
    pub addresses: BTreeSet<IpAddr>,
    /// For a static pod its config hash, which the runtime knows as its uid.
    pub static_uid: Option<String>,
    /// TCP host ports of the pod.
    pub host_ports: BTreeSet<u16>,
    pub host_network: bool,
    /// Why it is unsupported, for people; otherwise empty.
    pub message: String,
}

#[cfg(test)]
impl Intent {
    /// An intent with nothing in it but what it is for.
    pub(crate) fn bare(uid: PodUid, wanted: Wanted) -> Self {
        Self {
            uid,
            namespace: String::new(),
            name: String::new(),
            wanted,
            hash: String::new(),
            addresses: BTreeSet::new(),
            static_uid: None,
            host_ports: BTreeSet::new(),
            host_network: false,
            message: String::new(),
        }
    }
}

/// What the controller wants to be done with a pod.
#[derive(Clone, Copy, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub enum Wanted {
    /// Known and not enrolled.
    Nothing,
    Captured,
    /// Still captured, and about to leave.
    Releasing,
    /// It is the node's proxy: never captured.
    Proxy,
    /// Enrolled, and asking for something that does not exist yet.
    Unsupported,
}

impl Desired {
    /// The intent of the pod that the container runtime calls `uid`: its
    /// metadata.uid, or the config hash of a static pod.
    pub fn by_runtime_uid(&self, uid: &str) -> Option<&Intent> {
        PodUid::new(uid)
            .and_then(|uid| self.pods.get(&uid))
            .or_else(|| self.pods.values().find(|intent| intent.is_called(uid)))
    }

    /// The intent of the pod of this namespace and name, if there is exactly
    /// one: a name can be reused while the pod that had it is still leaving.
    pub fn by_name(&self, namespace: &str, name: &str) -> Option<&Intent> {
        let mut found = self
            .pods
            .values()
            .filter(|intent| intent.namespace == namespace && intent.name == name);
        let first = found.next();
        if found.next().is_some() { None } else { first }
    }
}

impl Intent {
    /// Whether the container runtime's `uid` means this pod.
    pub fn is_called(&self, uid: &str) -> bool {
        !uid.is_empty() && (self.uid.as_str() == uid || self.static_uid.as_deref() == Some(uid))
    }

    /// `namespace/name`, for people.
    pub fn full_name(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// A uid as a plain string in files.
mod uid_text {
    use serde::{Deserialize, Deserializer, Serializer, de::Error};
    use sluice_kernel::model::PodUid;

    pub(super) fn serialize<S: Serializer>(uid: &PodUid, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(uid.as_str())
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(from: D) -> Result<PodUid, D::Error> {
        PodUid::new(String::deserialize(from)?).ok_or_else(|| D::Error::custom("empty uid"))
    }
}
