//! The fleet as operators see it: copies, made at one moment.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::SystemTime,
};

use sluice_proto::capture::v1::{NodeCondition, PodState, PodStatus, Rejection};

use super::{Fleet, State};
use crate::model::{Intent, Name};

/// A node.
#[derive(Clone, Debug, Default)]
pub struct NodeView {
    pub name: String,
    pub pods: usize,
    pub enrolled: usize,
    pub captured: usize,
    /// Absent while this replica does not hold its stream.
    pub stream: Option<StreamView>,
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
}

impl Fleet {
    /// Every node that has pods or a stream, by name.
    pub fn nodes(&self) -> Vec<NodeView> {
        let state = self.state();
        let names: BTreeSet<&Name> = state.index.nodes().chain(state.streams.keys()).collect();
        names
            .into_iter()
            .map(|name| state.view_node(name))
            .collect()
    }

    /// One node, if it has pods or a stream.
    pub fn node(&self, name: &str) -> Option<NodeView> {
        let state = self.state();
        let view = state.view_node(name);
        (view.pods > 0 || view.stream.is_some()).then_some(view)
    }

    /// The pods that `choose` wants, by namespace and name.
    pub fn pods(&self, choose: impl Fn(&Intent) -> bool) -> Vec<PodView> {
        let state = self.state();
        let chosen = state.index.pods().filter(|intent| choose(intent));
        let by_name: BTreeMap<_, _> = chosen
            .map(|intent| ((&intent.pod.namespace, &intent.pod.name), intent))
            .collect();
        by_name.into_values().map(|i| state.view_pod(i)).collect()
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
            let captured = pod.status.is_some_and(|s| s.state() == PodState::Captured);
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
