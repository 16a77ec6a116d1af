//! From a key to the next request about it.

use std::{sync::Arc, time::Duration};

use tokio::time::Instant;

use super::{Job, NodeCase, Step, Writer};
use crate::{
    model::{Name, Uid},
    writeback::{
        api::{Api, NodeWrite},
        decide::{self, NodeDecision, NodeMemory, PodCase, PodWrite},
        events, kube_api,
        names::ANNOTATION_ENABLED,
        seen::{SeenNode, Ternary},
    },
};

/// A watch may be behind: so long a claim counts without being looked at.
const FRESH: Duration = Duration::from_secs(5);

impl<A: Api> Writer<A> {
    pub(super) fn pod_step(&mut self, uid: &Uid, now: Instant) -> Step {
        let Some(case) = self.fleet.pod_case(uid) else {
            self.pods.remove(uid);
            self.board.remember(uid, false);
            return Step::Nothing;
        };
        // Nothing before the claim, which brings us back here.
        let node = self.board.node(&case.node);
        if !decide::may_write_pods(&case.token, node.as_deref()) {
            return Step::Nothing;
        }
        if !self.pods.contains_key(uid) {
            self.board.remember(uid, true);
        }
        self.tell_of(uid, &case);
        let job = match self.annotation_job(uid, &case, now) {
            Ok(Some(job)) => Box::new(self.verified(&case.node, job, now)),
            Ok(None) => return Step::Nothing,
            Err(wait) => return Step::Later(wait),
        };
        Step::Do {
            job,
            node: case.node,
            token: Some(case.token),
        }
    }

    // Another replica may have claimed the node, and our watch not know it yet.
    fn verified(&self, node: &Name, job: Job, now: Instant) -> Job {
        let memory = self.nodes.get(node);
        let verified = memory.and_then(|memory| memory.verified);
        if verified.is_some_and(|at| now.saturating_duration_since(at) < FRESH) {
            return job;
        }
        let node = Arc::clone(node);
        Job::Look { pod: None, node }
    }

    fn tell_of(&mut self, uid: &Uid, case: &PodCase) {
        let event = events::of_pod(case);
        let name = event.as_ref().map(events::Event::name);
        let memory = self.pods.entry(Arc::clone(uid)).or_default();
        if memory.told == name {
            return;
        }
        memory.told = name;
        if let Some(event) = event {
            self.tell(event);
        }
    }

    fn annotation_job(
        &mut self,
        uid: &Uid,
        case: &PodCase,
        now: Instant,
    ) -> Result<Option<Job>, Duration> {
        let memory = self.pods.entry(Arc::clone(uid)).or_default();
        memory.seen.take_if(|seen| seen.revision <= case.followed);
        let (written, revision) = match &memory.seen {
            Some(seen) => (seen.annotation.as_deref(), seen.revision),
            None => (case.written.as_deref(), case.pod.version.get()),
        };
        let enabled = written == Some(ANNOTATION_ENABLED);
        memory.foreign &= enabled;
        let write = decide::pod_write(case.wanted, &case.reported, written, case.uninstall);
        if write == PodWrite::Leave || (write == PodWrite::RemoveOwn && memory.foreign) {
            if !enabled || memory.foreign {
                self.fleet.unwritten(uid);
            }
            return Ok(None);
        }
        let revision = Some(revision).filter(|revision| *revision > 0);
        let pod = case.pod_ref();
        let unsure = memory.look || (write == PodWrite::Set { force: true } && revision.is_none());
        if unsure {
            let (pod, node) = (Some(pod), Arc::clone(&case.node));
            return Ok(Some(Job::Look { pod, node }));
        }
        Ok(Some(match write {
            PodWrite::Set { force } => match memory.spacing.wait(now) {
                Some(wait) => return Err(wait),
                None => Job::Annotate {
                    pod,
                    revision,
                    force,
                },
            },
            PodWrite::Remove => Job::Remove { pod, revision },
            PodWrite::RemoveOwn | PodWrite::Leave => Job::RemoveOwn { pod, revision },
        }))
    }

