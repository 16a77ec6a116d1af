//! What is wanted of one pod.

use std::{fmt, sync::Arc};

use aws_lc_rs::digest::{Context, SHA256};

use super::Pod;

/// What is wanted of a pod.
#[derive(Clone, Copy, Debug, Eq, Hash, Ord, PartialEq, PartialOrd)]
pub enum Wanted {
    /// Known, and not enrolled.
    Nothing,
    Captured,
    /// Still captured, about to leave. Only ever made for a stream, by its
    /// outbox; the index does not know it.
    Releasing,
    /// It is its node's proxy.
    Proxy,
    /// Enrolled, and asking for what is not supported.
    Unsupported,
}

impl Wanted {
    pub const ALL: [Self; 5] = [
        Self::Nothing,
        Self::Captured,
        Self::Releasing,
        Self::Proxy,
        Self::Unsupported,
    ];

    /// Enrolled: its owner wants it in the mesh.
    pub fn is_enrolled(self) -> bool {
        matches!(self, Self::Captured | Self::Releasing | Self::Unsupported)
    }

    /// Its traffic is to be steered.
    pub fn is_steered(self) -> bool {
        matches!(self, Self::Captured | Self::Releasing)
    }

    /// Lower-case word, as in metrics.
    pub fn word(self) -> &'static str {
        match self {
            Self::Nothing => "nothing",
            Self::Captured => "captured",
            Self::Releasing => "releasing",
            Self::Proxy => "proxy",
            Self::Unsupported => "unsupported",
        }
    }
}

/// Opaque and stable: the same intent has the same hash on every replica.
#[derive(Clone, Copy, Debug, Eq, Hash, PartialEq)]
pub struct IntentHash([u8; 8]);

impl fmt::Display for IntentHash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", u64::from_be_bytes(self.0))
    }
}

/// What is wanted of one pod, and of which pod.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Intent {
    pub pod: Arc<Pod>,
    pub wanted: Wanted,
    pub hash: IntentHash,
    /// Why it is unsupported, for people.
    pub message: Option<Box<str>>,
}

impl Intent {
    pub fn new(pod: Arc<Pod>, wanted: Wanted, message: Option<Box<str>>) -> Self {
        let hash = hash(&pod, wanted, message.as_deref().unwrap_or(""));
        Self {
            pod,
            wanted,
            hash,
            message,
        }
    }

    /// The same pod, with something else wanted of it.
    pub fn with_wanted(&self, wanted: Wanted) -> Self {
        Self::new(Arc::clone(&self.pod), wanted, None)
    }

    /// True when an agent could not tell the two apart.
    pub fn says_the_same(&self, other: &Self) -> bool {
        self.hash == other.hash
    }
}

// Every field that an agent is told, each with its length before it, so that
// no two intents can run into the same bytes.
fn hash(pod: &Pod, wanted: Wanted, message: &str) -> IntentHash {
    let mut context = Context::new(&SHA256);
    let mut field = |bytes: &[u8]| {
        context.update(&(bytes.len() as u64).to_be_bytes());
        context.update(bytes);
    };
    field(b"sluice intent 1");
    field(pod.uid.as_bytes());
    field(pod.namespace.as_bytes());
    field(pod.name.as_bytes());
    field(wanted.word().as_bytes());
    field(pod.static_uid.as_deref().unwrap_or("").as_bytes());
    field(&[u8::from(pod.host_network)]);
    field(message.as_bytes());
    field(&(pod.addresses.len() as u64).to_be_bytes());
    for address in &pod.addresses {
        field(address.to_string().as_bytes());
    }
    for port in &pod.host_ports {
        field(&port.to_be_bytes());
    }
    let digest = context.finish();
    let mut short = [0; 8];
    short.copy_from_slice(&digest.as_ref()[..8]);
    IntentHash(short)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::{Intent, Wanted};
    use crate::model::Pod;

    fn pod() -> Pod {
        Pod {
            uid: "1".into(),
            namespace: "shop".into(),
            name: "web".into(),
            node: Some("a".into()),
            service_account: "default".into(),
            labels: [].into(),
            annotations: [].into(),
            host_network: false,
            completed: false,
            addresses: ["10.0.0.1".parse().unwrap()].into(),
            host_ports: [80].into(),
            static_uid: None,
            version: 0.into(),
        }
    }

    fn hash(pod: Pod, wanted: Wanted) -> String {
        Intent::new(Arc::new(pod), wanted, None).hash.to_string()
    }

    #[test]
    fn hash_is_stable() {
        // Replicas of different versions compare hashes: this one must not
        // change by accident.
        insta::assert_snapshot!(hash(pod(), Wanted::Captured), @"2c141f935cc11130");
    }

    #[test]
    fn everything_told_to_the_agent_changes_the_hash() {
        let base = hash(pod(), Wanted::Captured);
        let mut others = vec![hash(pod(), Wanted::Releasing)];
        let changes: [fn(&mut Pod); 6] = [
            |pod| pod.uid = "2".into(),
            |pod| pod.name = "w".into(),
            |pod| pod.static_uid = Some("x".into()),
            |pod| pod.host_network = true,
            |pod| pod.addresses.clear(),
            |pod| pod.host_ports.clear(),
        ];
        for change in changes {
            let mut changed = pod();
            change(&mut changed);
            others.push(hash(changed, Wanted::Captured));
        }
        others.push(base);
        let count = others.len();
        others.sort();
        others.dedup();
        assert_eq!(others.len(), count);
    }

    #[test]
    fn what_the_agent_is_not_told_does_not() {
        let mut labelled = pod();
        labelled.labels.insert("app".into(), "web".into());
        labelled.service_account = "web".into();
        assert_eq!(
            hash(labelled, Wanted::Captured),
            hash(pod(), Wanted::Captured)
        );
    }
}
