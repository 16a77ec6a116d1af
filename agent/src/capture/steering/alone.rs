//! One pod comes or goes, and everything else stays as it was.

use std::{collections::BTreeMap, time::Duration};

use sluice_kernel::model::{Pod, PodUid};

use super::{Decision, Steering};
use crate::capture::{
    kernel::{Fault, Kernel},
    locate,
    plan::{Facts, Plan, Subject, plan},
    proxy::Looked,
};

impl<K: Kernel> Steering<K> {
    /// What is to be done for one pod, decided as for a node that has no other.
    /// None if more has to be looked at: the rest was not read back as planned,
    /// is older than `stale`, or stands in the way.
    pub(in crate::capture) fn decide_alone(
        &mut self,
        uid: &PodUid,
        subject: &Subject<'_>,
        gone: bool,
        stale: Duration,
    ) -> Option<Decision> {
        let sound = self.adopted.is_none() && self.fault.is_none() && !self.dirty;
        let fresh = self.preflight_at.is_some_and(|at| at.elapsed() < stale);
        if !sound || !fresh || !self.findings.is_empty() {
            return None;
        }
        let known = self.node.pods.get(uid);
        let held = known.filter(|_| self.read.steered.contains(uid) && !gone);
        let link = match held {
            Some(held) if !matches!(self.kernel.link_alive(&held.link), Ok(false)) => {
                locate::link(&mut self.kernel, subject, Some(held))
            }
            _ => locate::link(&mut self.kernel, subject, None),
        };
        let entry = |value| (uid.clone(), value);
        let facts = Facts {
            links: link.map(entry).into_iter().collect(),
            proxy: self.seat.as_ref().and_then(Looked::proxy),
            proxy_state: self.proxy_state(),
            held: held
                .map(|held| (uid.clone(), held.clone()))
                .into_iter()
                .collect(),
            ..Facts::default()
        };
        let plan = plan(&BTreeMap::from([(uid.clone(), subject.clone())]), &facts);
        let planned = plan.node.pods.get(uid);
        let alone = match (known, planned) {
            // Nothing is done.
            (None, None) => true,
            (Some(known), Some(planned)) if known != planned => false,
            (Some(pod), _) | (None, Some(pod)) => self.leaves_the_rest(uid, pod, &plan, &facts),
        };
        alone.then_some(Decision { plan, facts })
    }

    /// Whether no other pod has to do with this one, and the shared part stays
    /// as it is programmed.
    fn leaves_the_rest(&self, uid: &PodUid, pod: &Pod, plan: &Plan, facts: &Facts) -> bool {
        let mut others = self.node.pods.iter().filter(|(other, _)| *other != uid);
        let proxy = if others.clone().next().is_some() {
            &facts.proxy
        } else {
            &plan.node.proxy
        };
        *proxy == self.node.proxy
            && plan.node.host_ports.is_subset(&self.node.host_ports)
            && others.all(|(_, other)| other.addresses.is_disjoint(&pod.addresses))
    }

    /// Brings up the pod of a decision about it alone.
    pub(in crate::capture) fn capture(
        &mut self,
        decision: &Decision,
        uid: &PodUid,
    ) -> Result<(), Fault> {
        let before = self.node.pods.get(uid).cloned();
        let planned = decision.plan.node.pods.get(uid).cloned();
        self.node.pods.extend(planned.map(|pod| (uid.clone(), pod)));
        if let Err(fault) = self.kernel.capture(&self.node, uid) {
            self.dirty = true;
            if before.is_none() {
                self.node.pods.remove(uid);
            }
            return Err(fault);
        }
        self.read.pods.insert(uid.clone(), Ok(()));
        self.read.steered.insert(uid.clone());
        self.backoff.forget(uid);
        Ok(())
    }

    /// Takes down a pod that was decided about alone. False if that did not do,
    /// and everything is to be looked at.
    pub(in crate::capture) fn release(&mut self, uid: &PodUid) -> bool {
        let Some(pod) = self.node.pods.remove(uid) else {
            return true;
        };
        let released = self.kernel.release(&self.node, &pod);
        if released != Ok(true) {
            if let Err(fault) = released {
                tracing::warn!(%uid, %fault, "a pod could not be released by itself");
            }
            self.node.pods.insert(uid.clone(), pod);
            self.dirty = true;
            return false;
        }
        self.read.pods.remove(uid);
        self.read.steered.remove(uid);
        self.backoff.forget(uid);
        true
    }
}
