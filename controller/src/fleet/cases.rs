//! What the writer needs to know of the fleet, and what it tells it.

use std::{sync::Arc, time::Instant};

use sluice_proto::capture::v1::StatusReport;
use tonic::Status;
use tracing::info;

use super::{Changes, Fleet, State, Stream, Uninstall, Update};
use crate::{
    model::{Name, Uid},
    select::REDIRECTION,
    serve::Owner,
    writeback::{Key, NodeCase, PodCase, Reported},
};

impl Fleet {
    /// Takes in what an agent reports.
    pub fn report(&self, node: &Name, stream: &Stream, report: StatusReport) -> Result<(), Status> {
        let state = self.state();
        let news = stream.reports().status(report, |uid| {
            let pod_node = state.index.pod(uid).map(|intent| intent.pod.node.as_ref());
            Owner::of(pod_node, node)
        })?;
        let Some(board) = &self.board else {
            return Ok(());
        };
        if news.node {
            // Left out of a full report is an answer, too.
            self.mark_node(&state, node);
        }
        board.mark(news.pods.into_iter().map(|uid| Key::Pod(uid.into())));
        Ok(())
    }

    /// One pod, if its node's stream is here.
    pub fn pod_case(&self, uid: &str) -> Option<PodCase> {
        let state = self.state();
        let intent = state.index.pod(uid)?;
        let node = intent.pod.node.as_ref()?;
        let stream = state.streams.get(node)?;
        let said = stream.said(uid).unwrap_or_else(|| Arc::clone(intent));
        let reports = stream.reports();
        let hash = said.hash.to_string();
        let reported = match reports.last(uid) {
            Some(status) => Reported::Status {
                state: status.state(),
                steered: status.steered,
                current: status.intent_hash == hash,
                reason: status.reason(),
                message: status.message.clone(),
            },
            None if reports.complete => Reported::Absent,
            None => Reported::Unknown,
        };
        // Of the newest object: annotations are nothing that agents are told.
        let annotation = intent.pod.annotations.get(REDIRECTION);
        Some(PodCase {
            node: Arc::clone(node),
            token: stream.token.clone(),
            wanted: said.wanted,
            written: annotation.map(ToString::to_string),
            followed: state.reached.pods.max(intent.pod.version.get()),
            pod: Arc::clone(&intent.pod),
            reported,
            uninstall: state.uninstall,
        })
    }

    /// One node, whether its stream is here or not.
    pub fn node_case(&self, name: &str) -> NodeCase {
        let state = self.state();
        let stream = state.streams.get(name);
        NodeCase {
            token: stream.map(|stream| stream.token.clone()),
            reported: stream.and_then(|stream| stream.reports().condition.clone()),
            uninstall: state.uninstall,
        }
    }

    /// Nothing written calls the pod captured: its time to leave may begin.
    pub fn unwritten(&self, uid: &str) {
        let state = self.state();
        let node = state.index.pod(uid).and_then(|i| i.pod.node.as_ref());
        if let Some(stream) = node.and_then(|node| state.streams.get(node)) {
            stream.unwritten(uid);
        }
    }

    /// Another replica has the node's stream: this one's is a remnant.
    pub fn overtaken(&self, node: &str, token: &str) {
        let state = self.state();
        let stream = state.streams.get(node);
        if let Some(stream) = stream.filter(|stream| stream.token == token) {
            info!(
                node,
                "another replica serves the node; its stream here ends"
            );
            stream.replace();
        }
    }

    /// Asks every node to leave the mesh, or not any more.
    pub fn set_uninstall(&self, uninstall: Uninstall) {
        let now = Instant::now();
        let position = {
            let mut state = self.state();
            if state.uninstall == uninstall {
                return;
            }
            info!(?uninstall, "what is asked of the nodes");
            state.uninstall = uninstall;
            let leaves = uninstall.leaves();
            let changes = state.index.leave(leaves);
            for stream in state.streams.values() {
                stream.set_leave(leaves);
            }
            self.spread(&state, changes, now);
            state.record();
            for node in state.streams.keys() {
                self.mark_node(&state, node);
            }
            self.position.borrow().clone()
        };
        // Agents may be waiting to be answered.
        self.position.send_replace(position);
    }

    /// Has the node's pods looked at.
    pub fn mark_pods_of(&self, node: &Name) {
        let state = self.state();
        self.mark_node(&state, node);
    }

    pub(super) fn spread(&self, state: &State, changes: Changes, since: Instant) {
        let revision = state.index.revision();
        for (node, change) in changes {
            let Some(stream) = state.streams.get(&node) else {
                continue;
            };
            if let Some(board) = &self.board {
                board.mark(change.pods.keys().cloned().map(Key::Pod));
            }
            stream.change(change, revision.clone(), since);
        }
    }

    // The pods that a batch speaks of: what is written on them may be news.
    pub(super) fn touched(&self, updates: &[Update]) -> Vec<Uid> {
        if self.board.is_none() {
            return Vec::new();
        }
        let touched = updates.iter().filter_map(|update| match update {
            Update::Pod(pod) => Some(&pod.uid),
            Update::PodGone(uid) => Some(uid),
            Update::Namespace(_) | Update::NamespaceGone(_) => None,
        });
        touched.cloned().collect()
    }

    pub(super) fn mark_touched(&self, state: &State, touched: Vec<Uid>) {
        let Some(board) = &self.board else { return };
        let ours = touched.into_iter().filter(|uid| {
            let Some(intent) = state.index.pod(uid) else {
                return board.remembers(uid);
            };
            let node = intent.pod.node.as_ref();
            node.is_some_and(|node| state.streams.contains_key(node))
        });
        board.mark(ours.map(Key::Pod));
    }

    pub(super) fn mark_node(&self, state: &State, node: &Name) {
        let Some(board) = &self.board else { return };
        let pods = state.index.node(node).pods.into_keys().map(Key::Pod);
        board.mark(pods.chain([Key::Node(Arc::clone(node))]));
    }
}
