//! Between our values and the protocol's messages.

use std::{collections::VecDeque, sync::Arc, time::SystemTime};

use sluice_proto::capture::v1::{
    Delta as DeltaMessage, NamespaceIntent, PodIntent, RejectionReason, SnapshotEnd, SnapshotPart,
    SourceRevision, Wanted as WantedWord, stream_capture_state_response::Batch,
};

use super::outbox::{Delta, Snapshot};
use crate::model::{Intent, Name, Revision, Wanted};

/// Pods, and namespaces, in one message. Together with the limits on a pod's
/// fields this keeps every message under what an agent accepts.
pub(super) const PART: usize = 1000;

pub(super) fn wanted(wanted: Wanted) -> WantedWord {
    match wanted {
        Wanted::Nothing => WantedWord::Nothing,
        Wanted::Captured => WantedWord::Captured,
        Wanted::Releasing => WantedWord::Releasing,
        Wanted::Proxy => WantedWord::Proxy,
        Wanted::Unsupported => WantedWord::Unsupported,
    }
}

pub(super) fn pod(intent: &Intent) -> PodIntent {
    let pod = &intent.pod;
    PodIntent {
        uid: pod.uid.to_string(),
        namespace: pod.namespace.to_string(),
        name: pod.name.to_string(),
        wanted: wanted(intent.wanted).into(),
        intent_hash: intent.hash.to_string(),
        addresses: pod.addresses.iter().map(ToString::to_string).collect(),
        static_uid: pod.static_uid.as_deref().unwrap_or_default().to_owned(),
        host_ports: pod.host_ports.iter().copied().map(u32::from).collect(),
        host_network: pod.host_network,
        message: intent.message.as_deref().unwrap_or_default().to_owned(),
    }
}

fn pods(intents: &[Arc<Intent>]) -> Vec<PodIntent> {
    intents.iter().map(|intent| pod(intent)).collect()
}

fn namespaces(namespaces: &[(Name, bool)]) -> Vec<NamespaceIntent> {
    let message = |(name, enrolled): &(Name, bool)| NamespaceIntent {
        name: name.to_string(),
        enrolled: *enrolled,
    };
    namespaces.iter().map(message).collect()
}

pub(super) fn revision(revision: &Revision) -> SourceRevision {
    SourceRevision {
        source: revision.source.to_string(),
        pods: revision.pods,
        namespaces: revision.namespaces,
    }
}

pub(super) fn to_revision(revision: &SourceRevision) -> Revision {
    Revision {
        source: revision.source.as_str().into(),
        pods: revision.pods,
        namespaces: revision.namespaces,
    }
}

/// A snapshot's parts; there is always at least one.
pub(super) fn snapshot(snapshot: &Snapshot) -> VecDeque<SnapshotPart> {
    let mut pod_parts = snapshot.pods.chunks(PART);
    let mut namespace_parts = snapshot.namespaces.chunks(PART);
    let mut parts = VecDeque::new();
    loop {
        let (some_pods, some_namespaces) = (pod_parts.next(), namespace_parts.next());
        if some_pods.is_none() && some_namespaces.is_none() {
            break;
        }
        parts.push_back(SnapshotPart {
            pods: pods(some_pods.unwrap_or_default()),
            namespaces: namespaces(some_namespaces.unwrap_or_default()),
            end: None,
        });
    }
    if parts.is_empty() {
        parts.push_back(SnapshotPart::default());
    }
    let total = |count: usize| u32::try_from(count).unwrap_or(u32::MAX);
    if let Some(last) = parts.back_mut() {
        last.end = Some(SnapshotEnd {
            total_pods: total(snapshot.pods.len()),
            total_namespaces: total(snapshot.namespaces.len()),
        });
    }
    parts
}

pub(super) fn delta(delta: &Delta) -> Batch {
    let text = |names: &[Arc<str>]| names.iter().map(ToString::to_string).collect();
    Batch::Delta(DeltaMessage {
        pods: pods(&delta.pods),
        removed_pod_uids: text(&delta.removed_pods),
        namespaces: namespaces(&delta.namespaces),
        removed_namespaces: text(&delta.removed_namespaces),
    })
}

/// Lower-case word of a rejection's reason, as in metrics.
pub(super) fn rejection(reason: RejectionReason) -> &'static str {
    match reason {
        RejectionReason::Unspecified => "unspecified",
        RejectionReason::Invalid => "invalid",
        RejectionReason::Older => "older",
        RejectionReason::Incomplete => "incomplete",
        RejectionReason::Storage => "storage",
    }
}

pub(super) fn timestamp(time: SystemTime) -> prost_types::Timestamp {
    time.into()
}

/// At most `max` bytes of a text that somebody else wrote.
pub(super) fn shortened(mut text: String, max: usize) -> String {
    text.truncate(text.floor_char_boundary(max));
    text
}

#[cfg(test)]
mod tests;
