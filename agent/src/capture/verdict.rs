//! What is said of the node, made of what was read back.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::SystemTime,
};

use sluice_kernel::model::{Pod, PodUid};

use super::{
    journal::Entry,
    kernel::Fault,
    plan::{Facts, Plan, ProxyState, Subject},
    sandbox::Sandbox,
};
use crate::{
    desired::{Desired, Wanted},
    status::{Event, EventKind, Leaving, NodeFiles, NodeStatus, PodState, PodStatus, Reason},
};

/// What was read back from the kernel.
#[derive(Clone, Debug, Default)]
pub(super) struct ReadBack {
    /// Each programmed pod: every object was found, or why not.
    pub(super) pods: BTreeMap<PodUid, Result<(), Fault>>,
    /// Pods that rules of ours hold, wholly or in part.
    pub(super) steered: BTreeSet<PodUid>,
    /// Pods that rules of ours hold and that are not to be captured any more.
    pub(super) left: BTreeMap<PodUid, Pod>,
}

/// The status of every pod.
pub(super) fn pods(
    subjects: &BTreeMap<PodUid, Subject<'_>>,
    plan: &Plan,
    facts: &Facts,
    read: &ReadBack,
) -> BTreeMap<PodUid, PodStatus> {
    subjects
        .iter()
        .map(|(uid, subject)| {
            let planned = plan.node.pods.get(uid);
            let steered = read.steered.contains(uid);
            let (state, reason, message) = match planned {
                Some(_) => programmed(uid, subject, &facts.proxy_state, read),
                None => left(uid, plan, steered),
            };
            let status = PodStatus {
                state,
                reason,
                message,
                steered,
                ..describe(subject, planned)
            };
            (uid.clone(), status)
        })
        .collect()
}

/// What is known of a pod whatever its state.
fn describe(subject: &Subject<'_>, planned: Option<&Pod>) -> PodStatus {
    let intent = subject.intent;
    let sandbox = subject.entry.map(|entry| &entry.sandbox);
    PodStatus {
        namespace: intent.namespace.clone(),
        name: intent.name.clone(),
        wanted: intent.wanted,
        hash: intent.hash.clone(),
        state: PodState::Released,
        reason: None,
        message: String::new(),
        steered: false,
        addresses: planned.map_or_else(|| subject.addresses.clone(), |pod| pod.addresses.clone()),
        interface: planned
            .map(|pod| pod.link.name.clone())
            .or_else(|| sandbox.and_then(|sandbox| sandbox.host_link.clone())),
        netns: sandbox.map(|sandbox| sandbox.netns.display().to_string()),
    }
}

type Verdict = (PodState, Option<Reason>, String);

/// A pod whose rules were to be there.
fn programmed(uid: &PodUid, subject: &Subject<'_>, proxy: &ProxyState, read: &ReadBack) -> Verdict {
    match read.pods.get(uid) {
        Some(Ok(())) => {}
        Some(Err(fault)) => {
            return (
                PodState::Failed,
                Some(Reason::Kernel),
                fault.message.clone(),
            );
        }
        None => {
            let message = "its rules were not read back; the next pass looks again".to_owned();
            return (PodState::Failed, Some(Reason::Kernel), message);
        }
    }
    match proxy {
        ProxyState::Ready if subject.intent.wanted == Wanted::Releasing => (
            PodState::Captured,
            Some(Reason::Releasing),
            "leaving: peers are being told".into(),
        ),
        ProxyState::Ready => (PodState::Captured, None, String::new()),
        ProxyState::NotListening(why) => (
            PodState::Pending,
            Some(Reason::ProxyNotListening),
            format!("its traffic is refused: {why}"),
        ),
        ProxyState::Absent(why) => (
            PodState::Pending,
            Some(Reason::ProxyGone),
            format!("its traffic is dropped: {why}"),
        ),
    }
}

/// A pod that was to have no rules.
fn left(uid: &PodUid, plan: &Plan, steered: bool) -> Verdict {
    let (state, reason, message) = plan.left.get(uid).map_or_else(
        || (PodState::Released, None, String::new()),
        |left| (left.state, left.reason, left.message.clone()),
    );
    if steered && state == PodState::Released {
        let message = "its rules could not be removed yet; the next pass tries again".to_owned();
        return (PodState::Failed, Some(Reason::Kernel), message);
    }
    (state, reason, message)
}

/// A pod that rules of ours hold and that no intent speaks of.
pub(super) fn orphan(entry: Option<&Entry>, pod: &Pod, message: &str) -> PodStatus {
    let sandbox = entry.map(|entry| &entry.sandbox);
    let text = |field: fn(&Sandbox) -> &String| sandbox.map(field).cloned().unwrap_or_default();
    PodStatus {
        namespace: text(|sandbox| &sandbox.namespace),
        name: text(|sandbox| &sandbox.name),
        wanted: Wanted::Nothing,
        hash: String::new(),
        state: PodState::Pending,
        reason: None,
        message: message.to_owned(),
        steered: true,
        addresses: pod.addresses.clone(),
        interface: Some(pod.link.name.clone()),
        netns: sandbox.map(|sandbox| sandbox.netns.display().to_string()),
    }
}

