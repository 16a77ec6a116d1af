//! One pass: look, decide, apply, read back, say so.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant, SystemTime},
};

use sluice_kernel::model::{PodUid, Repair};

use super::Engine;
use crate::{
    capture::{
        LookError,
        kernel::Kernel,
        plan::{Plan, subjects},
        steering::{Applied, Look, Subjects},
    },
    desired::{Desired, Intent, Wanted},
    status::{Event, EventKind, Reason},
};

/// Why a pass is made.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(super) enum Cause {
    Change,
    Resync,
}

impl<K: Kernel> Engine<K> {
    /// Makes the kernel what is wanted. Returns what was changed.
    pub(super) fn pass(&mut self, cause: Cause) -> Vec<Repair> {
        self.due = None;
        self.noticed = None;
        if cause == Cause::Resync {
            self.resync = Instant::now() + self.options.resync;
        }
        let Some(desired) = self.channels.desired.borrow_and_update().clone() else {
            self.publish_waiting();
            return Vec::new();
        };
        self.memory.settle(&desired);
        if cause == Cause::Resync {
            self.sweep();
        }
        let applied = self.reconcile(&desired, cause);
        self.count(&applied.tampering);
        self.watch();
        applied.repairs
    }

    fn reconcile(&mut self, desired: &Arc<Desired>, cause: Cause) -> Applied {
        let subjects = subjects(desired, &self.memory.entries, &self.memory.forgotten);
        let steering = &mut self.steering;
        steering.find_proxies(&subjects, &self.options);
        if let Some(search) = &mut self.search
            && self.options.proxy_netns.is_none()
        {
            steering.search(search, &subjects);
        }
        steering.look_at_proxies();
        let look = match cause {
            Cause::Change => Look::All,
            Cause::Resync => Look::Resync,
        };
        let decision = steering.decide(&subjects, &self.memory.forgotten, look);
        let started = Instant::now();
        let leaves = desired.leave && !subjects.values().any(|subject| stays(subject.intent));
        let applied = if leaves {
            steering.leave(look)
        } else {
            steering.gone = false;
            steering.apply(&decision, &subjects)
        };
        let took = started.elapsed();
        record(&applied, took);
        let pods = &decision.plan.node.pods;
        steering
            .backoff
            .keep(|uid| pods.contains_key(uid) || decision.is_resting(uid));
        let failed = steering.fault.is_some();
        steering
            .backoff
            .settle(failed || is_unsettled(&decision.plan));
        let audited = (!failed).then(|| (SystemTime::now(), took));
        self.publish(&decision, &subjects, desired, audited);
        let newest = newest(&subjects);
        self.memory.applied(&decision.plan.node.pods, &newest);
        applied
    }

    /// Looks at everything and repairs what differs.
    pub(super) fn resync(&mut self) -> Result<Vec<Repair>, LookError> {
        if self.channels.desired.borrow().is_none() {
            return Err(LookError::NoState);
        }
        let repairs = self.pass(Cause::Resync);
        match &self.steering.fault {
            Some(fault) => Err(LookError::Kernel(fault.clone())),
            None => Ok(repairs),
        }
    }

    /// Counts and tells what somebody else had changed.
    fn count(&mut self, tampering: &[Repair]) {
        for repair in tampering {
            self.repairs += 1;
            metrics::counter!("sluice_repairs_total", "kind" => repair.kind).increment(1);
            let pod = repair.pod.as_ref().map(PodUid::as_str);
            tracing::warn!(
                kind = repair.kind,
                object = repair.object,
                pod,
                "somebody changed what we had programmed; it is mended"
            );
            let _ = self.channels.events.send(Event {
                at: SystemTime::now(),
                kind: EventKind::Repair,
                pod: repair.pod.clone(),
                message: format!("mended {}: {}", repair.kind, repair.object),
            });
        }
        if !tampering.is_empty() {
            self.publish_repairs();
        }
    }
}

/// Whether the pod is still to have rules: told to leave, the node waits for
/// it to be released as told.
fn stays(intent: &Intent) -> bool {
    matches!(intent.wanted, Wanted::Captured | Wanted::Releasing) && !intent.host_network
}

fn record(applied: &Applied, took: Duration) {
    let histogram = if applied.repairs.is_empty() {
        metrics::histogram!("sluice_audit_duration_seconds")
    } else {
        metrics::histogram!("sluice_apply_duration_seconds")
    };
    histogram.record(took.as_secs_f64());
}

/// Whether a pod was left out for what may come right without a notice.
fn is_unsettled(plan: &Plan) -> bool {
    plan.left.values().any(|left| {
        matches!(
            left.reason,
            Some(Reason::NoInterface | Reason::AddressTaken)
        )
    })
}

/// The container of each pod's newest sandbox.
fn newest(subjects: &Subjects<'_>) -> BTreeMap<PodUid, String> {
    subjects
        .iter()
        .filter_map(|(uid, subject)| {
            let entry = subject.entry?;
            Some((uid.clone(), entry.sandbox.container_id.clone()))
        })
        .collect()
}
