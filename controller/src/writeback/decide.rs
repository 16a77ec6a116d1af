//! What is to be written: a pure function of what is wanted, what is reported,
//! and what is written now.

use std::{sync::Arc, time::Duration};

use sluice_proto::capture::v1::{NodeCondition, PodState, Reason};

use super::{
    api::PodRef,
    names::{ANNOTATION_DISABLED, ANNOTATION_ENABLED},
    seen::{Condition, SeenNode, Ternary},
};
use crate::{
    fleet::Uninstall,
    model::{Name, Pod, Wanted},
};

/// A node whose stream was lost is somebody else's within this; or nobody's.
pub const LOST_AFTER: Duration = Duration::from_secs(30);

/// Reason of the condition of a node that was asked to leave, and has.
pub const LEFT: &str = "Left";

/// All that the fleet knows of a pod whose node's stream is here.
#[derive(Clone, Debug)]
pub struct PodCase {
    pub node: Name,
    /// Of the node's stream.
    pub token: String,
    pub pod: Arc<Pod>,
    /// What its node is told of it.
    pub wanted: Wanted,
    pub reported: Reported,
    /// The annotation, as far as the source has been followed.
    pub written: Option<String>,
    /// How far that is.
    pub followed: u64,
    pub uninstall: Uninstall,
}

/// What the agent says of a pod.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum Reported {
    /// It has not said anything yet.
    Unknown,
    /// It has said everything, and nothing of this pod: it is not steered.
    Absent,
    Status {
        state: PodState,
        steered: bool,
        /// It is about what is wanted now.
        current: bool,
        reason: Reason,
        message: String,
    },
}

impl PodCase {
    pub(super) fn pod_ref(&self) -> PodRef {
        PodRef {
            namespace: self.pod.namespace.to_string(),
            name: self.pod.name.to_string(),
            uid: self.pod.uid.to_string(),
        }
    }
}

/// What is to be done about a pod's annotation.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum PodWrite {
    /// It is as it should be, or nothing is known.
    Leave,
    /// `enabled`; over what somebody else wrote only with `force`, and never
    /// over a user's `disabled`.
    Set { force: bool },
    /// Away with it, whoever wrote it: it is not true, and it is our pod.
    Remove,
    /// Away with it if it is ours.
    RemoveOwn,
}

/// `written` is what the annotation says now.
pub fn pod_write(
    wanted: Wanted,
    reported: &Reported,
    written: Option<&str>,
    uninstall: Uninstall,
) -> PodWrite {
    let enabled = written == Some(ANNOTATION_ENABLED);
    if uninstall == Uninstall::Finished || written == Some(ANNOTATION_DISABLED) {
        return PodWrite::Leave;
    }
    match wanted {
        Wanted::Captured => match holds(reported) {
            Holds::Captured if enabled => PodWrite::Leave,
            Holds::Captured => PodWrite::Set {
                force: written.is_some(),
            },
            Holds::Not if enabled => PodWrite::Remove,
            Holds::Not | Holds::Still => PodWrite::Leave,
        },
        Wanted::Releasing | Wanted::Unsupported if enabled => PodWrite::Remove,
        Wanted::Nothing | Wanted::Proxy if enabled => PodWrite::RemoveOwn,
        _ => PodWrite::Leave,
    }
}

enum Holds {
    /// Read back from the kernel, for what is wanted now.
    Captured,
    /// Rules hold it, or nobody knows: what is written stays.
    Still,
    Not,
}

fn holds(reported: &Reported) -> Holds {
    match reported {
        Reported::Unknown => Holds::Still,
        Reported::Absent => Holds::Not,
        Reported::Status {
            state,
            steered,
            current,
            ..
        } => match state {
            PodState::Captured if *current && *steered => Holds::Captured,
            PodState::Captured | PodState::Pending if *steered => Holds::Still,
            _ => Holds::Not,
        },
    }
}

/// All that the fleet knows of a node.
#[derive(Clone, Debug, Default)]
pub struct NodeCase {
    /// Of its stream, when that is here.
    pub token: Option<String>,
    pub reported: Option<NodeCondition>,
    pub uninstall: Uninstall,
}

