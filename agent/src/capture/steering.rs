//! The kernel's side: what was found on the node, what was programmed, and what
//! was read back.

mod alone;
mod backoff;
mod seat;

use std::{
    collections::{BTreeMap, BTreeSet},
    net::IpAddr,
    time::{Duration, Instant},
};

use sluice_kernel::model::{Node, Pod, PodUid, Refusal, Repair};

use self::backoff::Backoff;
use super::{
    kernel::{Fault, Kernel, is_tampering},
    locate,
    plan::{Facts, Plan, Subject, is_wanted, plan},
    proxy::{self, Candidate, Looked},
    verdict::ReadBack,
};

/// What forbids capture is looked for again after this.
const FORBIDDEN: Duration = Duration::from_secs(2);

pub(super) type Subjects<'a> = BTreeMap<PodUid, Subject<'a>>;

/// The kernel and everything that is known of it.
#[derive(Debug)]
pub(super) struct Steering<K> {
    pub(super) kernel: K,
    pub(super) needed: BTreeSet<u16>,
    /// Proxies that could be used, and the chosen one as last looked at.
    candidates: Vec<Candidate>,
    pub(super) seat: Option<Looked>,
    pub(super) findings: Vec<Refusal>,
    preflight_at: Option<Instant>,
    /// As last asked for.
    pub(super) node: Node,
    pub(super) read: ReadBack,
    /// Why the last reconcile failed as a whole.
    pub(super) fault: Option<Fault>,
    /// The last two did, or none ever succeeded: one alone may be a race.
    pub(super) stuck: bool,
    reconciled: bool,
    /// Addresses that rules of a previous run hold, until the first reconcile.
    pub(super) adopted: Option<BTreeSet<IpAddr>>,
    /// An attempt for one pod failed and may have left something.
    pub(super) dirty: bool,
    /// Told to leave, and nothing of ours is there any more.
    pub(super) gone: bool,
    /// Why proxies that nobody told of were not found.
    pub(super) unfound: Option<String>,
    pub(super) backoff: Backoff,
}

/// What is to be done, and what it was decided from.
#[derive(Debug)]
pub(super) struct Decision {
    pub(super) plan: Plan,
    pub(super) facts: Facts,
}

impl Decision {
    /// Whether the pod failed and is not to be tried yet.
    pub(super) fn is_resting(&self, uid: &PodUid) -> bool {
        self.facts.resting.contains_key(uid)
    }
}

/// How thoroughly the node is looked at before deciding.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Look {
    /// Everything.
    All,
    /// Everything, and the node-wide facts even if no pod is new.
    Resync,
}

/// What a reconcile did.
#[derive(Debug, Default)]
pub(super) struct Applied {
    pub(super) repairs: Vec<Repair>,
    /// Of them those that mend what had been verified: somebody's tampering.
    pub(super) tampering: Vec<Repair>,
}

impl<K: Kernel> Steering<K> {
    pub(super) fn new(mut kernel: K) -> Self {
        let needed = proxy::needed(kernel.settings().ports);
        let adopted = kernel.steered().unwrap_or_else(|fault| {
            tracing::warn!(%fault, "cannot read which addresses are steered already");
            BTreeSet::new()
        });
        Self {
            kernel,
            needed,
            candidates: Vec::new(),
            seat: None,
            findings: Vec::new(),
            preflight_at: None,
            node: Node::default(),
            read: ReadBack::default(),
            fault: None,
            stuck: false,
            reconciled: false,
            adopted: Some(adopted),
            dirty: false,
            gone: false,
            unfound: None,
            backoff: Backoff::default(),
        }
    }

    /// Decides what to program.
    pub(super) fn decide(
        &mut self,
        subjects: &Subjects<'_>,
        forgotten: &BTreeSet<PodUid>,
        look: Look,
    ) -> Decision {
        let held = self.held(subjects, forgotten);
        let mut facts = Facts {
            links: locate::links(&mut self.kernel, subjects, &held),
            proxy: self.seat.as_ref().and_then(Looked::proxy),
            proxy_state: self.proxy_state(),
            findings: Vec::new(),
            resting: self.backoff.resting(),
            held,
        };
        let hopeful = plan(subjects, &facts);
        let new = hopeful
            .node
            .pods
            .keys()
            .any(|uid| !facts.held.contains_key(uid));
        if new || self.preflight_at.is_none() || look == Look::Resync || self.may_have_changed() {
            self.preflight(&hopeful.node);
        }
        if self.findings.is_empty() {
            return Decision {
                plan: hopeful,
                facts,
            };
        }
        facts.findings.clone_from(&self.findings);
        Decision {
            plan: plan(subjects, &facts),
            facts,
        }
    }

    /// Something forbids capture, and that is a while ago: nobody tells us when
    /// other people take their rules away.
    pub(super) fn may_have_changed(&self) -> bool {
        let old = self
            .preflight_at
            .is_some_and(|at| at.elapsed() >= FORBIDDEN);
        old && !self.findings.is_empty()
    }

    fn preflight(&mut self, node: &Node) {
        self.preflight_at = Some(Instant::now());
        self.findings = self.kernel.preflight(node).unwrap_or_else(|fault| {
            vec![Refusal {
                check: "preflight",
                evidence: format!("the node could not be looked at: {fault}"),
                remedy: "mend what is named, the agent looks again by itself".into(),
            }]
        });
    }

