//! When a pod that the kernel refused is tried again.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use sluice_kernel::model::PodUid;

use crate::capture::kernel::Fault;

const FIRST: Duration = Duration::from_millis(500);
const LONGEST: Duration = Duration::from_secs(30);

/// Pods that failed, and what else is to be tried again.
#[derive(Debug, Default)]
pub(in crate::capture) struct Backoff {
    pods: BTreeMap<PodUid, Failure>,
    /// Passes in a row that left something unsettled.
    unsettled: u32,
    again: Option<Instant>,
}

#[derive(Debug)]
struct Failure {
    fault: Fault,
    attempts: u32,
    until: Instant,
}

/// The pause after so many attempts.
fn pause(attempts: u32) -> Duration {
    FIRST.saturating_mul(1 << attempts.min(6)).min(LONGEST)
}

impl Backoff {
    /// Pods that are not to be tried yet.
    pub(super) fn resting(&self) -> BTreeMap<PodUid, Fault> {
        let now = Instant::now();
        self.pods
            .iter()
            .filter(|(_, failure)| failure.until > now)
            .map(|(uid, failure)| (uid.clone(), failure.fault.clone()))
            .collect()
    }

    /// Notes how a pass ended for the pods that were tried in it.
    pub(super) fn after(&mut self, pods: &BTreeMap<PodUid, Result<(), Fault>>) {
        for (uid, result) in pods {
            let Err(fault) = result else {
                self.pods.remove(uid);
                continue;
            };
            let attempts = self.pods.get(uid).map_or(0, |failure| failure.attempts + 1);
            let failure = Failure {
                fault: fault.clone(),
                attempts,
                until: Instant::now() + pause(attempts),
            };
            self.pods.insert(uid.clone(), failure);
        }
    }

    pub(in crate::capture) fn forget(&mut self, uid: &PodUid) {
        self.pods.remove(uid);
    }

    /// Drops pods that are no longer wanted.
    pub(in crate::capture) fn keep(&mut self, wanted: impl Fn(&PodUid) -> bool) {
        self.pods.retain(|uid, _| wanted(uid));
    }

    /// Whether the pass left something that may come right by itself.
    pub(in crate::capture) fn settle(&mut self, unsettled: bool) {
        if !unsettled {
            self.unsettled = 0;
            self.again = None;
            return;
        }
        self.again = Some(Instant::now() + pause(self.unsettled));
        self.unsettled = self.unsettled.saturating_add(1);
    }

    /// When the next pass is due for what failed.
    pub(in crate::capture) fn due(&self) -> Option<Instant> {
        let pods = self.pods.values().map(|failure| failure.until);
        pods.chain(self.again).min()
    }

    pub(in crate::capture) fn is_failing(&self) -> bool {
        !self.pods.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_pod_rests_and_others_do_not() {
        let (bad, good) = (PodUid::new("bad").unwrap(), PodUid::new("good").unwrap());
        let mut backoff = Backoff::default();
        backoff.after(&BTreeMap::from([
            (bad.clone(), Err(Fault::lasting("no"))),
            (good, Ok(())),
        ]));
        assert_eq!(
            backoff.resting(),
            BTreeMap::from([(bad.clone(), Fault::lasting("no"))])
        );
        assert!(backoff.due().is_some());
        backoff.after(&BTreeMap::from([(bad, Ok(()))]));
        assert_eq!(backoff.due(), None);
    }

    #[test]
    fn pauses_grow_to_a_limit() {
        let pauses: Vec<u64> = (0..9).map(|n| pause(n).as_millis() as u64).collect();
        assert_eq!(
            pauses,
            [500, 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000]
        );
    }
}
