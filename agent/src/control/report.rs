//! What to tell the controller about the truth: everything once its snapshot is
//! there, then what differs from what it was told. Pure.
//!
//! Only of pods that the controller speaks of: of any other it could only say
//! that it is not this node's.

use std::collections::BTreeMap;

use prost::Message as _;
use sluice_kernel::model::PodUid;
use sluice_proto::capture::v1 as proto;

use super::encode;
use crate::{desired::Desired, status::NodeStatus};

/// Longest text for people in a report.
const LONGEST_MESSAGE: usize = 512;
/// A report larger than this goes without texts: receivers take 4 MiB.
const LARGEST: usize = 3 << 20;

/// What the controller has been told on this stream.
#[derive(Debug, Default)]
pub(super) struct Reporter {
    told: Option<Told>,
}

#[derive(Debug)]
struct Told {
    pods: BTreeMap<PodUid, proto::PodStatus>,
    node: proto::NodeCondition,
}

impl Reporter {
    /// The report that brings the controller up to date, or none if it is.
    pub(super) fn next(
        &mut self,
        status: &NodeStatus,
        desired: &Desired,
    ) -> Option<proto::StatusReport> {
        let now = Told {
            pods: status
                .pods
                .iter()
                .filter(|(uid, _)| desired.pods.contains_key(*uid))
                .map(|(uid, pod)| (uid.clone(), shorten(encode::pod_status(uid, pod))))
                .collect(),
            node: encode::condition(status),
        };
        let report = match &self.told {
            None => Some(full(&now)),
            Some(before) => changes(before, &now),
        };
        self.told = Some(now);
        report.map(lighten)
    }
}

fn full(now: &Told) -> proto::StatusReport {
    proto::StatusReport {
        full: true,
        pods: now.pods.values().cloned().collect(),
        node: Some(now.node.clone()),
    }
}

fn changes(before: &Told, now: &Told) -> Option<proto::StatusReport> {
    let changed = now
        .pods
        .iter()
        .filter(|(uid, pod)| before.pods.get(*uid) != Some(*pod))
        .map(|(_, pod)| pod.clone());
    let pods: Vec<_> = changed.collect();
    let node = (before.node != now.node).then(|| now.node.clone());
    (!pods.is_empty() || node.is_some()).then_some(proto::StatusReport {
        full: false,
        pods,
        node,
    })
}

fn shorten(mut status: proto::PodStatus) -> proto::PodStatus {
    if let Some((end, _)) = status.message.char_indices().nth(LONGEST_MESSAGE) {
        status.message.truncate(end);
    }
    status
}

fn lighten(mut report: proto::StatusReport) -> proto::StatusReport {
    if report.encoded_len() > LARGEST {
        for pod in &mut report.pods {
            pod.message.clear();
        }
    }
    report
}

#[cfg(test)]
mod tests;
