//! One pod comes or goes, and everything else is left as it is.

use std::time::{Duration, Instant};

use sluice_kernel::model::PodUid;

use super::Engine;
use crate::{
    capture::{AddError, Added, kernel::Kernel, steering::Decision},
    desired::{Desired, Wanted},
    status::PodState,
};

impl<K: Kernel> Engine<K> {
    /// Captures a pod by itself. None if more than this pod is to be changed.
    pub(super) fn add_alone(
        &mut self,
        desired: &Desired,
        uid: &PodUid,
    ) -> Option<Result<Added, AddError>> {
        let subject = self.memory.alone(desired, uid)?;
        let (steering, stale) = (&mut self.steering, self.options.resync);
        let decision = steering.decide_alone(uid, &subject, false, stale)?;
        let Some(pod) = decision.plan.node.pods.get(uid) else {
            return Some(Err(left_out(&decision, uid)));
        };
        // Written before it is true: an entry is a claim.
        let mut entry = subject.entry?.clone();
        entry.applied(uid, pod);
        if let Err(error) = self.memory.write(&entry) {
            return Some(Err(AddError::journal(error)));
        }
        let started = Instant::now();
        if let Err(fault) = steering.capture(&decision, uid) {
            let reason = fault.message;
            return Some(Err(AddError::Kernel { reason }));
        }
        record(started.elapsed());
        self.publish_one(uid, &subject, &decision);
        self.memory.hold(entry);
        self.put_off();
        let added = Added {
            uid: uid.clone(),
            interface: pod.link.name.clone(),
        };
        let unready = decision.facts.proxy_state.why_not();
        Some(unready.map_or(Ok(added), |why| Err(AddError::not_ready(why))))
    }

    /// Takes down one pod whose sandbox is gone. False if more than this pod is
    /// to be changed.
    pub(super) fn release_alone(&mut self, uid: &PodUid) -> bool {
        let Some(desired) = self.channels.desired.borrow().clone() else {
            return false;
        };
        let subject = self.memory.alone(&desired, uid);
        // Without it another proxy may have to be found.
        let Some(subject) = subject.filter(|one| one.intent.wanted != Wanted::Proxy) else {
            return false;
        };
        let (steering, stale) = (&mut self.steering, self.options.resync);
        let decision = steering.decide_alone(uid, &subject, true, stale);
        let Some(decision) = decision.filter(|one| one.plan.node.pods.is_empty()) else {
            return false;
        };
        let started = Instant::now();
        if !steering.release(uid) {
            return false;
        }
        record(started.elapsed());
        self.publish_one(uid, &subject, &decision);
        self.put_off();
        true
    }
}

fn record(took: Duration) {
    metrics::histogram!("sluice_apply_duration_seconds").record(took.as_secs_f64());
}

/// Why a pod that was not captured was not.
fn left_out(decision: &Decision, uid: &PodUid) -> AddError {
    match decision.plan.left.get(uid).cloned() {
        Some(left) => AddError::of(left.reason, left.state, left.message),
        None => AddError::of(
            None,
            PodState::Pending,
            "the pod is not wanted any more".into(),
        ),
    }
}
