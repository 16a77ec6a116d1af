//! The truth in the words of `sluice.agent.v1`. Pure.

use std::time::SystemTime;

use sluice_kernel::model::PodUid;
use sluice_proto::agent::v1 as proto;

use crate::{
    control::{Link, encode},
    desired::Origin,
    status::{Event, EventKind, FileState, Leaving, NodeStatus, PodState, PodStatus, ProxyStatus},
};

/// The node as a whole.
pub(crate) fn node(
    name: &str,
    started: SystemTime,
    status: &NodeStatus,
    link: &Link,
) -> proto::GetStatusResponse {
    proto::GetStatusResponse {
        node_name: name.into(),
        version: env!("CARGO_PKG_VERSION").into(),
        started_at: Some(started.into()),
        controller: Some(controller(status, link)),
        proxy: Some(proxy(&status.proxy)),
        findings: status
            .findings
            .iter()
            .map(|finding| proto::Finding {
                check: finding.check.into(),
                evidence: finding.evidence.clone(),
                remedy: finding.remedy.clone(),
            })
            .collect(),
        pods: counts(status),
        audited_at: status.audited_at.map(Into::into),
        audit_micros: status.audit_micros,
        repairs: status.repairs,
        capture_ready: status.capture_ready,
        files: [&status.files.cni, &status.files.ambient]
            .into_iter()
            .flatten()
            .map(file)
            .collect(),
        leaving: leaving(status.leaving).into(),
        message: status.message.clone(),
    }
}

fn file(state: &FileState) -> proto::NodeFile {
    proto::NodeFile {
        path: state.path.clone(),
        present: state.present,
        current: state.current,
        message: state.message.clone(),
        source: state.source.clone(),
    }
}

fn leaving(leaving: Leaving) -> proto::Leaving {
    match leaving {
        Leaving::No => proto::Leaving::No,
        Leaving::Releasing => proto::Leaving::Releasing,
        Leaving::Cleared => proto::Leaving::Cleared,
        Leaving::Left => proto::Leaving::Left,
    }
}

fn controller(status: &NodeStatus, link: &Link) -> proto::ControllerLink {
    let origin = match status.origin {
        None => proto::StateOrigin::None,
        Some(Origin::Disk) => proto::StateOrigin::Disk,
        Some(Origin::Controller) => proto::StateOrigin::Controller,
    };
    proto::ControllerLink {
        connected: link.connected,
        endpoint: link.endpoint.clone(),
        since: link.since.map(Into::into),
        last_error: link.last_error.clone(),
        revision: status.revision.as_ref().map(encode::revision),
        origin: origin.into(),
    }
}

fn proxy(status: &ProxyStatus) -> proto::ProxyStatus {
    proto::ProxyStatus {
        pod_uid: status
            .pod_uid
            .as_ref()
            .map(ToString::to_string)
            .unwrap_or_default(),
        netns: status
            .netns
            .as_ref()
            .map(|netns| netns.path.display().to_string())
            .unwrap_or_default(),
        listening: status.listening.iter().copied().map(u32::from).collect(),
        missing: status.missing.iter().copied().map(u32::from).collect(),
        ready: status.ready,
    }
}

fn counts(status: &NodeStatus) -> Vec<proto::StateCount> {
    let count = |state: PodState| {
        let pods = status.pods.values().filter(|pod| pod.state == state);
        proto::StateCount {
            state: encode::pod_state(state).into(),
            count: u32::try_from(pods.count()).unwrap_or(u32::MAX),
        }
    };
    PodState::ALL.into_iter().map(count).collect()
}

/// One pod.
pub(crate) fn pod(uid: &PodUid, status: &PodStatus) -> proto::Pod {
    proto::Pod {
        uid: uid.as_str().into(),
        namespace: status.namespace.clone(),
        name: status.name.clone(),
        wanted: encode::wanted(status.wanted).into(),
        status: Some(encode::pod_status(uid, status)),
        addresses: status.addresses.iter().map(ToString::to_string).collect(),
        interface: status.interface.clone().unwrap_or_default(),
        netns: status.netns.clone().unwrap_or_default(),
    }
}

/// One event; `lost` of them went before it unseen.
pub(crate) fn event(event: Event, lost: u64) -> proto::WatchEventsResponse {
    let kind = match event.kind {
        EventKind::PodState => proto::EventKind::PodState,
        EventKind::Repair => proto::EventKind::Repair,
        EventKind::Proxy => proto::EventKind::Proxy,
        EventKind::Controller => proto::EventKind::Controller,
        EventKind::Finding => proto::EventKind::Finding,
        EventKind::Sandbox => proto::EventKind::Sandbox,
    };
    proto::WatchEventsResponse {
        at: Some(event.at.into()),
        kind: kind.into(),
        pod_uid: event.pod.map(|uid| uid.to_string()).unwrap_or_default(),
        message: event.message,
        lost,
    }
}

#[cfg(test)]
pub(crate) mod samples {
    use std::collections::{BTreeMap, BTreeSet};

    use super::*;
    use crate::{
        desired::{Revision, Wanted},
        status::Reason,
    };

    pub(crate) fn pod(namespace: &str, name: &str, wanted: Wanted, state: PodState) -> PodStatus {
        PodStatus {
            namespace: namespace.into(),
            name: name.into(),
            wanted,
            hash: "h1".into(),
            state,
            reason: (state == PodState::Pending).then_some(Reason::ProxyNotListening),
            message: match state {
                PodState::Pending => "the proxy does not listen on 15008".into(),
                _ => String::new(),
            },
            steered: state == PodState::Captured,
            addresses: BTreeSet::from(["10.0.0.4".parse().unwrap()]),
            interface: Some("veth1".into()),
            netns: Some("/run/netns/web".into()),
        }
    }

    /// Three pods, two of one name and two enrolled.
    pub(crate) fn node() -> NodeStatus {
        let uid = |text: &str| PodUid::new(text).unwrap();
        let pods = BTreeMap::from([
            (
                uid("u-web"),
                pod("default", "web", Wanted::Captured, PodState::Captured),
            ),
            (
                uid("u-web2"),
                pod("other", "web", Wanted::Captured, PodState::Pending),
            ),
            (
                uid("u-db"),
                pod("default", "db", Wanted::Nothing, PodState::Released),
            ),
        ]);
        NodeStatus {
            pods,
            origin: Some(Origin::Controller),
            revision: Some(Revision {
                source: "cluster".into(),
                pods: 7,
                namespaces: 3,
            }),
            ..NodeStatus::default()
        }
    }
}
