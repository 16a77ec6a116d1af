//! The truth about the node, as it was last read from the kernel.

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::SystemTime,
};

use sluice_kernel::model::{NetnsId, PodUid, Refusal};

use crate::desired::{Origin, Revision, Wanted};

/// The node as a whole. Replaced whenever anything in it changes.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct NodeStatus {
    /// Every pod the agent knows of, and every pod that rules of ours hold.
    pub pods: BTreeMap<PodUid, PodStatus>,
    pub proxy: ProxyStatus,
    /// What forbids capture on this node. Empty: nothing found.
    pub findings: Vec<Refusal>,
    /// The kernel cannot be made what is wanted; `message` says why.
    pub stuck: bool,
    /// A proxy listens in its namespace and nothing forbids capture.
    pub capture_ready: bool,
    /// Why not ready, or what degrades it, for people; empty when all is well.
    pub message: String,
    /// When the kernel was last looked at as a whole, and how long that took.
    pub audited_at: Option<SystemTime>,
    pub audit_micros: u64,
    /// Repairs of other people's tampering since start.
    pub repairs: u64,
    /// The desired state that this speaks of. None: no state yet, nothing is
    /// written to the kernel.
    pub origin: Option<Origin>,
    pub revision: Option<Revision>,
    /// Files of ours on the node.
    pub files: NodeFiles,
    pub leaving: Leaving,
}

/// Whether the node leaves the mesh for good.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub enum Leaving {
    /// It stays.
    #[default]
    No,
    /// Told to leave; pods are still wanted, or something is still there.
    Releasing,
    /// Nothing of ours is in the kernel any more; the files can go.
    Cleared,
    /// Nothing of ours is on the node any more.
    Left,
}

/// Files that the agent keeps on the node for others, as their keepers last saw
/// them; None: not asked for.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct NodeFiles {
    /// The CNI configuration and the shim.
    pub cni: Option<FileState>,
    /// `config.json` of early ambient.
    pub ambient: Option<FileState>,
}

/// One of them.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct FileState {
    pub path: String,
    /// Something of ours is there.
    pub present: bool,
    /// It is what it should be, and takes effect.
    pub current: bool,
    /// Why not, or what is odd, for people.
    pub message: String,
    /// What says that it belongs there, for people.
    pub source: String,
}

/// One pod.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct PodStatus {
    pub namespace: String,
    pub name: String,
    pub wanted: Wanted,
    /// Hash of the intent this speaks of.
    pub hash: String,
    pub state: PodState,
    pub reason: Option<Reason>,
    /// What was tried, on what, why it failed, what to do. For people.
    pub message: String,
    /// True while rules of ours hold the pod's TCP, whatever the state.
    pub steered: bool,
    pub addresses: BTreeSet<IpAddr>,
    /// Host-side interface, when known.
    pub interface: Option<String>,
    /// Path of the pod's network namespace, when known.
    pub netns: Option<String>,
}

/// What is true of a pod.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum PodState {
    /// Steered, read back from the kernel, and the proxy listens.
    Captured,
    /// Not captured yet; the reason says what is waited for.
    Pending,
    /// Tried, and failed.
    Failed,
    /// This pod, on this node, cannot be captured as asked.
    Unsupported,
    /// Nothing of ours holds the pod.
    Released,
}

/// Why a pod is not, or not simply, captured.
#[derive(Clone, Copy, Debug, Eq, Ord, PartialEq, PartialOrd)]
pub enum Reason {
    NoSandbox,
    NoProxy,
    ProxyNotListening,
    ProxyGone,
    NoInterface,
    AddressTaken,
    Preflight,
    Kernel,
    UnsupportedAnnotation,
    Releasing,
}

/// The proxy that traffic is handed to.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct ProxyStatus {
    /// None when the namespace comes from the configuration, or no proxy is known.
    pub pod_uid: Option<PodUid>,
    /// None when no proxy is known.
    pub netns: Option<NetnsId>,
    /// Needed ports that were found listening, and those that were not.
    pub listening: BTreeSet<u16>,
    pub missing: BTreeSet<u16>,
    /// Its namespace lives and every needed port is listened on.
    pub ready: bool,
    /// Why not, for people.
    pub message: String,
}

/// Something that happened.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Event {
    pub at: SystemTime,
    pub kind: EventKind,
    /// The pod it is about, if it is about one.
    pub pod: Option<PodUid>,
    pub message: String,
}

/// What an event is about.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum EventKind {
    PodState,
    /// Somebody's tampering was mended.
    Repair,
    Proxy,
    Controller,
    Finding,
    /// A sandbox that nobody deleted, or notes of the shim that were lost.
    Sandbox,
}

impl PodState {
    /// Metric label.
    pub fn label(self) -> &'static str {
        match self {
            Self::Captured => "captured",
            Self::Pending => "pending",
            Self::Failed => "failed",
            Self::Unsupported => "unsupported",
            Self::Released => "released",
        }
    }

    /// Every state, for counting.
    pub const ALL: [Self; 5] = [
        Self::Captured,
        Self::Pending,
        Self::Failed,
        Self::Unsupported,
        Self::Released,
    ];
}
