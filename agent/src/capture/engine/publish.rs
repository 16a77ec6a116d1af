//! Says what is true.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, SystemTime},
};

use sluice_kernel::model::PodUid;

use super::Engine;
use crate::{
    capture::{
        kernel::Kernel,
        plan::Subject,
        proxy,
        steering::{Decision, Subjects},
        verdict::{self, Standing},
    },
    desired::Desired,
    status::{Event, NodeStatus, PodState},
};

impl<K: Kernel> Engine<K> {
    /// The status that follows from the last decision and what was read back.
    /// `audited`: when the kernel was looked at as a whole, and how long it took.
    pub(super) fn publish(
        &self,
        decision: &Decision,
        subjects: &Subjects<'_>,
        desired: &Arc<Desired>,
        audited: Option<(SystemTime, Duration)>,
    ) {
        let steering = &self.steering;
        let before = self.channels.status.borrow().clone();
        let read = &steering.read;
        let mut pods = verdict::pods(subjects, &decision.plan, &decision.facts, read);
        // What no intent speaks of.
        let orphans = read.left.iter();
        for (uid, pod) in orphans.filter(|(uid, _)| !subjects.contains_key(*uid)) {
            let message = "no longer wanted; its rules could not be removed yet";
            pods.insert(uid.clone(), verdict::orphan(None, pod, message));
        }
        let mut status = NodeStatus {
            pods,
            proxy: proxy::status(
                steering.seat.as_ref(),
                &decision.facts.proxy_state,
                &steering.needed,
            ),
            findings: steering.findings.clone(),
            files: self.channels.files.borrow().clone(),
            repairs: self.repairs,
            audited_at: audited.map(|(at, _)| at).or(before.audited_at),
            audit_micros: audited.map_or(before.audit_micros, |(_, took)| {
                u64::try_from(took.as_micros()).unwrap_or(u64::MAX)
            }),
            ..NodeStatus::default()
        };
        if let Some(fault) = &steering.fault {
            status.message = format!("the node could not be reconciled: {fault}");
        }
        let kernel = Standing {
            stuck: steering.stuck,
            gone: steering.gone,
        };
        verdict::conclude(&mut status, Some(desired), kernel);
        self.send(&before, status);
    }

    /// The status of one pod changed; the rest is as it was.
    pub(super) fn publish_one(&self, uid: &PodUid, subject: &Subject<'_>, decision: &Decision) {
        let one = BTreeMap::from([(uid.clone(), subject.clone())]);
        let Decision { plan, facts } = decision;
        let now = verdict::pods(&one, plan, facts, &self.steering.read).remove(uid);
        let event = {
            let before = self.channels.status.borrow();
            verdict::pod_event(uid, before.pods.get(uid), now.as_ref())
        };
        self.tell(event);
        self.channels.status.send_modify(|status| {
            let status = Arc::make_mut(status);
            status.pods.extend(now.map(|now| (uid.clone(), now)));
            gauges(status);
        });
    }

    /// The status while there is no desired state: what a previous run left in
    /// the kernel, as far as the journal knows whose it is.
    pub(super) fn publish_waiting(&self) {
        let before = self.channels.status.borrow().clone();
        let mut status = NodeStatus {
            files: self.channels.files.borrow().clone(),
            ..NodeStatus::default()
        };
        let adopted = self.steering.adopted.as_ref();
        for entry in self.memory.entries.values() {
            let (Some(uid), Some(pod)) = (&entry.uid, entry.pod()) else {
                continue;
            };
            if adopted.is_some_and(|adopted| !adopted.is_disjoint(&pod.addresses)) {
                let message = "held by rules of the agent's previous run; waiting for the state";
                let orphan = verdict::orphan(Some(entry), &pod, message);
                status.pods.insert(uid.clone(), orphan);
            }
        }
        verdict::conclude(&mut status, None, Standing::default());
        self.send(&before, status);
    }

    /// The number of repairs went up; the rest is as it was.
    pub(super) fn publish_repairs(&self) {
        let repairs = self.repairs;
        self.channels.status.send_modify(|status| {
            let mut changed = NodeStatus::clone(status);
            changed.repairs = repairs;
            *status = Arc::new(changed);
        });
    }

    fn send(&self, before: &NodeStatus, status: NodeStatus) {
        self.tell(verdict::events(before, &status));
        gauges(&status);
        self.channels.status.send_replace(Arc::new(status));
    }

    pub(super) fn tell(&self, events: impl IntoIterator<Item = Event>) {
        for event in events {
            let pod = event.pod.as_ref().map(PodUid::as_str);
            tracing::info!(kind = ?event.kind, pod, "{}", event.message);
            let _ = self.channels.events.send(event);
        }
    }
}

fn gauges(status: &NodeStatus) {
    for state in PodState::ALL {
        let count = status
            .pods
            .values()
            .filter(|pod| pod.state == state)
            .count();
        // A node has hundreds of pods.
        let count = u32::try_from(count).unwrap_or(u32::MAX);
        metrics::gauge!("sluice_pods", "state" => state.label()).set(count);
    }
    metrics::gauge!("sluice_proxy_ready").set(f64::from(u8::from(status.proxy.ready)));
    metrics::gauge!("sluice_capture_ready").set(f64::from(u8::from(status.capture_ready)));
}