/// What this replica remembers of a node, and knows of its fellows.
#[derive(Clone, Copy, Debug, Default)]
pub struct NodeMemory<'a> {
    /// The stream for which it has put its claim on the node, and the node's
    /// revision then.
    pub claimed: Option<(&'a str, u64)>,
    /// How long nobody has had the stream, when that is so: the replica that
    /// had it last is this one, or no more.
    pub lost_for: Option<Duration>,
}

/// What is to be done about a node.
#[derive(Clone, Debug, Eq, PartialEq)]
pub enum NodeDecision {
    Leave,
    /// Look again then.
    Wait(Duration),
    Write {
        condition: Condition,
        claim: Option<String>,
        /// Only over what was seen.
        guarded: bool,
    },
    Untaint,
    /// Another replica has claimed the node since.
    Overtaken,
}

/// `now` is RFC 3339, for a condition whose status changes.
pub fn node_decision(
    case: &NodeCase,
    memory: NodeMemory<'_>,
    seen: Option<&SeenNode>,
    now: &str,
) -> NodeDecision {
    let (Some(seen), false) = (seen, case.uninstall == Uninstall::Finished) else {
        return NodeDecision::Leave;
    };
    let Some(token) = &case.token else {
        return lost(memory, seen, now);
    };
    let claimed = memory.claimed.filter(|(claimed, _)| claimed == token);
    let mine = seen.claim.as_ref() == Some(token);
    if let Some((_, revision)) = claimed
        && !mine
        && seen.claim.is_some()
        && seen.revision > revision
    {
        return NodeDecision::Overtaken;
    }
    let Some(reported) = &case.reported else {
        return NodeDecision::Leave;
    };
    let condition = condition(reported, seen.condition.as_ref(), now);
    if !mine || seen.condition.as_ref() != Some(&condition) {
        return NodeDecision::Write {
            condition,
            claim: Some(token.clone()),
            guarded: claimed.is_some(),
        };
    }
    if seen.tainted && reported.capture_ready {
        return NodeDecision::Untaint;
    }
    NodeDecision::Leave
}

/// True when writes about the node's pods may begin.
pub fn may_write_pods(token: &str, seen: Option<&SeenNode>) -> bool {
    seen.is_some_and(|seen| seen.claim.as_deref() == Some(token))
}

// Nobody has the stream, as far as is known here.
fn lost(memory: NodeMemory<'_>, seen: &SeenNode, now: &str) -> NodeDecision {
    let (Some(written), Some(lost_for)) = (&seen.condition, memory.lost_for) else {
        return NodeDecision::Leave;
    };
    if written.status == Ternary::Unknown && seen.claim.is_none() {
        return NodeDecision::Leave;
    }
    if lost_for < LOST_AFTER {
        return NodeDecision::Wait(LOST_AFTER.saturating_sub(lost_for));
    }
    NodeDecision::Write {
        condition: Condition {
            status: Ternary::Unknown,
            reason: "StreamLost".into(),
            message: "the node's agent is connected to no controller; captured pods stay \
                      captured; look at the sluice-agent pod of this node"
                .into(),
            last_transition: since(Ternary::Unknown, Some(written), now),
        },
        claim: None,
        guarded: true,
    }
}

fn condition(reported: &NodeCondition, written: Option<&Condition>, now: &str) -> Condition {
    let (status, reason) = match (reported.left, reported.capture_ready) {
        (true, _) => (Ternary::False, LEFT),
        (false, true) => (Ternary::True, "ProxyListening"),
        (false, false) => (Ternary::False, "CannotCapture"),
    };
    let message = match (reported.message.is_empty(), status) {
        (false, _) => reported.message.clone(),
        (true, Ternary::True) => "the proxy listens and nothing forbids capture".into(),
        (true, _) if reported.left => "Sluice has left this node, as it was asked to".into(),
        (true, _) => "the node cannot capture".into(),
    };
    Condition {
        status,
        reason: reason.into(),
        message,
        last_transition: since(status, written, now),
    }
}

fn since(status: Ternary, written: Option<&Condition>, now: &str) -> String {
    match written.filter(|written| written.status == status) {
        Some(written) => written.last_transition.clone(),
        None => now.to_owned(),
    }
}

#[cfg(test)]
mod tests;