    /// The pods that rules hold now. Before the first reconcile those that a
    /// previous run left behind.
    fn held(
        &mut self,
        subjects: &Subjects<'_>,
        forgotten: &BTreeSet<PodUid>,
    ) -> BTreeMap<PodUid, Pod> {
        let Some(adopted) = &self.adopted else {
            let held = self.node.pods.iter();
            return held
                .filter(|(uid, _)| self.read.steered.contains(*uid))
                .filter(|(uid, _)| {
                    let entry = subjects.get(*uid).and_then(|subject| subject.entry);
                    entry.is_some() || !forgotten.contains(*uid)
                })
                .map(|(uid, pod)| (uid.clone(), pod.clone()))
                .collect();
        };
        let there = self.kernel.links();
        let lives = |known: &Pod| {
            there
                .as_ref()
                .map_or(true, |links| links.contains(&known.link))
        };
        let mut held = BTreeMap::new();
        for (uid, subject) in subjects {
            if !is_wanted(subject.intent, true) || subject.addresses.is_disjoint(adopted) {
                continue;
            }
            let known = subject.entry.and_then(|entry| entry.pod());
            let living = known.as_ref().filter(|known| lives(known));
            if let Some(Ok(link)) = locate::link(&mut self.kernel, subject, living) {
                let addresses = subject.addresses.clone();
                held.insert(uid.clone(), Pod { link, addresses });
            }
        }
        held
    }

    /// Makes the kernel what the plan says and reads it back.
    pub(super) fn apply(&mut self, decision: &Decision, subjects: &Subjects<'_>) -> Applied {
        let node = &decision.plan.node;
        let settled = self.fault.is_none() && self.adopted.is_none() && !self.dirty;
        let same = settled && *node == self.node;
        let sound = self.read.pods.values().all(Result::is_ok);
        let outcome = self.kernel.reconcile(node);
        let was = std::mem::replace(&mut self.node, node.clone());
        let outcome = match outcome {
            Ok(outcome) => outcome,
            Err(fault) => {
                tracing::warn!(%fault, "the node could not be reconciled; the next pass tries again");
                self.read_after_failure(&was, &fault, subjects);
                self.stuck = self.fault.is_some() || !self.reconciled;
                self.fault = Some(fault);
                return Applied::default();
            }
        };
        let verified = |uid: &PodUid| matches!(self.read.pods.get(uid), Some(Ok(())));
        let tampering = outcome
            .repairs
            .iter()
            .filter(|repair| same && repair.pod.as_ref().map_or(sound, verified))
            .filter(|repair| is_tampering(repair))
            .cloned()
            .collect();
        self.fault = None;
        self.stuck = false;
        self.reconciled = true;
        self.adopted = None;
        self.dirty = false;
        self.read = self.read_back(outcome.pods, subjects);
        self.backoff.after(&self.read.pods);
        Applied {
            repairs: outcome.repairs,
            tampering,
        }
    }

    /// Which pods are held, once the kernel has been read.
    fn read_back(
        &mut self,
        pods: BTreeMap<PodUid, Result<(), Fault>>,
        subjects: &Subjects<'_>,
    ) -> ReadBack {
        let (good, bad): (Vec<_>, Vec<_>) = pods.iter().partition(|(_, result)| result.is_ok());
        let mut steered: BTreeSet<PodUid> = good.into_iter().map(|(uid, _)| uid.clone()).collect();
        if !bad.is_empty() {
            let held = self.kernel.steered();
            steered.extend(bad.into_iter().map(|(uid, _)| uid).filter_map(|uid| {
                let held = held.as_ref().map(|held| touches(subjects, uid, held));
                held.unwrap_or(true).then(|| uid.clone())
            }));
        }
        ReadBack {
            pods,
            steered,
            left: BTreeMap::new(),
        }
    }

    /// The reconcile failed as a whole: what is true is read another way, and
    /// what cannot be read is not called captured.
    fn read_after_failure(&mut self, was: &Node, fault: &Fault, subjects: &Subjects<'_>) {
        let audit = self.kernel.audit(&self.node).unwrap_or_default();
        let held = self.kernel.steered();
        let pods = self.node.pods.keys().map(|uid| {
            let there = audit.pods.get(uid).copied().unwrap_or(false);
            (uid.clone(), if there { Ok(()) } else { Err(fault.clone()) })
        });
        let pods: BTreeMap<PodUid, Result<(), Fault>> = pods.collect();
        // What cannot be read is taken to be as it was.
        let holds = |pod: &Pod| match &held {
            Ok(held) => !pod.addresses.is_disjoint(held),
            Err(_) => true,
        };
        let known = was.pods.iter().chain(&self.read.left);
        let left: BTreeMap<PodUid, Pod> = known
            .filter(|(uid, pod)| !self.node.pods.contains_key(*uid) && holds(pod))
            .map(|(uid, pod)| (uid.clone(), pod.clone()))
            .collect();
        let steered = match &held {
            Ok(held) => {
                // A pod whose sandbox is gone has no addresses any more but those
                // that its rules are still for.
                let touched =
                    |uid: &&PodUid| touches(subjects, uid, held) || left.contains_key(*uid);
                subjects.keys().filter(touched).cloned().collect()
            }
            Err(_) => std::mem::take(&mut self.read.steered),
        };
        self.read = ReadBack {
            pods,
            steered,
            left,
        };
    }
}

fn touches(subjects: &Subjects<'_>, uid: &PodUid, held: &BTreeSet<IpAddr>) -> bool {
    subjects
        .get(uid)
        .is_some_and(|subject| !subject.addresses.is_disjoint(held))
}