/// How the kernel stands as a whole.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Standing {
    /// It cannot be made what is wanted.
    pub(super) stuck: bool,
    /// Nothing of ours is in it.
    pub(super) gone: bool,
}

/// Fills in what follows from the rest: whether the node can capture, and how
/// far it has left.
pub(super) fn conclude(status: &mut NodeStatus, desired: Option<&Desired>, kernel: Standing) {
    status.origin = desired.map(|desired| desired.origin);
    status.revision = desired.and_then(|desired| desired.revision.clone());
    status.stuck = kernel.stuck;
    let finding = status.findings.first();
    let amiss = status.files.cni.as_ref().filter(|cni| !cni.current);
    status.leaving = match desired {
        Some(desired) if desired.leave => leaving(&status.files, kernel.gone),
        _ => Leaving::No,
    };
    status.capture_ready = desired.is_some()
        && status.leaving == Leaving::No
        && !kernel.stuck
        && status.proxy.ready
        && finding.is_none()
        && amiss.is_none();
    if status.leaving != Leaving::No {
        let told = words(status.leaving, &status.files);
        status.message = match status.message.as_str() {
            "" => told,
            fault => format!("{told}: {fault}"),
        };
    } else if let Some(finding) = finding {
        status.message = format!(
            "the node cannot capture further pods: {} ({}); {}",
            finding.evidence, finding.check, finding.remedy
        );
    } else if desired.is_none() {
        status.message = "no desired state yet: neither the controller nor the disk has one".into();
    } else if status.message.is_empty() {
        status.message = amiss.map_or_else(
            || status.proxy.message.clone(),
            |cni| format!("the shim is not in place: {}", cni.message),
        );
    }
}

fn leaving(files: &NodeFiles, gone: bool) -> Leaving {
    let mut kept = [&files.cni, &files.ambient].into_iter().flatten();
    match (gone, kept.any(|file| file.present)) {
        (false, _) => Leaving::Releasing,
        (true, true) => Leaving::Cleared,
        (true, false) => Leaving::Left,
    }
}

fn words(leaving: Leaving, files: &NodeFiles) -> String {
    let kept = [&files.cni, &files.ambient].into_iter().flatten();
    let kept = kept.filter(|file| file.present);
    match leaving {
        Leaving::No => String::new(),
        Leaving::Releasing => "the node was told to leave; pods are being released".into(),
        Leaving::Cleared => {
            let why: Vec<_> = kept
                .map(|file| format!("{} {}", file.path, file.message))
                .collect();
            format!(
                "the node was told to leave, and files are still to be removed: {}",
                why.join(", ").trim_end()
            )
        }
        Leaving::Left => "the node has left: nothing of Sluice is on it".into(),
    }
}

/// What happened between two looks.
pub(super) fn events(before: &NodeStatus, after: &NodeStatus) -> Vec<Event> {
    let there = after.pods.iter();
    let there = there.map(|(uid, pod)| (uid, before.pods.get(uid), Some(pod)));
    let gone = before.pods.iter();
    let gone = gone.filter(|(uid, _)| !after.pods.contains_key(*uid));
    let gone = gone.map(|(uid, pod)| (uid, Some(pod), None));
    let mut events: Vec<Event> = there
        .chain(gone)
        .filter_map(|(uid, was, now)| pod_event(uid, was, now))
        .collect();
    if (before.proxy.ready, &before.proxy.netns) != (after.proxy.ready, &after.proxy.netns) {
        let message = match (&after.proxy.netns, after.proxy.ready) {
            (Some(netns), true) => format!("the proxy in {} is ready", netns.path.display()),
            _ => after.proxy.message.clone(),
        };
        events.push(event(
            EventKind::Proxy,
            after.proxy.pod_uid.as_ref(),
            message,
        ));
    }
    for finding in &after.findings {
        if !before.findings.contains(finding) {
            let message = format!(
                "{}: {}; {}",
                finding.check, finding.evidence, finding.remedy
            );
            events.push(event(EventKind::Finding, None, message));
        }
    }
    events
}

/// What happened to a pod between two looks, if it is worth telling.
pub(super) fn pod_event(
    uid: &PodUid,
    was: Option<&PodStatus>,
    now: Option<&PodStatus>,
) -> Option<Event> {
    let told = |pod: &PodStatus| (pod.state, pod.reason, pod.steered);
    let released = |pod: Option<&PodStatus>| pod.is_none_or(|pod| pod.state == PodState::Released);
    let message = match (was, now) {
        (Some(was), Some(now)) if told(was) == told(now) => return None,
        (None, now) if released(now) => return None,
        (was, None) if released(was) => return None,
        (_, Some(now)) => in_words(now),
        (Some(was), None) => format!("{}/{} is gone", was.namespace, was.name),
        (None, None) => return None,
    };
    Some(event(EventKind::PodState, Some(uid), message))
}

fn event(kind: EventKind, pod: Option<&PodUid>, message: String) -> Event {
    Event {
        at: SystemTime::now(),
        kind,
        pod: pod.cloned(),
        message,
    }
}

fn in_words(pod: &PodStatus) -> String {
    let name = format!("{}/{}", pod.namespace, pod.name);
    if pod.message.is_empty() {
        format!("{name} is {}", pod.state.label())
    } else {
        format!("{name} is {}: {}", pod.state.label(), pod.message)
    }
}