    pub(super) fn node_step(&mut self, name: &Name, now: Instant) -> Step {
        let case = self.fleet.node_case(name);
        let seen = self.board.node(name);
        if seen.is_none() && case.token.is_none() {
            self.nodes.remove(name);
            return Step::Nothing;
        }
        let lost_for = self.lost_for(name, &case, seen.as_deref(), now);
        let memory = self.nodes.entry(Arc::clone(name)).or_default();
        let claimed = memory.claimed.as_ref();
        let known = NodeMemory {
            claimed: claimed.map(|(token, revision)| (token.as_str(), *revision)),
            lost_for,
        };
        let decision = decide::node_decision(&case, known, seen.as_deref(), &kube_api::now());
        if !matches!(decision, NodeDecision::Leave | NodeDecision::Wait(_)) && memory.look {
            let job = Job::Look {
                pod: None,
                node: Arc::clone(name),
            };
            return self.for_node(name, &case, job);
        }
        match decision {
            NodeDecision::Leave => self.rest(&case, seen.as_deref()),
            NodeDecision::Wait(wait) => Step::Later(wait),
            NodeDecision::Overtaken => {
                self.fleet
                    .overtaken(name, case.token.as_deref().unwrap_or_default());
                Step::Nothing
            }
            NodeDecision::Untaint => {
                let node = Arc::clone(name);
                self.for_node(name, &case, Job::Untaint { node })
            }
            NodeDecision::Write {
                condition,
                claim,
                guarded,
            } => {
                // The claim does not wait: nothing else can be written before.
                if guarded && let Some(wait) = memory.spacing.wait(now) {
                    return Step::Later(wait);
                }
                let revision = seen.as_ref().map(|seen| seen.revision);
                let job = Job::Condition {
                    node: Arc::clone(name),
                    write: NodeWrite {
                        claim,
                        condition,
                        revision: revision.filter(|_| guarded),
                    },
                    before: seen.and_then(|seen| seen.condition.clone()),
                };
                self.for_node(name, &case, job)
            }
        }
    }

    fn for_node(&self, name: &Name, case: &NodeCase, job: Job) -> Step {
        Step::Do {
            job: Box::new(job),
            node: Arc::clone(name),
            token: case.token.clone(),
        }
    }

    // A claim whose holder runs is looked at again: nobody tells us when it
    // does not any more.
    fn rest(&self, case: &NodeCase, seen: Option<&SeenNode>) -> Step {
        let known = |seen: &SeenNode| {
            let condition = seen.condition.as_ref();
            condition.is_some_and(|condition| condition.status != Ternary::Unknown)
        };
        if case.token.is_none() && seen.is_some_and(known) {
            return Step::Later(decide::LOST_AFTER / 2);
        }
        Step::Nothing
    }

    // How long nobody has had the node's stream. Whose claim is ours lost it
    // here; that of a replica that is gone went with it.
    fn lost_for(
        &mut self,
        name: &Name,
        case: &NodeCase,
        seen: Option<&SeenNode>,
        now: Instant,
    ) -> Option<Duration> {
        let claim = seen.and_then(|seen| seen.claim.clone());
        let holder = claim.as_deref().and_then(|claim| claim.rsplit_once('/'));
        let held = case.token.is_some()
            || holder.is_some_and(|(instance, _)| {
                instance != self.board.instance() && self.replicas.may_run(instance, now)
            });
        let memory = self.nodes.entry(Arc::clone(name)).or_default();
        if held {
            memory.lost = None;
            return None;
        }
        let noticed = match memory.lost.take() {
            Some((before, noticed)) if before == claim => noticed,
            _ => now,
        };
        memory.lost = Some((claim, noticed));
        Some(now.saturating_duration_since(noticed))
    }
}
