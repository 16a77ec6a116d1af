//! A pod's sandbox, as the container runtime told of it.

use std::{collections::BTreeSet, net::IpAddr, path::PathBuf};

use serde::{Deserialize, Serialize};

use crate::desired::{Desired, Intent};

/// Longest container id; runtimes use 64 hexadecimal digits.
const MAX_CONTAINER_ID: usize = 128;

/// How the runtime names a sandbox's interface: container id and `ifname`.
pub type Attached = (String, String);

/// One sandbox. What is in it was checked where it came in.
#[derive(Clone, Debug, Eq, PartialEq, Serialize, Deserialize)]
pub struct Sandbox {
    /// A valid container id: see [`is_container_id`].
    pub container_id: String,
    /// The interface inside the pod.
    pub ifname: String,
    /// Name of the network, for GC. Empty in the notes of the shim and in
    /// entries of agents before this one: those are left to the sweep.
    #[serde(default)]
    pub network: String,
    /// Absolute path of its network namespace.
    pub netns: PathBuf,
    /// The pod's uid as the runtime knows it: of a static pod its config hash.
    /// Empty where the runtime gives none.
    pub pod_uid: String,
    pub namespace: String,
    pub name: String,
    /// The host's side of the interface, where the CNI result names just one.
    pub host_link: Option<String>,
    pub addresses: BTreeSet<IpAddr>,
    /// There is no CNI result: link and addresses are still to be asked of the
    /// kernel.
    #[serde(skip)]
    pub standalone: bool,
}

impl Sandbox {
    /// What is wanted of this sandbox's pod, if the state knows it.
    pub fn intent_in<'a>(&self, desired: &'a Desired) -> Option<&'a Intent> {
        if self.pod_uid.is_empty() {
            desired.by_name(&self.namespace, &self.name)
        } else {
            desired.by_runtime_uid(&self.pod_uid)
        }
    }

    /// Whether this is a sandbox of that pod.
    pub fn is_of(&self, intent: &Intent) -> bool {
        if self.pod_uid.is_empty() {
            intent.namespace == self.namespace && intent.name == self.name
        } else {
            intent.is_called(&self.pod_uid)
        }
    }

    /// `namespace/name`, for people.
    pub fn pod(&self) -> String {
        format!("{}/{}", self.namespace, self.name)
    }
}

/// Whether the text is a container id as CNI defines it: a letter or digit,
/// then letters, digits, `_`, `.` and `-`. Such a text is also a file name.
pub fn is_container_id(text: &str) -> bool {
    let mut characters = text.chars();
    text.len() <= MAX_CONTAINER_ID
        && characters.next().is_some_and(|c| c.is_ascii_alphanumeric())
        && characters.all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-'))
}

#[cfg(test)]
mod tests {
    use super::is_container_id;

    #[test]
    fn a_container_id_is_a_harmless_file_name() {
        assert!(is_container_id("0a1b"));
        assert!(is_container_id("a.b-c_d"));
        for bad in ["", ".", "..", "../x", "a/b", "-a", "a b", "a\0", "é"] {
            assert!(!is_container_id(bad), "{bad:?}");
        }
        assert!(!is_container_id(&"a".repeat(129)));
    }
}
