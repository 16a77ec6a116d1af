//! The agent's own words as generated messages: what [`super::decode`] undoes,
//! and the truth about pods.

use sluice_kernel::model::PodUid;
use sluice_proto::capture::v1 as proto;

use crate::{
    desired::{Desired, Intent, Revision, Wanted},
    status::{Leaving, NodeStatus, PodState, PodStatus, Reason},
};

/// The message that decodes to this revision.
pub fn revision(held: &Revision) -> proto::SourceRevision {
    proto::SourceRevision {
        source: held.source.clone(),
        pods: held.pods,
        namespaces: held.namespaces,
    }
}

/// The message that decodes to this held.
pub fn intent(held: &Intent) -> proto::PodIntent {
    proto::PodIntent {
        uid: held.uid.as_str().into(),
        namespace: held.namespace.clone(),
        name: held.name.clone(),
        wanted: wanted(held.wanted).into(),
        intent_hash: held.hash.clone(),
        addresses: held.addresses.iter().map(ToString::to_string).collect(),
        static_uid: held.static_uid.clone().unwrap_or_default(),
        host_ports: held.host_ports.iter().copied().map(u32::from).collect(),
        host_network: held.host_network,
        message: held.message.clone(),
    }
}

/// The message's word for what is wanted.
pub fn wanted(wanted: Wanted) -> proto::Wanted {
    match wanted {
        Wanted::Nothing => proto::Wanted::Nothing,
        Wanted::Captured => proto::Wanted::Captured,
        Wanted::Releasing => proto::Wanted::Releasing,
        Wanted::Proxy => proto::Wanted::Proxy,
        Wanted::Unsupported => proto::Wanted::Unsupported,
    }
}

/// A snapshot of one part that decodes to this state.
pub fn snapshot(desired: &Desired) -> proto::SnapshotPart {
    let count = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    proto::SnapshotPart {
        pods: desired.pods.values().map(intent).collect(),
        namespaces: desired
            .namespaces
            .iter()
            .map(|(name, enrolled)| proto::NamespaceIntent {
                name: name.clone(),
                enrolled: *enrolled,
            })
            .collect(),
        end: Some(proto::SnapshotEnd {
            total_pods: count(desired.pods.len()),
            total_namespaces: count(desired.namespaces.len()),
        }),
    }
}

/// The answer for one pod.
pub fn pod_status(uid: &PodUid, status: &PodStatus) -> proto::PodStatus {
    proto::PodStatus {
        uid: uid.as_str().into(),
        intent_hash: status.hash.clone(),
        state: pod_state(status.state).into(),
        reason: reason(status.reason).into(),
        message: status.message.clone(),
        steered: status.steered,
    }
}

/// The node's own condition.
pub fn condition(status: &NodeStatus) -> proto::NodeCondition {
    proto::NodeCondition {
        capture_ready: status.capture_ready,
        message: status.message.clone(),
        left: status.leaving == Leaving::Left,
    }
}

/// The message's word for a pod's state.
pub fn pod_state(state: PodState) -> proto::PodState {
    match state {
        PodState::Captured => proto::PodState::Captured,
        PodState::Pending => proto::PodState::Pending,
        PodState::Failed => proto::PodState::Failed,
        PodState::Unsupported => proto::PodState::Unsupported,
        PodState::Released => proto::PodState::Released,
    }
}

fn reason(reason: Option<Reason>) -> proto::Reason {
    match reason {
        None => proto::Reason::Unspecified,
        Some(Reason::NoSandbox) => proto::Reason::NoSandbox,
        Some(Reason::NoProxy) => proto::Reason::NoProxy,
        Some(Reason::ProxyNotListening) => proto::Reason::ProxyNotListening,
        Some(Reason::ProxyGone) => proto::Reason::ProxyGone,
        Some(Reason::NoInterface) => proto::Reason::NoInterface,
        Some(Reason::AddressTaken) => proto::Reason::AddressTaken,
        Some(Reason::Preflight) => proto::Reason::Preflight,
        Some(Reason::Kernel) => proto::Reason::Kernel,
        Some(Reason::UnsupportedAnnotation) => proto::Reason::UnsupportedAnnotation,
        Some(Reason::Releasing) => proto::Reason::Releasing,
    }
}
