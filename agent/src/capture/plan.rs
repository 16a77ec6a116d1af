//! Decides, touching nothing: from what is wanted and what was found, the node
//! to program and why the other pods are left out.

mod assign;
mod subjects;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
};

use sluice_kernel::model::{Link, Node, Pod, PodUid, Proxy, Refusal};

use self::assign::assign;
pub use self::subjects::subjects;
use super::{journal::Entry, kernel::Fault};
use crate::{
    desired::{Intent, Wanted},
    status::{PodState, Reason},
};

/// One pod: what is wanted of it, and where it is.
#[derive(Clone, Debug)]
pub struct Subject<'a> {
    pub intent: &'a Intent,
    /// Its newest sandbox that is known.
    pub entry: Option<&'a Entry>,
    /// Of the sandbox, or else of the intent. Empty while it has none.
    pub addresses: BTreeSet<IpAddr>,
}

/// What was found on the node.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    /// The pods' links, or why one was not found.
    pub links: BTreeMap<PodUid, Result<Link, Fault>>,
    /// The chosen proxy while its namespace lives.
    pub proxy: Option<Proxy>,
    pub proxy_state: ProxyState,
    /// What forbids capture on the node.
    pub findings: Vec<Refusal>,
    /// Pods that rules of ours hold already.
    pub held: BTreeMap<PodUid, Pod>,
    /// Pods that failed and are not to be tried yet.
    pub resting: BTreeMap<PodUid, Fault>,
}

/// Whether the proxy can take traffic.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub enum ProxyState {
    /// None is known, or its namespace is gone; in words.
    Absent(String),
    /// It lives and some of its ports are not listened on; in words.
    NotListening(String),
    #[default]
    Ready,
}

impl ProxyState {
    /// Why the proxy cannot take traffic; None when it can.
    pub fn why_not(&self) -> Option<String> {
        match self {
            Self::Ready => None,
            Self::Absent(why) | Self::NotListening(why) => Some(why.clone()),
        }
    }
}

/// What to program, and why the others are left out.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Plan {
    pub node: Node,
    /// Every subject that is not in `node.pods`.
    pub left: BTreeMap<PodUid, Left>,
}

/// Why a pod is left out.
#[derive(Clone, Debug, Eq, PartialEq)]
pub struct Left {
    pub state: PodState,
    pub reason: Option<Reason>,
    pub message: String,
}

/// The plan. Pods that are held stay held, unless nothing is wanted of them
/// any more or their link is gone: what forbids new captures (findings, a proxy
/// that is missing or does not listen) never opens a pod that is closed.
pub fn plan(subjects: &BTreeMap<PodUid, Subject<'_>>, facts: &Facts) -> Plan {
    let assigned = assign(subjects, facts);
    let mut plan = Plan::default();
    for (uid, subject) in subjects {
        match judge(uid, subject, facts, &assigned) {
            Ok(pod) => {
                plan.node.pods.insert(uid.clone(), pod);
            }
            Err(left) => {
                plan.left.insert(uid.clone(), left);
            }
        }
    }
    plan.node.host_ports = subjects
        .values()
        .filter(|subject| !subject.intent.host_network)
        .flat_map(|subject| subject.intent.host_ports.iter().copied())
        .collect();
    // Without pods the shared part is made ready ahead of the first ADD, but
    // only where it can be of use.
    let useful = facts.proxy_state == ProxyState::Ready && facts.findings.is_empty();
    if useful || !plan.node.pods.is_empty() {
        plan.node.proxy.clone_from(&facts.proxy);
    }
    plan
}

/// What the plan would program for a pod that is wanted, or why it does not.
fn judge(
    uid: &PodUid,
    subject: &Subject<'_>,
    facts: &Facts,
    assigned: &BTreeMap<PodUid, Result<Pod, Left>>,
) -> Result<Pod, Left> {
    let held = facts.held.contains_key(uid);
    if !is_wanted(subject.intent, held) {
        return Err(unwanted(subject.intent));
    }
    let pod = assigned
        .get(uid)
        .cloned()
        .unwrap_or_else(|| found(uid, subject, facts))?;
    if !held {
        admit(uid, facts)?;
    }
    Ok(pod)
}

/// Whether rules for the pod are wanted at all.
pub fn is_wanted(intent: &Intent, held: bool) -> bool {
    match intent.wanted {
        Wanted::Captured => !intent.host_network,
        Wanted::Releasing => held && !intent.host_network,
        Wanted::Nothing | Wanted::Proxy | Wanted::Unsupported => false,
    }
}

/// The pod as it would be programmed, if it has a sandbox and a link.
fn found(uid: &PodUid, subject: &Subject<'_>, facts: &Facts) -> Result<Pod, Left> {
    let addresses = match facts.held.get(uid) {
        // Its addresses are not known any more, and its link is still there.
        Some(held) if subject.addresses.is_empty() => &held.addresses,
        _ => &subject.addresses,
    };
    match facts.links.get(uid) {
        Some(Ok(link)) if !addresses.is_empty() => Ok(Pod {
            link: link.clone(),
            addresses: addresses.clone(),
        }),
        Some(Err(fault)) if !fault.transient => Err(Left::new(
            PodState::Unsupported,
            Reason::Preflight,
            fault.message.clone(),
        )),
        Some(Err(fault)) if !addresses.is_empty() => Err(Left::new(
            PodState::Failed,
            Reason::NoInterface,
            fault.message.clone(),
        )),
        _ => Err(Left::new(
            PodState::Pending,
            Reason::NoSandbox,
            "the pod has no sandbox or no address yet".into(),
        )),
    }
}

/// Whether a pod that is not held yet may be captured now.
fn admit(uid: &PodUid, facts: &Facts) -> Result<(), Left> {
    if let Some(finding) = facts.findings.first() {
        let message = format!(
            "the node cannot capture: {} ({}); {}",
            finding.evidence, finding.check, finding.remedy
        );
        return Err(Left::new(PodState::Unsupported, Reason::Preflight, message));
    }
    match (&facts.proxy_state, &facts.proxy) {
        (ProxyState::Absent(why), _) => {
            return Err(Left::new(PodState::Pending, Reason::NoProxy, why.clone()));
        }
        (ProxyState::NotListening(why), _) => {
            return Err(Left::new(
                PodState::Pending,
                Reason::ProxyNotListening,
                why.clone(),
            ));
        }
        (ProxyState::Ready, None) => {
            let why = "no proxy is known on this node".to_owned();
            return Err(Left::new(PodState::Pending, Reason::NoProxy, why));
        }
        (ProxyState::Ready, Some(_)) => {}
    }
    match facts.resting.get(uid) {
        Some(fault) => Err(Left::new(
            PodState::Failed,
            Reason::Kernel,
            fault.message.clone(),
        )),
        None => Ok(()),
    }
}

fn unwanted(intent: &Intent) -> Left {
    match intent.wanted {
        Wanted::Captured | Wanted::Releasing if intent.host_network => Left::new(
            PodState::Unsupported,
            Reason::UnsupportedAnnotation,
            "the pod shares the node's network namespace and cannot be captured".into(),
        ),
        Wanted::Unsupported => Left::new(
            PodState::Unsupported,
            Reason::UnsupportedAnnotation,
            intent.message.clone(),
        ),
        _ => Left {
            state: PodState::Released,
            reason: None,
            message: String::new(),
        },
    }
}

impl Left {
    fn new(state: PodState, reason: Reason, message: String) -> Self {
        Self {
            state,
            reason: Some(reason),
            message,
        }
    }
}

#[cfg(test)]
mod tests;
