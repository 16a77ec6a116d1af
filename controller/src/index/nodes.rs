//! Nodes: their pods, and which namespaces those are of.

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use crate::model::{Name, Pod, Uid};

#[derive(Debug, Default)]
pub(super) struct Nodes {
    nodes: HashMap<Name, Node>,
    /// Namespaces touched since last asked; with the nodes whose part in them
    /// was touched, and whether they had one before.
    touched: HashMap<Name, HashMap<Name, bool>>,
}

#[derive(Debug, Default)]
struct Node {
    pods: HashSet<Uid>,
    /// How many of its pods are of each namespace.
    namespaces: HashMap<Name, usize>,
}

impl Nodes {
    pub(super) fn names(&self) -> impl Iterator<Item = &Name> {
        self.nodes.keys()
    }

    pub(super) fn pods(&self, node: &str) -> impl Iterator<Item = &Uid> {
        self.nodes.get(node).into_iter().flat_map(|n| &n.pods)
    }

    pub(super) fn namespaces(&self, node: &str) -> impl Iterator<Item = &Name> {
        let node = self.nodes.get(node).into_iter();
        node.flat_map(|node| node.namespaces.keys())
    }

    pub(super) fn has(&self, node: &str, namespace: &str) -> bool {
        let node = self.nodes.get(node);
        node.is_some_and(|node| node.namespaces.contains_key(namespace))
    }

    /// Notes that something about the namespace changed.
    pub(super) fn touch(&mut self, namespace: &Name) {
        self.touched.entry(Arc::clone(namespace)).or_default();
    }

    /// What was touched, once.
    pub(super) fn take_touched(&mut self) -> HashMap<Name, HashMap<Name, bool>> {
        std::mem::take(&mut self.touched)
    }

    pub(super) fn add_pod(&mut self, pod: &Pod) {
        self.touch_seat(pod);
        let Some(name) = &pod.node else { return };
        let node = self.nodes.entry(Arc::clone(name)).or_default();
        node.pods.insert(Arc::clone(&pod.uid));
        *node
            .namespaces
            .entry(Arc::clone(&pod.namespace))
            .or_default() += 1;
    }

    pub(super) fn remove_pod(&mut self, pod: &Pod) {
        self.touch_seat(pod);
        let Some(name) = &pod.node else { return };
        let Some(node) = self.nodes.get_mut(name) else {
            return;
        };
        node.pods.remove(&pod.uid);
        if let Some(count) = node.namespaces.get_mut(&pod.namespace) {
            *count -= 1;
            if *count == 0 {
                node.namespaces.remove(&pod.namespace);
            }
        }
        if node.pods.is_empty() {
            self.nodes.remove(name);
        }
    }

    fn touch_seat(&mut self, pod: &Pod) {
        let had = |node: &Name| self.has(node, &pod.namespace);
        let seat = pod.node.as_ref().map(|node| (Arc::clone(node), had(node)));
        let seats = self.touched.entry(Arc::clone(&pod.namespace)).or_default();
        if let Some((node, had)) = seat {
            seats.entry(node).or_insert(had);
        }
    }
}
