//! The fleet as operators see it: copies, made at one moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::SystemTime,
};

use sluice_proto::capture::v1::{NodeCondition, PodState, PodStatus, Rejection};

use super::{Fleet, State};
use crate::{
    model::{Intent, Name},
    select::REDIRECTION,
    writeback::{ANNOTATION_ENABLED, Condition},
};

/// A node.
#[derive(Clone, Debug, Default)]
pub struct NodeView {
    pub name: String,
    pub pods: usize,
    pub enrolled: usize,
    pub captured: usize,
    /// Absent while this replica does not hold its stream.
    pub stream: Option<StreamView>,
    pub written: Option<Written>,
}

/// What is written on a node.
#[derive(Clone, Debug)]
pub struct Written {
    pub condition: Condition,
    /// Of which stream.
    pub claim: Option<String>,
}

/// The node's stream.
#[derive(Clone, Debug)]
pub struct StreamView {
    pub agent_version: String,
    pub connected_at: SystemTime,
    pub sent: u64,
    pub stored: u64,
    pub last_rejection: Option<Rejection>,
    pub condition: Option<NodeCondition>,
}

/// A pod.
#[derive(Clone, Debug)]
pub struct PodView {
    /// What its node is told of it.
    pub intent: Arc<Intent>,
    pub status: Option<PodStatus>,
    /// The annotation, as it is on the object.
    pub written: Option<Arc<str>>,
}

impl Fleet {
    /// Every node that has pods, a stream or a condition, by name.
    pub fn nodes(&self) -> Vec<NodeView> {
        let state = self.state();
        let names = state.index.nodes().chain(state.streams.keys());
        let mut names: BTreeSet<Name> = names.cloned().collect();
        names.extend(self.board.iter().flat_map(|board| board.with_condition()));
        let names = names.into_iter();
        names.map(|name| self.view_node(&state, &name)).collect()
    }

    /// One node, if it has pods, a stream or a condition.
    pub fn node(&self, name: &str) -> Option<NodeView> {
        let state = self.state();
        let view = self.view_node(&state, name);
        (view.pods > 0 || view.stream.is_some() || view.written.is_some()).then_some(view)
    }

    /// The first `limit` pods that `choose` wants, by namespace and name, that
    /// come after one of that namespace and name; and whether there are more.
    pub fn pods(
        &self,
        after: Option<(&str, &str)>,
        limit: usize,
        choose: impl Fn(&Intent) -> bool,
    ) -> (Vec<PodView>, bool) {
        let state = self.state();
        let mut first = BTreeMap::new();
        for intent in state.index.pods() {
            let place = (&*intent.pod.namespace, &*intent.pod.name);
            if after.is_some_and(|after| place <= after) || !choose(intent) {
                continue;
            }
            first.insert(place, intent);
            // One more than asked for says that there are more.
            if first.len() > limit + 1 {
                first.pop_last();
            }
        }
        let more = first.len() > limit;
        let pods = first.into_values().take(limit);
        (pods.map(|intent| state.view_pod(intent)).collect(), more)
    }

    fn view_node(&self, state: &State, name: &str) -> NodeView {
        let mut view = state.view_node(name);
        let seen = self.board.as_ref().and_then(|board| board.node(name));
        view.written = seen.and_then(|seen| {
            let condition = seen.condition.clone()?;
            let claim = seen.claim.clone();
            Some(Written { condition, claim })
        });
        view
    }

    /// One pod, by uid.
    pub fn pod(&self, uid: &str) -> Option<PodView> {
        let state = self.state();
        state.index.pod(uid).map(|intent| state.view_pod(intent))
    }

    /// One pod, by name.
    pub fn pod_named(&self, namespace: &str, name: &str) -> Option<PodView> {
        let state = self.state();
        let intent = state.index.named(namespace, name)?;
        Some(state.view_pod(intent))
    }
}

impl State {
    fn view_pod(&self, intent: &Arc<Intent>) -> PodView {
        let said = self.said(intent);
        let node = intent.pod.node.as_ref();
        let stream = node.and_then(|node| self.streams.get(node));
        let hash = said.hash.to_string();
        let status = stream.and_then(|s| s.reports().of(&intent.pod.uid, &hash).cloned());
        PodView {
            intent: said,
            status,
            written: intent.pod.annotations.get(REDIRECTION).cloned(),
        }
    }

    fn view_node(&self, name: &str) -> NodeView {
        let mut view = NodeView {
            name: name.to_owned(),
            ..NodeView::default()
        };
        for intent in self.index.node(name).pods.values() {
            let pod = self.view_pod(intent);
            view.pods += 1;
            view.enrolled += usize::from(pod.intent.wanted.is_enrolled());
            let captured = if self.streams.contains_key(name) {
                pod.status.is_some_and(|s| s.state() == PodState::Captured)
            } else {
                // What was true when somebody last knew.
                let written = intent.pod.annotations.get(REDIRECTION);
                written.is_some_and(|value| **value == *ANNOTATION_ENABLED)
            };
            view.captured += usize::from(captured);
        }
        view.stream = self.streams.get(name).map(|stream| {
            let reports = stream.reports();
            StreamView {
                agent_version: stream.agent_version.clone(),
                connected_at: stream.connected_at,
                sent: reports.sent,
                stored: reports.stored,
                last_rejection: reports.last_rejection.clone(),
                condition: reports.condition.clone(),
            }
        });
        view
    }
}
